"""Hostile pickles: nothing of theirs runs, memory stays bounded, and what no saved model needs is refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from lstmc.importers.read.torch_file import Built, Named, PickleProblem, load

SYSTEM = b"cos\nsystem\n"


def loaded(pickle: bytes) -> Any:
    return load(BytesIO(pickle), lambda what, arguments: None)


@pytest.mark.parametrize(
    ("pickle", "problem"),
    [
        (SYSTEM + b'(S"id"\ntR)R.', "expected a Named, found a Built"),
        (b'S"os"\n)R.', "expected a Named, found a str"),
        (b"\x80\x02\x82\x01.", "instruction EXT1, which no saved model needs"),
        (b"\x80\x02\x84\x01\0\0\0.", "instruction EXT4, which no saved model needs"),
        (b"(ios\nsystem\n.", "instruction INST, which no saved model needs"),
        (b"(" + SYSTEM + b"o.", "instruction OBJ, which no saved model needs"),
        (b"Pfile\n.", "instruction PERSID, which no saved model needs"),
        (b"\x80\x05\x97.", "instruction NEXT_BUFFER, which no saved model needs"),
        (b"\x80\x02\x8b\xe8\3\0\0" + b"\1" * 1000 + b".", "an integer of more than 64 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not enough data in stream to read long4"),
        (b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"x.", "bytes in a unicodestring8, but only 2 remain"),
        (b"h\x07.", "number 7 of the memo is empty"),
        (b"\x80\x02" + b"2" * 10, "too little on the stack"),
    ],
)
def test_what_no_saved_model_needs_is_refused(pickle: bytes, problem: str) -> None:
    with pytest.raises(PickleProblem) as caught:
        loaded(pickle)
    assert problem in str(caught.value)


def test_a_state_is_kept_and_set_nowhere() -> None:
    built = loaded(SYSTEM + b')R}S"__setstate__"\n' + SYSTEM + b"sb.")
    assert (built.what, built.arguments) == (Named("os", "system"), ())
    assert built.state == {"__setstate__": Named("os", "system")}
    assert loaded(SYSTEM + b'}S"module"\nS"posix"\nsb.') == Named("os", "system")
    slots = loaded(b'ccollections\nOrderedDict\n)R(N}S"__class__"\n' + SYSTEM + b"stb.")
    assert type(slots) is Built


@pytest.mark.parametrize("length", [0, 1, 2**62])
def test_the_length_of_a_frame_is_not_believed(length: int) -> None:
    assert loaded(b"\x80\x04\x95" + length.to_bytes(8, "little") + b"].") == []


@pytest.mark.parametrize("place", [b"r\xff\xff\xff\x7f", b"p999999999999999999\n"])
def test_a_place_in_the_memo_takes_no_memory(place: bytes) -> None:
    assert loaded(b"\x80\x02]" + place + b".") == []


def test_keys_are_not_looked_into() -> None:
    """Python's own reader hashes them, and overflows its stack."""
    assert list(loaded(b"\x80\x04}()" + b"\x85" * 100_000 + b"Nu.").values()) == [None]
