"""Tests, beside the layers they test."""
