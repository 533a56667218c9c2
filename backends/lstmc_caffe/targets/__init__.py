"""Targets as data, and the linter of nets against them."""
