"""Drawing symbols from a language model's probabilities, and the files that list the symbols."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.errors import DataError
from lstmc.nets.generation import Vocabulary, Writer, read_vocabulary, sample_id


class Echo:
    """A net whose likeliest next symbol is the one after the last; its state counts the steps."""

    inputs: Mapping[str, tuple[int, ...]] = {"ids": (1, 1), "cont": (1, 1)}
    outputs: Mapping[str, tuple[int, ...]] = {"p": (1, 1, 4)}
    states: Mapping[str, tuple[int, ...]] = {}

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def start(self, states: Mapping[str, Any]) -> None:
        self.seen = []

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.seen.append((float(inputs["ids"][0, 0]), float(inputs["cont"][0, 0])))
        p = np.full((1, 1, 4), 0.1, np.float32)
        p[0, 0, (int(inputs["ids"][0, 0]) + 1) % 4] = 0.7
        return {"p": p}


def test_every_symbol_is_fed_once_and_sequences_go_on() -> None:
    net = Echo()
    writer = Writer(net, "ids", "p")
    assert list(writer.write([3, 1], 5, 0, 0)) == [2, 3, 0, 1, 2]
    assert net.seen == [(3, 1), (1, 1), (2, 1), (3, 1), (0, 1), (1, 1)]


def test_temperature_sharpens_and_flattens() -> None:
    p = np.array([0.5, 0.3, 0.2, 0.0], np.float32)

    def share(temperature: float) -> list[float]:
        rng = np.random.default_rng(0)
        counts = np.bincount([sample_id(p, temperature, rng) for _ in range(4000)], minlength=4)
        return [float(count) for count in counts / 4000]

    assert share(1) == pytest.approx([0.5, 0.3, 0.2, 0], abs=0.03)
    square = np.array([0.25, 0.09, 0.04, 0]) / 0.38
    assert share(0.5) == pytest.approx(list(square), abs=0.03)
    assert share(1e-9) == share(0) == [1, 0, 0, 0]
    assert share(1e9) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=0.03)


@pytest.mark.parametrize("numbers", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1]])
def test_what_are_no_probabilities(numbers: list[float]) -> None:
    with pytest.raises(DataError) as caught:
        sample_id(np.array(numbers), 1, np.random.default_rng(0))
    assert str(caught.value).startswith(
        "DataError: expected probabilities that add up to 1 and are not below 0, as softmax makes them, found "
    )


def test_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "symbols.txt"
    path.write_bytes("a\r\né".encode())
    assert read_vocabulary(path).symbols == ("a", "\r", "\n", "é")
    path = tmp_path / "symbols.json"
    path.write_text(json.dumps(["a", "ab", "<end>", "."]))
    words = read_vocabulary(path)
    assert words.symbols == ("a", "ab", "<end>", ".")
    assert words.ids("aba.<end>") == [1, 0, 3, 2]
    assert (words.start, Vocabulary(("a", "\n"), "here").start) == ([0], [1])


NO_JSON = "expected JSON, found something else"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("s.txt", None, "no such file"),
        ("s.txt", b"\xff", "expected the symbols as UTF-8 text, found something else"),
        ("s.txt", b"", "expected the symbols in the order of their ids, found none"),
        ("s.txt", b"abca\nb", "each symbol has one id, found more than once: 'a', 'b'"),
        ("s.json", b"[1, 2]", "[0]: expected a valid string, found 1"),
        ("s.json", b'["a", ""]', '[1]: expected a symbol, found ""'),
        ("s.json", b"abc", f"{NO_JSON}: expected value at line 1 column 1"),
        ("s.json", b"[" * 100_000, f"{NO_JSON}: recursion limit exceeded at line 1 column 202"),
        ("s.json", rb'["\ud800"]', f"{NO_JSON}: unexpected end of hex escape at line 1 column 9"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_vocabulary(path)
    assert str(caught.value) == f"DataError: {path}: {text}"
