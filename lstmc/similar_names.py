"""A name that is none of those that there are: the nearest of them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``: did you mean gru?`` where one of the known names is near, whatever the case of its letters; else nothing."""
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_lower, 1, 0.65)
    return f": did you mean {by_lower[near[0]]}?" if near and name not in by_lower.values() else ""


def nearest_or_all(name: str, known: Iterable[str], told: str = "found") -> str:
    """What an error ends with: the known name that is near, or else all of them, after the word ``told``."""
    names = list(known)
    return did_you_mean(name, names) or f": {told} {', '.join(names) or 'none'}"
