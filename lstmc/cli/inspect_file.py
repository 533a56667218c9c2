"""``lstmc inspect``: what a trained model is, and what will happen to it."""

from __future__ import annotations

from typing import Annotated

import typer

import lstmc
from lstmc.cli.commands import option
from lstmc.cli.console import out, output
from lstmc.cli.import_model import (
    ConfigOption,
    SetOption,
    ShapeOption,
    SourceArgument,
    TrainedOption,
    parse_shapes,
    parse_values,
    print_zoo,
)
from lstmc.importers.zoo import PREFIX

ForOption = Annotated[
    str, option("--for RUNTIMES", "List the nodes that these runtimes do not take, as rknn,vela: by their lists.")
]


def inspect_command(
    source: SourceArgument,
    runtimes: ForOption = "",
    shapes: ShapeOption = None,
    values: SetOption = None,
    config: ConfigOption = None,
    weights: TrainedOption = None,
) -> None:
    """Say what a trained model is: inputs, recurrent layers, states that are carried or lost, operators not read.

    Nothing is run, and nothing is written. Exits with 1 if a stream would lose a state, or an operator is not read.

    Examples:

    ```console
    lstmc inspect vad.onnx
    lstmc inspect denoiser.onnx --for rknn,webgpu
    lstmc inspect tagger.pt2 --json
    ```
    """
    if str(source) == PREFIX:
        print_zoo()
        return
    found = lstmc.inspect(
        source,
        runtimes=[name for name in runtimes.split(",") if name],
        shapes=parse_shapes(shapes),
        values=parse_values(values),
        config=config,
        weights=weights,
    )
    for name, fact in found.facts().items():
        output.fact(name, fact)
    out.print(str(found))
    if found.lost:
        raise typer.Exit(1)
