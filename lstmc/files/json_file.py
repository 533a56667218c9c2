"""JSON from files that may be damaged or of another program: types declare its structure, and the whole content is
checked before any of it is used. Types are Python's and dataclasses of them, with the limits below; Pydantic checks."""

from __future__ import annotations

import json
from functools import cache
from math import prod
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from lstmc.files.reading import regular
from lstmc.types import MOST_ELEMENTS

T = TypeVar("T")
SHOWN = 40  # characters of a wrong value that an error shows
MOST_AXES = 32
MOST_BYTES = 64 << 20  # of a file: the largest manifests have less than one MiB


def _array_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes of an array's axes. Raise ValueError for more axes than NumPy 1 allows, or too many elements."""
    if len(sizes) > MOST_AXES or prod(sizes) > MOST_ELEMENTS:
        raise ValueError("sizes of an array's axes")
    return sizes


Count = Annotated[int, Field(ge=0)]
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Shape = Annotated[tuple[Count, ...], AfterValidator(_array_sizes)]


class NotExpected(Exception):
    """The end of a message that begins with the file: ``inputs.x.shape: expected a valid array, found 3``."""

    @classmethod
    def at(cls, place: tuple[str | int, ...], expected: str, actual: Any) -> NotExpected:
        """Return the error at ``place``, the path of keys and positions to the actual value."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{_excerpt(step)}" for step in place)
        where = "".join(steps).lstrip(".")
        return cls(f"{where}{': ' if where else ''}expected {expected}, found {_excerpt(json.dumps(actual))}")


def read_json(path: Path, kind: type[T]) -> T:
    """Return a JSON file's content as a ``kind``. Raises NotExpected for other content, OSError if it is unreadable."""
    return parse_json(read_bounded(path), kind)


def read_bounded(path: Path) -> bytes:
    """Return the content of a file of at most ``MOST_BYTES``. Raises NotExpected for a larger one, and OSError."""
    with regular(path).open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise NotExpected(f"expected at most {MOST_BYTES >> 20} MiB, found more")
    return content


def parse_json(content: bytes, kind: type[T]) -> T:
    """Return the value of a JSON text as a ``kind``: a type of Python, or a dataclass. Keys that a dataclass does not
    have are ignored, and nothing is converted. A check that the kind defines raises ValueError with its expectation.
    Raises NotExpected for any other content, also for half of a surrogate pair and for too deep nesting."""
    try:
        value: T = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]  # a type has a hash
    except ValidationError as error:
        wrong, *_ = error.errors(include_url=False)
    else:
        return value
    place, actual, facts = wrong["loc"], wrong["input"], wrong.get("ctx", {})
    match wrong["type"]:
        case "json_invalid":
            raise NotExpected(f"expected JSON, found something else: {facts['error']}")
        case "missing":
            raise NotExpected.at(place[:-1], f"an object with a value for {place[-1]}", actual)
        case "unexpected_keyword_argument":
            raise NotExpected.at(place, "no such key", actual)
        case "value_error":
            raise NotExpected.at(place, str(facts["error"]), actual)
    raise NotExpected.at(place, wrong["msg"].removeprefix("Input should be "), actual)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _excerpt(text: str) -> str:
    """Return a text as an error can print it: shortened, and with other than plain characters escaped."""
    plain = text if text.isprintable() else json.dumps(text)
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]} ..."
