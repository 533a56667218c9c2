"""A description written out, read back as a person's model, compiled, and run in real Caffe."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lstmc.api.models import model_in
from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.dsl import Model
from lstmc.errors import WeightsError
from lstmc.files.arrays import read_npz
from lstmc.files.output import write_files
from lstmc.importers.canonical import canonicalize
from lstmc.importers.ir.net import Net
from lstmc.importers.printer import files
from lstmc.interp import forward
from lstmc.ir import Graph, differentiable_outputs
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import check_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner

BACKEND = CaffeBackend()


@dataclass(frozen=True)
class Traced:
    """The written files, and the graph that the written model traces to."""

    net: Net
    text: str
    record: dict[str, Any]
    graph: Graph
    weights: dict[str, Array]

    def fed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The source's inputs with their axes as the written model wants them."""
        return {name: np.transpose(a, self.net.axes.get(name, range(a.ndim))) for name, a in inputs.items()}

    def given(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The written model's outputs with their axes as the source has them."""
        return {
            name: np.transpose(a, np.argsort(self.net.axes.get(name, range(a.ndim)))) for name, a in outputs.items()
        }

    def interpreted(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.given(forward(self.graph, self.fed(inputs), self.weights).outputs)


@dataclass(frozen=True)
class Imported(Traced):
    """And its net."""

    compiled: Compiled
    artifact: Artifact

    def in_caffe(
        self, caffe: Runner, inputs: Mapping[str, Array], cotangents: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Array], Execution]:
        """Outputs as the source has them, and everything else of the run."""
        types = {o.name: self.graph.type(o.ref) for o in self.graph.outputs}
        cts = {n: np.transpose(a, self.net.axes.get(n, range(a.ndim))) for n, a in (cotangents or {}).items()}
        cts = {n: cts.get(n, np.zeros(types[n].shape)) for n in differentiable_outputs(self.compiled.expanded)}
        arrays = RunArrays(self.fed(inputs), self.weights, cts)
        done = CaffeExecutor(caffe, "cpu").run(self.compiled, self.artifact, arrays)
        expanded = self.compiled.expanded
        found = {o.name: done.values[expanded.value_name(o.ref)] for o in expanded.outputs}
        shapes = {o.name: self.graph.type(o.ref).shape for o in self.graph.outputs}
        return self.given({n: a.reshape(shapes[n]) for n, a in found.items()}), done


def written_graph(net: Net, sizes: Mapping[str, int]) -> Graph:
    """The graph that the net's own model.py traces to."""
    scope: dict[str, Any] = {"__name__": net.name}
    exec(files(net, "a test")["model.py"], scope)
    (model,) = (value for value in scope.values() if isinstance(value, Model))
    return model.graph(**sizes)


def traced(net: Net, sizes: Mapping[str, int] | None = None, kind: str = "a test") -> Traced:
    """Settle, write, load, trace. The written model is what a user would get, byte for byte."""
    net, path = canonicalize(net), list(sys.path)
    with TemporaryDirectory() as folder:
        made = files(net, kind)
        write_files(Path(folder), made)
        model = model_in(str(Path(folder, "model.py")))
        graph = model.graph({name: size for name, size in (sizes or {}).items() if name in net.open_sizes()})
        arrays = read_npz(Path(folder, "weights.npz"), WeightsError)
    sys.path[:] = path  # one example's folder is no place to look for what others import
    weights = check_weights(arrays, graph, "weights.npz")
    return Traced(net, made["model.py"].decode(), json.loads(made["import.json"]), graph, weights)


def imported(net: Net, sizes: Mapping[str, int] | None = None, kind: str = "a test") -> Imported:
    """As :func:`traced`, and compile."""
    made = traced(net, sizes, kind)
    compiled = compile_graph(made.graph, BACKEND)
    return Imported(**vars(made), compiled=compiled, artifact=BACKEND.emit(compiled, made.weights))


def assert_close(found: Mapping[str, Array], wanted: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    """Every array of ``wanted`` is there, within ``tolerance`` of its largest magnitude, or of 0.1."""
    for name, array in wanted.items():
        array = np.asarray(array, np.float64)
        assert found[name].shape == array.shape, f"{name}: {found[name].shape}, expected {array.shape}"
        gap = float(np.max(np.abs(found[name] - array), initial=0.0))
        assert gap <= tolerance * max(0.1, float(np.max(np.abs(array), initial=0.0))), f"{name} is off by {gap:.1e}"
