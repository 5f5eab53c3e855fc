"""Tests of the Connect page, and of the same at a terminal."""
