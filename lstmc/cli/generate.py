"""``lstmc generate``: text from a language model, one step of its net after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lstmc.backend import Runs, Steps, load_backend, require
from lstmc.cli.console import out
from lstmc.cli.options import BackendOption, GpuOption, NetArgument, TrainedOption
from lstmc.cli.vocabulary import Vocabulary, read_vocabulary
from lstmc.data import read_arrays
from lstmc.errors import BackendError, DataError
from lstmc.ops import Array
from lstmc.output import write_files

CONTINUES = "cont"  # Caffe's indicator: 1 where a sequence goes on
SLACK = 1e-3  # how far from 1 probabilities in float32 may add up to


def generate_command(
    net: NetArgument,
    vocabulary: Annotated[
        Path, typer.Option("--vocab", metavar="FILE", help="The symbols by id: characters, or a JSON list (.json).")
    ],
    prime: Annotated[str, typer.Option("--prime", metavar="TEXT", help="What the text starts with.")] = "",
    length: Annotated[int, typer.Option("--length", help="How many symbols to add.", min=0)] = 500,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1: more like the likeliest. 0: always the likeliest.", min=0)
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="For what is drawn: same seed, same text.", min=0)] = 0,
    to: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where the text goes.")] = None,
    feed: Annotated[
        str | None, typer.Option("--feed", metavar="NAME", help="The input that takes the ids, if there are several.")
    ] = None,
    read: Annotated[
        str | None, typer.Option("--read", metavar="NAME", help="The probabilities, if several could be.")
    ] = None,
    states: Annotated[
        Path | None, typer.Option("--states", metavar="FILE", help="First states (.npz or HDF5), by their names.")
    ] = None,
    weights: TrainedOption = None,
    gpu: GpuOption = False,
    backend: BackendOption = "caffe",
) -> None:
    """Write text with a net of one step, as `lstmc compile --step` makes it: each symbol is drawn and fed back.

    The model reads ids [1, 1] and gives the probabilities of the next symbol, in a softmax over all of them. An
    input called cont is fed 1.
    """
    symbols = read_vocabulary(vocabulary)
    ids = symbols.ids(prime)
    with require(load_backend(backend), Runs).steps(net, weights, gpu) as steps:
        writer = Writer(steps, _ids_input(steps, net, feed), _probabilities(steps, net, symbols, read))
        steps.start(read_arrays(states) if states is not None else {})
        text = [prime]
        if to is None:
            typer.echo(prime, nl=False)
        for number in writer.write(ids or symbols.start, length, temperature, seed):
            text.append(symbols.symbols[number])
            if to is None:
                typer.echo(text[-1], nl=False)
    if to is None:
        typer.echo()
    else:
        write_files(to.parent, {to.name: "".join(text).encode()})
        out.print(f"wrote {to}")


@dataclass(frozen=True)
class Writer:
    """A language model at work: where its ids go in, and where its probabilities come out."""

    steps: Steps
    ids: str
    probabilities: str

    def write(self, prime: list[int], length: int, temperature: float, seed: int) -> Iterator[int]:
        """``length`` ids after those of ``prime``, of which there is one or more."""
        rng = np.random.default_rng(seed)
        for number in prime[:-1]:
            self._next(number)
        number = prime[-1]
        for _ in range(length):
            number = drawn(self._next(number), temperature, rng)
            yield number

    def _next(self, number: int) -> Array:
        fed = {name: np.ones(shape, np.float32) for name, shape in self.steps.inputs.items() if name == CONTINUES}
        fed[self.ids] = np.full(self.steps.inputs[self.ids], number, np.float32)
        return self.steps.step(fed)[self.probabilities].ravel()


def drawn(probabilities: Array, temperature: float, rng: np.random.Generator) -> int:
    """An id drawn from p^(1/temperature), scaled to add up to 1; the likeliest where the temperature is 0.

    Raises :class:`DataError` for what are no probabilities.
    """
    p = probabilities.astype(np.float64)
    if not (p >= 0).all() or not abs(p.sum() - 1) <= SLACK:
        raise DataError(
            "expected probabilities that add up to 1 and are not below 0, as softmax makes them,"
            f" found numbers from {p.min():g} to {p.max():g} that make {p.sum():g}: name others with --read"
        )
    if temperature == 0:
        return int(p.argmax())
    with np.errstate(divide="ignore"):
        scaled = np.log(p / p.max()) / temperature  # the largest is 0, so nothing overflows
    weights = np.exp(scaled)
    return int(rng.choice(p.size, p=weights / weights.sum()))


def _ids_input(steps: Steps, net: Path, wanted: str | None) -> str:
    """The input that takes the ids: it must be one number, and the others must be known."""
    possible = {name: shape for name, shape in steps.inputs.items() if name != CONTINUES}
    if wanted is not None:
        if wanted not in possible:
            raise BackendError(f"--feed {wanted}: {net} has no such input: found {', '.join(possible) or 'none'}")
        possible = {wanted: possible[wanted]}
    if len(possible) != 1:
        raise BackendError(
            f"{net}: expected one input for the ids, besides one called {CONTINUES}, found"
            f" {', '.join(possible) or 'none'}"
        )
    ((name, shape),) = possible.items()
    if prod(shape) != 1:
        raise BackendError(f"{net}: {name} is {list(shape)}: expected one id a step, compile it with a batch of one")
    return name


def _probabilities(steps: Steps, net: Path, symbols: Vocabulary, wanted: str | None) -> str:
    """The output that has a probability for each symbol."""
    possible: Mapping[str, tuple[int, ...]] = steps.outputs
    if wanted is not None:
        if wanted not in possible:
            raise BackendError(f"--read {wanted}: {net} has no such output: found {', '.join(possible)}")
        possible = {wanted: possible[wanted]}
    count = len(symbols.symbols)
    fitting = [name for name, shape in possible.items() if shape and prod(shape) == shape[-1] == count]
    if not fitting:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in possible.items())
        raise BackendError(f"{symbols.source} has {count} symbols, but no output of {net} has as many: found {found}")
    if len(fitting) > 1:
        raise BackendError(
            f"{net}: expected one output for {count} symbols: name it with --read, one of {', '.join(fitting)}"
        )
    return fitting[0]
