"""Text that came from files and names, for people to read: nothing in it steers a terminal, and it has an end."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
LONGEST = 2000  # characters of a line that are shown


def plain(text: str) -> str:
    """``text`` with what is not printable as its escape (``\\x1b``); line ends and tabs stay, long lines are cut."""
    return "\n".join(_cut(_escaped(line)) for line in text.split("\n"))


def escaped(text: str) -> str:
    """``text`` with what is not printable as its escape; line ends and tabs stay."""
    return "\n".join(_escaped(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """``text`` with line ends, and whatever else is not printable, as its escape. A backslash is two then, so that
    :func:`from_one_line` finds the text again."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def from_one_line(line: str) -> str:
    """The inverse of :func:`one_line`."""
    return _ESCAPE.sub(lambda match: match[0].encode().decode("unicode_escape"), line)


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line)} characters)"
