"""Comparison of a compiled net with its model."""

from lstmc.verification.differential import InterpreterExecutor

__all__ = ["InterpreterExecutor"]
