"""Tests of the QAD dialect, of signing in and of the client."""
