"""Targets as data, and nets held against them."""
