"""Signatures and docstrings as the generated pages show them."""

from __future__ import annotations

import inspect
import re
from itertools import accumulate


def text_of(thing: object) -> str:
    """A docstring as Markdown: roles of Sphinx are the names that they lead to."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", inspect.getdoc(thing) or "")


def signature_of(name: str, thing: object, width: int = 100) -> str:
    """How a function or class is called, with its types; a default that is no more than a mark is three dots.

    Longer than ``width`` characters, it has a line for each parameter.
    """
    written = str(inspect.signature(thing))  # type: ignore[arg-type]
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", written)
    whole = name + re.sub(r"<object object at \w+>", "...", plain.removesuffix(" -> None"))
    if len(whole) <= width:
        return whole
    head, rest = whole.split("(", 1)
    inside, tail = rest.rsplit(")", 1)
    depths = accumulate((char in "[(") - (char in ")]") for char in inside)
    apart = "".join("\n" if (char, depth) == (",", 0) else char for char, depth in zip(inside, depths, strict=True))
    return head + "(\n" + "".join(f"    {line.strip()},\n" for line in apart.splitlines()) + ")" + tail
