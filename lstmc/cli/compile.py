"""``lstmc compile``: from a model to files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lstmc.backend import Artifact, Backend, Compiled, load_backend
from lstmc.cli.console import out, table
from lstmc.cli.model_source import find_model
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    FileArgument,
    SeedOption,
    SizesOption,
    StepOption,
    TargetOption,
    WeightsOption,
    parse_sizes,
)
from lstmc.ir import Graph, Ref
from lstmc.ops import Array
from lstmc.output import write_files
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights, parameters, read_weights


@dataclass(frozen=True)
class Build:
    """Everything one model became."""

    backend: Backend
    compiled: Compiled
    weights: dict[str, Array]
    artifact: Artifact


def build(
    file: str | None,
    cell: str | None,
    sizes: list[str] | None,
    weights: Path | None,
    seed: int,
    backend: str,
    target: str | None,
    dump_dir: Path | None = None,
    step: bool = False,
) -> Build:
    """What ``compile`` and ``verify`` share: find, trace, compile, bind weights, emit. Writes nothing but dumps."""
    source = find_model(file, cell)
    graph = source.graph(parse_sizes(sizes or []))
    loaded = load_backend(backend)
    bound = initial_weights(graph, seed) if weights is None else read_weights(weights, graph)
    compiled = compile_graph(graph, loaded, target, source.name, dump_dir, step=step)
    return Build(loaded, compiled, bound, loaded.emit(compiled, bound))


def compile_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    backend: BackendOption = "caffe",
    target: TargetOption = None,
    step: StepOption = False,
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the files go.")] = Path(),
    dump_dir: Annotated[
        Path | None, typer.Option("--dump-dir", metavar="DIR", help="The graph after each pass, as text.")
    ] = None,
) -> None:
    """Compile a model, and write its net, its weights and its manifest."""
    built = build(file, cell, sizes, weights, seed, backend, target, dump_dir, step)
    paths = write_files(folder, built.artifact.files)
    wrote = table("wrote", "file", "bytes", right=("bytes",))
    for path in paths:
        wrote.add_row(str(path), f"{path.stat().st_size:,}")
    out.print(wrote)
    model = built.compiled.model
    params = parameters(model)
    count = sum(array.size for array in built.weights.values())
    out.print(f"\n{built.artifact.layers} layers, {len(params)} parameters, {count:,} weights\n")
    out.print(_blobs("feed", built.artifact.inputs, built.compiled.expanded))
    out.print(_blobs("read", built.artifact.outputs, built.compiled.expanded))


def _blobs(title: str, names: dict[str, str], graph: Graph) -> object:
    refs = {name: Ref(node.name, i) for node in graph for i, name in enumerate(node.names)}
    made = table(title, "name", "blob", "shape")
    for name, blob in names.items():
        first = refs.get(blob.partition(" ... ")[0])
        made.add_row(name, blob, "" if first is None else " x ".join(map(str, graph.type(first).shape)))
    return made
