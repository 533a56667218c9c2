"""Checks for authors of ops, passes and cells, with NumPy alone: each raises AssertionError, in any test runner."""

from lstmc.testing.equivalence import assert_same_meaning, check_cell, check_pass
from lstmc.testing.ops import check_op

__all__ = ["assert_same_meaning", "check_cell", "check_op", "check_pass"]
