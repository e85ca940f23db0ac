"""Tests that need a Docker engine: one process takes them all, one after the other."""
