"""Text that came from files and names, for people to read: nothing in it steers a terminal, and it has an end."""

from __future__ import annotations

LONGEST = 2000  # characters of a line that are shown


def plain(text: str) -> str:
    """``text`` with what is not printable as its escape (``\\x1b``); line ends and tabs stay, long lines are cut."""
    return "\n".join(_cut(_escaped(line)) for line in text.split("\n"))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line)} characters)"
