"""Comparison of a compiled net with its model."""
