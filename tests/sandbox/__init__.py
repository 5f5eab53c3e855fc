"""Tests of the sandbox itself, over a real socket."""
