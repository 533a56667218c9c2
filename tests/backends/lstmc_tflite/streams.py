"""Streams of carried steps: of library cells and random models, in TFLite's runtimes and in the interpreter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

import lstmc
from lstmc.api import Net
from lstmc.api.models import keep_outputs
from lstmc.interp import named_rng
from lstmc.ir import Graph, Ref
from lstmc.manifest import parse_manifest
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.sequences import StepRunner, constants
from lstmc.ops import Array
from lstmc.ops import Input as InputOp
from lstmc.pipeline import compile_graph
from lstmc.plugins import CELLS as GROUP
from lstmc.plugins import entry_points_of
from lstmc.prepare import StatePair, deploy_graph
from lstmc.verification.differential import random_arrays
from lstmc.weights import random_weights
from lstmc_tflite import TfliteBackend, runtime
from lstmc_tflite.numbers import FLOAT32, Numbers
from lstmc_tflite.runtime import LiteRT, Micro, loaded, wide_floats
from tests.cells.scanned import RANGES, STARTS, cell_graph, drawn
from tests.random_models.models import RandomModel

CELLS = [name for name, (point, *_) in entry_points_of(GROUP).items() if point.value.startswith("lstmc.cells.")]
WITHOUT_BOUND = {"ttt_linear"}  # whose weights at random leave every range
KERNELS: Mapping[str, Callable[[bytes], LiteRT | Micro]] = {
    kernels: partial(loaded, kernels=kernels) for kernels in (*runtime.KERNELS, "tflm")
}
CALIBRATION = 100  # steps, other ones than those compared
LOST = 1e-3  # from which difference of float32 itself on a stream is no longer compared


def streaming_lstm(numbers: str, x: Array, folder: Path) -> Net:
    """Compile an LSTM in some numbers; integers have the ranges of the sequence ``x``, in a file of the folder."""
    net = lstmc.compile("lstm", T=2, N=1, D=3, H=4, backend="tflite")
    if numbers == "float32":
        return net
    path = folder / "ranges.json"
    path.write_text(json.dumps(net.ranges({"x": x}).as_json()))
    backend = TfliteBackend().with_options({"numbers": numbers, "ranges": str(path)})
    return lstmc.compile("lstm", T=2, N=1, D=3, H=4, backend=backend)


class CarriedSteps:
    """A net of one step, and the same in the interpreter, each with states of its own."""

    def __init__(self, graph: Graph, weights: Mapping[str, Array], numbers: Numbers, target: str | None = None) -> None:
        backend = TfliteBackend(numbers=numbers)
        self.weights, self.numbers = weights, numbers
        self.compiled = compile_graph(graph, backend, target)
        artifact = backend.emit(self.compiled, weights)
        self.content = artifact.files[artifact.net]
        self.manifest = parse_manifest(artifact.files[f"{self.compiled.name}.manifest.json"])
        pairs = self.compiled.states or ()
        self.after = {pair.before: pair.after for pair in pairs}
        self.first = {pair.before: self.start(pair).astype(np.float32) for pair in pairs}

    def start(self, pair: StatePair) -> Array:
        """The state before the first step."""
        raise NotImplementedError

    def inputs(self, step: int) -> dict[str, Array]:
        """What the net is fed in a step, without its states."""
        raise NotImplementedError

    def limits(self) -> dict[str, tuple[float, float]]:
        """The least and the greatest of each value, over a stream of its own."""
        graph, runner, found = self.compiled.expanded, self.runner(np.float32), dict[str, tuple[float, float]]()
        for step in range(CALIBRATION):
            for ref, array in runner.step(self.inputs(1000 + step)).items():
                low, high = found.get(graph.value_name(ref), (np.inf, -np.inf))
                found[graph.value_name(ref)] = min(low, float(array.min())), max(high, float(array.max()))
        return found

    def wrong(self, net: LiteRT | Micro, kernels: str, steps: int) -> int:
        """The number of integers of the outputs of a stream that are others than the interpreter's.

        The interpreter goes on from the net's states. Where the last bit of a function of float32 may decide an
        integer, one in a thousand may differ, and one in twenty by XNNPACK, whose root is not the nearest float32.
        """
        rounding, states, found, compared = self.numbers.rounding(self.compiled, kernels), self.first, 0, 0
        assert rounding is not None
        runner, graph = self.runner(np.float32, rounding), self.compiled.expanded
        for step in range(steps):
            inputs = self.inputs(step)
            runner.resume({pair.name: states[pair.before] for pair in self.compiled.states or ()})
            values, fed = runner.step(inputs), self.manifest.fed(inputs | states)
            blobs = net.forward(fed, self.manifest.output_blobs)
            outputs = {o.name: self.manifest.outputs[o.name].read(blobs) for o in graph.outputs}
            for output in graph.outputs:
                grid = rounding.grid(output.ref)
                assert grid is not None
                one, other = (np.rint(each / grid.scale) for each in (values[output.ref], outputs[output.name]))
                found += int(np.count_nonzero(one != other))
                compared += one.size
            states = {before: outputs[after] for before, after in self.after.items()}
        few = max(1, compared // (20 if kernels == "xnnpack" else 1000)) if wide_floats(self.content, kernels) else 0
        return found if found > few else 0

    def runner(self, dtype: type[np.floating], rounding: IntegerRounding | None = None) -> StepRunner:
        runner = StepRunner(self.compiled, self.weights, rounding, dtype=dtype)
        states = self.compiled.states or ()
        runner.resume({pair.name: self.first[pair.before].astype(dtype) for pair in states})
        return runner

    def gaps(self, nets: Mapping[str, LiteRT | Micro], steps: int) -> tuple[dict[str, float], int]:
        """Return how far each net is from the interpreter in float64, and how far that is in float32, at the most; and
        the number of steps, which end where float32 itself has lost the stream."""
        graph, exact, single = self.compiled.expanded, self.runner(np.float64), self.runner(np.float32)
        states = dict.fromkeys(nets, self.first)
        gaps = dict.fromkeys((*nets, "float32"), 0.0)
        for t in range(steps):
            inputs = self.inputs(t)
            values, rounded = exact.step(inputs), single.step(inputs)
            found = {"float32": {output.name: rounded[output.ref] for output in graph.outputs}}
            for name, net in nets.items():
                fed = self.manifest.fed(inputs | states[name])
                blobs = net.forward(fed, self.manifest.output_blobs)
                found[name] = {o.name: self.manifest.outputs[o.name].read(blobs) for o in graph.outputs}
                states[name] = {before: found[name][after] for before, after in self.after.items()}
            now = {
                name: max(
                    float(np.abs(outputs[o.name] - values[o.ref]).max() / max(1.0, np.abs(values[o.ref]).max()))
                    for o in graph.outputs
                )
                for name, outputs in found.items()
            }
            if not now["float32"] <= LOST:
                return gaps, t
            gaps = {name: max(gaps[name], gap) for name, gap in now.items()}
        return gaps, steps


class Stream(CarriedSteps):
    """A library cell."""

    def __init__(self, name: str, batch: int = 2, numbers: Numbers = FLOAT32, target: str | None = None) -> None:
        graph = cell_graph(name, (3, batch))
        self.name, self.values = name, drawn(name, graph)
        super().__init__(graph, self.values.weights, numbers, target)

    def start(self, pair: StatePair) -> Array:
        state = pair.name.rpartition("/")[2]
        fed = self.values.inputs.get(f"{state}_0", np.zeros(self.compiled.expanded.type(Ref(pair.before)).shape))
        start: Array = STARTS.get((self.name, state), lambda same: same)(fed)
        return start

    def inputs(self, step: int) -> dict[str, Array]:
        names = {node.name: node.types[0].shape for node in self.compiled.expanded if isinstance(node.op, InputOp)}
        arrays = {n: named_rng(step, n).normal(size=shape) for n, shape in names.items() if n not in self.after}
        limits = RANGES.get(self.name, {})
        return {name: limits.get(name, np.asarray)(array).astype(np.float32) for name, array in arrays.items()}


class RandomStream(CarriedSteps):
    """A random model. In integers it has no output that depends on no input."""

    def __init__(self, model: RandomModel, numbers: Numbers = FLOAT32, target: str | None = None) -> None:
        graph = deploy_graph(model.graph())
        fixed = constants(graph)
        graph = keep_outputs(graph, [o.name for o in graph.outputs if o.ref.node not in fixed] or None)
        super().__init__(graph, random_weights(graph, model.seed), numbers, target)

    def start(self, pair: StatePair) -> Array:
        fed: Array = random_arrays(self.compiled, self.weights, 0).fed(self.compiled.expanded)[pair.before]
        return fed

    def inputs(self, step: int) -> dict[str, Array]:
        fed = random_arrays(self.compiled, self.weights, step).fed(self.compiled.expanded)
        return {name: array for name, array in fed.items() if name not in self.after}
