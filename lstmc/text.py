"""Text for people: printable text, numbers of bounded length, and suggestions for unknown names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any, Literal, TypeVar
from unicodedata import normalize

T = TypeVar("T")

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")


def whole(text: str) -> int | None:
    """Return an integer; None for any other text, and for more than 19 digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """Return a finite number in decimals, with or without an exponent; None for any other text."""
    value = float(text) if _NUMBER.fullmatch(text) else inf
    return value if isfinite(value) else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``: did you mean gru?`` with the closest name, ignoring case; empty if none is close, or one is equal."""
    by_lower = {one.lower(): one for one in names}
    if name in by_lower.values():
        return ""
    near = get_close_matches(name.lower(), by_lower, 1, 0.65)
    return f": did you mean {by_lower[near[0]]}?" if near else ""


def nearest_or_all(name: str, valid: Iterable[str], label: str = "found") -> str:
    """Return the end of an error: the closest valid name, or all of them after the word ``label``."""
    names = list(valid)
    return did_you_mean(name, names) or f": {label} {', '.join(names) or 'none'}"


_ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
LONGEST = 2000  # characters of a line that are shown


def plain(text: str) -> str:
    """Return ``text`` with escapes for unprintable characters; line ends and tabs stay, long lines are cut."""
    return "\n".join(_cut(_escaped(line)) for line in text.split("\n"))


def escaped(text: str) -> str:
    """Return ``text`` with escapes for unprintable characters; line ends and tabs stay."""
    return "\n".join(_escaped(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """Return ``text`` in one line, with escapes for line ends, backslashes and unprintable characters."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def from_one_line(line: str) -> str:
    """Return the inverse of :func:`one_line`."""
    return _ESCAPE.sub(lambda match: match[0].encode().decode("unicode_escape"), line)


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line)} characters)"


Language = Literal["comment", "python", "c", "prototxt", "dot"]


def quoted(text: str, language: Language) -> str:
    """Return a text quoted for a language: a string literal, or the content of a comment or docstring (``comment``).
    ``c`` is also C++ and CUDA. Jinja and ``html.escape`` quote for HTML, and JSON in a page for JavaScript."""
    if language == "comment":  # without characters that end or continue a comment
        words = re.sub(r"[^ -~]|\\", "?", text).replace('"', "'")
        return re.sub(r"\?(?=\?)|\*(?=/)|/(?=\*)", r"\g<0> ", words)
    if language == "dot":
        return '"' + plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if language in ("c", "prototxt"):  # the bytes of UTF-8
        text = text.encode("utf-8", "replace").decode("latin-1")
    return '"' + "".join(map(_literal, text)).replace("??", "?\\077") + '"'  # ?? begins a trigraph in C


def _literal(char: str) -> str:
    """Return a character or a byte for literals of Python, C and prototxt: all accept three octal digits."""
    code = ord(char)
    if " " <= char <= "~" and char not in '"\\':
        return char
    return f"\\{code:03o}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def brief(thing: object) -> str:
    """Return the text of a foreign value or error for a message: at most 200 characters, in one line."""
    return " ".join(str(thing).split())[:200]


def late(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''} late"


def unused(base: str, is_used: Callable[[str], object]) -> str:
    """Return a name that is not used: ``base``, ``base_2``, ``base_3``, ..."""
    return Names(forbidden=is_used).unique(base)


class Names:
    """Allocates unique names: ``x``, ``x_2``, ``x_3``, ... A requested name gets the spelling of ``spelled``, and a
    number if it is ``taken`` or ``forbidden`` returns a true value for it."""

    def __init__(
        self,
        taken: Iterable[str] = (),
        spelled: Callable[[str], str] = str,
        forbidden: Callable[[str], object] = lambda name: None,
    ) -> None:
        self.taken, self.spelled, self.forbidden = {*taken}, spelled, forbidden
        self._last = dict[str, int]()  # the last number of each name: the search continues from there

    def unique(self, name: str) -> str:
        base = fresh = self.spelled(name)
        number = self._last.get(base, 1)
        while fresh in self.taken or self.forbidden(fresh):
            number += 1
            fresh = f"{base}_{number}"
        self._last[base] = number
        self.taken.add(fresh)
        return fresh


def identifier(name: str) -> str:
    """Return the Python identifier of an argument written as ``name``: the micro sign and the letter mu are one."""
    return normalize("NFKC", name)


class ByIdentifier(dict[Any, T]):
    """A dict whose keys are arguments of a function; lookups accept other Unicode spellings of a name."""

    def __missing__(self, key: Any) -> T:
        if isinstance(key, str) and identifier(key) != key:
            return self[identifier(key)]
        raise KeyError(key)


def by_identifier(values: Mapping[Any, T]) -> ByIdentifier[T]:
    return ByIdentifier({identifier(name) if isinstance(name, str) else name: value for name, value in values.items()})
