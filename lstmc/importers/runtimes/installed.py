"""Checks for installed packages without importing them."""

from __future__ import annotations

from importlib.util import find_spec


def not_installed(*modules: str) -> str | None:
    """Return a message about missing modules, or None."""
    missing = [module for module in modules if find_spec(module) is None]
    return f"{', '.join(missing)} cannot be imported" if missing else None
