"""Signatures and docstrings as the generated pages show them."""

from __future__ import annotations

import inspect
import re


def text_of(thing: object) -> str:
    """A docstring as Markdown: roles of Sphinx are the names that they lead to."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", inspect.getdoc(thing) or "")


def signature_of(name: str, thing: object) -> str:
    """How a function or class is called, with its types; a default that is no more than a mark is three dots."""
    written = str(inspect.signature(thing))  # type: ignore[arg-type]
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", written)
    return name + re.sub(r"<object object at \w+>", "...", plain.removesuffix(" -> None"))
