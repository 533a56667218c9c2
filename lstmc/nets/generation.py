"""Generate text with a language model's net: the vocabulary, and sampling one token after another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator

from lstmc.backend import Steps
from lstmc.errors import Argument, BackendError, DataError
from lstmc.files.json_file import NotExpected, parse_json, read_bounded
from lstmc.files.reading import reading
from lstmc.ops import Array
from lstmc.text import nearest_or_all

START = "\n"


def _symbol(text: str) -> str:
    if not text:
        raise ValueError("a symbol")
    return text


Symbol = Annotated[str, AfterValidator(_symbol)]


@dataclass(frozen=True)
class Vocabulary:
    """Symbols by id. ``source`` is their file."""

    symbols: tuple[str, ...]
    source: str

    @property
    def start(self) -> list[int]:
        """The id that precedes a text without a prompt: the end of a line, or the first symbol if there is none."""
        return [self.symbols.index(START) if START in self.symbols else 0]

    def ids(self, text: str) -> list[int]:
        """Return a text as ids; the longest fitting symbol is taken. Raises :class:`DataError` if no symbol fits."""
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        longest_first = sorted(map(re.escape, self.symbols), key=len, reverse=True)
        pattern = re.compile("|".join(longest_first), re.DOTALL)
        if unknown := dict.fromkeys(pattern.sub("", text)):
            listed = ", ".join(map(repr, unknown))
            raise DataError(
                f"{Argument('prime')} has {listed}, which are not among the {len(self.symbols)} symbols of"
                f" {self.source}"
            )
        return [numbers[symbol] for symbol in pattern.findall(text)]


def read_vocabulary(path: Path) -> Vocabulary:
    """Read symbols from a JSON list (``.json``), or the characters of any other UTF-8 file, line ends included.

    Raises :class:`DataError` for a missing or malformed file, and for repeated symbols.
    """
    try:
        with reading(path, DataError):
            content = read_bounded(path)  # not as text, which would convert line ends
        symbols = tuple(parse_json(content, list[Symbol]) if path.suffix == ".json" else content.decode())
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected the symbols as UTF-8 text, found something else") from None
    except NotExpected as wrong:
        raise DataError(f"{path}: {wrong}") from None
    if not symbols:
        raise DataError(f"{path}: expected the symbols in the order of their ids, found none")
    if twice := [symbol for symbol, count in Counter(symbols).items() if count > 1]:
        raise DataError(f"{path}: each symbol has one id, found more than once: {', '.join(map(repr, twice))}")
    return Vocabulary(symbols, str(path))


CONTINUES = "cont"  # Caffe's indicator: 1 where a sequence goes on
READ = Argument("read")
SLACK = 1e-3  # the largest distance from 1 of a sum of probabilities in float32


@dataclass(frozen=True)
class Writer:
    """A language model's net, with the input of its ids and the output of its probabilities."""

    steps: Steps
    ids: str
    probabilities: str

    @classmethod
    def for_net(
        cls, steps: Steps, net: str, symbols: Vocabulary, feed: str | None = None, read: str | None = None
    ) -> Self:
        """Return the writer of a one-step net.

        ``net`` is its name in errors; ``feed`` and ``read`` name the input of ids and the output of probabilities if
        several are possible. Raises :class:`BackendError` for a net that is no language model of these symbols.
        """
        return cls(steps, _ids_input(steps, net, feed), _probabilities(steps, net, symbols, read))

    def write(self, prime: list[int], length: int, temperature: float, seed: int) -> Iterator[int]:
        """Yield ``length`` ids after the ids of ``prime``, which has at least one."""
        rng = np.random.default_rng(seed)
        for number in prime[:-1]:
            self._next(number)
        number = prime[-1]
        for _ in range(length):
            number = sample_id(self._next(number), temperature, rng)
            yield number

    def _next(self, number: int) -> Array:
        fed = {name: np.ones(shape, np.float32) for name, shape in self.steps.inputs.items() if name == CONTINUES}
        fed[self.ids] = np.full(self.steps.inputs[self.ids], number, np.float32)
        return self.steps.step(fed)[self.probabilities].ravel()


def sample_id(probabilities: Array, temperature: float, rng: np.random.Generator) -> int:
    """Sample an id from p^(1/temperature), normalized; at temperature 0 the most likely id.

    Raises :class:`DataError` for numbers that are no probabilities.
    """
    p = probabilities.astype(np.float64)
    if not (p >= 0).all() or not abs(p.sum() - 1) <= SLACK:
        raise DataError(
            "expected probabilities that add up to 1 and are not below 0, as softmax makes them,"
            f" found numbers from {p.min():g} to {p.max():g} that make {p.sum():g}: name others with {READ}"
        )
    if temperature == 0:
        return int(p.argmax())
    with np.errstate(divide="ignore"):
        scaled = np.log(p / p.max()) / temperature  # the largest is 0, so nothing overflows
    weights = np.exp(scaled)
    return int(rng.choice(p.size, p=weights / weights.sum()))


def _possible(
    shapes: Mapping[str, tuple[int, ...]], net: str, kind: str, option: str, name: str | None
) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of inputs or outputs; if an option names one of them, only that shape."""
    if name is not None and name not in shapes:
        argument, hint = Argument(option, name), nearest_or_all(name, shapes)
        raise BackendError(f"{argument}: {net} has no such {kind}{hint}")
    return shapes if name is None else {name: shapes[name]}


def _ids_input(steps: Steps, net: str, feed: str | None) -> str:
    """Return the input that takes the ids: it must be one number, and all other inputs must be known."""
    shapes = {name: shape for name, shape in steps.inputs.items() if name != CONTINUES}
    possible = _possible(shapes, net, "input", "feed", feed)
    if len(possible) != 1:
        raise BackendError(
            f"{net}: expected one input for the ids, besides one called {CONTINUES}, found"
            f" {', '.join(possible) or 'none'}"
        )
    ((name, shape),) = possible.items()
    if prod(shape) != 1:
        raise BackendError(f"{net}: {name} is {list(shape)}: expected one id a step, compile it with a batch of one")
    return name


def _probabilities(steps: Steps, net: str, symbols: Vocabulary, read: str | None) -> str:
    """Return the output that has a probability for each symbol."""
    possible = _possible(steps.outputs, net, "output", "read", read)
    count = len(symbols.symbols)
    fitting = [name for name, shape in possible.items() if shape and prod(shape) == shape[-1] == count]
    if not fitting:
        hint = ", ".join(f"{name} {list(shape)}" for name, shape in possible.items())
        raise BackendError(f"{symbols.source} has {count} symbols, but no output of {net} has as many: found {hint}")
    if len(fitting) > 1:
        raise BackendError(
            f"{net}: expected one output for {count} symbols: name it with {READ}, one of {', '.join(fitting)}"
        )
    return fitting[0]
