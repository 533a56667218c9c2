"""``lstmc generate``: text from a language model, one step of its net after another."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import load, place
from lstmc.cli.console import out
from lstmc.cli.options import (
    GpuOption,
    NetArgument,
    SeedOption,
    TrainedOption,
    WriterOption,
    number_from_0,
    whole_from_0,
)
from lstmc.data import read_arrays
from lstmc.files.output import write_files
from lstmc.nets.generation import read_vocabulary
from lstmc.text import escaped


@dataclass(frozen=True)
class TextArguments:
    """The text: its prompt, its length, and how its tokens are drawn."""

    prime: Annotated[str, typer.Option("--prime", metavar="TEXT", help="Start the text with this prompt.")] = ""
    length: Annotated[
        int, typer.Option("--length", metavar="INT", help="Add this number of tokens.", parser=whole_from_0)
    ] = 500
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            metavar="NUMBER",
            help="Sample at this temperature; 0 takes the likeliest token.",
            parser=number_from_0,
        ),
    ] = 1.0
    seed: SeedOption = 0


@dataclass(frozen=True)
class FeedArguments:
    """The input, the output and the first states of a language model."""

    feed: Annotated[
        str | None, typer.Option("--feed", metavar="NAME", help="Feed the ids to this input, if there are several.")
    ] = None
    read: Annotated[
        str | None,
        typer.Option("--read", metavar="NAME", help="Read the probabilities from this output, if there are several."),
    ] = None
    states: Annotated[
        Path | None,
        typer.Option("--states", metavar="FILE", help="Start from these states (.npz or HDF5), by their names."),
    ] = None


@dataclass(frozen=True)
class RuntimeArguments:
    """The weights of a written net, and where it runs."""

    weights: TrainedOption = None
    gpu: GpuOption = False
    backend: WriterOption = None


def generate_command(
    *,
    net: NetArgument,
    vocabulary: Annotated[
        Path, typer.Option("--vocab", metavar="FILE", help="Read the tokens by id: characters, or a JSON list (.json).")
    ],
    text: TextArguments,
    to: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the text into this file.")
    ] = None,
    feed: FeedArguments,
    runtime: RuntimeArguments,
) -> None:
    """Write text with a net of one step, as `lstmc compile --step` makes it: each symbol is drawn and fed back.

    The model reads ids [1, 1] and gives the probabilities of the next symbol, in a softmax over all of them. An
    input called cont is fed 1.

    Examples:

    ```console
    lstmc generate step/lm.prototxt --vocab v.txt --prime "Once " --length 300
    lstmc generate step/lm.prototxt --vocab v.json --temperature 0.6 -o text.txt
    ```
    """
    symbols = []
    saved = load(net, weights=runtime.weights, backend=runtime.backend)
    for symbol in saved.write_text(
        read_vocabulary(vocabulary),
        **vars(text),
        feed=feed.feed,
        read=feed.read,
        states=read_arrays(feed.states) if feed.states is not None else None,
        on=place(saved.backend.name, runtime.gpu),
    ):
        symbols.append(symbol)
        if to is None:
            typer.echo(escaped(symbol) if sys.stdout.isatty() else symbol, nl=False)
    if to is None:
        typer.echo()
    else:
        write_files(to.parent, {to.name: "".join(symbols).encode()})
        out.print(f"wrote {to}")
