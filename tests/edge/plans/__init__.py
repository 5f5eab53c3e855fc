"""Tests of the page of plans, and of the same at a terminal."""
