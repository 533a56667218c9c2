"""Library cells as streams of carried steps: in TFLite's runtimes, and in the interpreter beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.interp import named_rng
from lstmc.ir import Ref
from lstmc.manifest import parse_manifest
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.sequences import StepRunner
from lstmc.ops import Array
from lstmc.ops import Input as InputOp
from lstmc.pipeline import compile_graph
from lstmc.plugins import CELLS as GROUP
from lstmc.plugins import entry_points_of
from lstmc_tflite import TfliteBackend
from lstmc_tflite.numbers import FLOAT32, Numbers
from lstmc_tflite.runtime import LiteRT, Micro, input_blobs
from tests.cells.scanned import RANGES, STARTS, cell_graph, drawn

CELLS = [name for name, (point, *_) in entry_points_of(GROUP).items() if point.value.startswith("lstmc.cells.")]
CALIBRATION = 100  # steps, other ones than those compared


class Stream:
    """A library cell as a net of one step, and the same in the interpreter, each with states of its own."""

    def __init__(self, name: str, batch: int = 2, numbers: Numbers = FLOAT32, target: str | None = None) -> None:
        graph, backend = cell_graph(name, (3, batch)), TfliteBackend(numbers=numbers)
        self.name, self.values, self.numbers = name, drawn(name, graph), numbers
        self.compiled = compile_graph(graph, backend, target)
        artifact = backend.emit(self.compiled, self.values.weights)
        self.content = artifact.files[artifact.net]
        self.manifest = parse_manifest(artifact.files[f"{name}.manifest.json"])
        pairs = self.compiled.states or ()
        self.after = {pair.before: pair.after for pair in pairs}
        self.first = {pair.before: self.start(pair.before, pair.name.rpartition("/")[2]) for pair in pairs}

    def start(self, before: str, state: str) -> Array:
        fed = self.values.inputs.get(f"{state}_0", np.zeros(self.compiled.expanded.type(Ref(before)).shape))
        start: Array = STARTS.get((self.name, state), lambda same: same)(fed)
        return start.astype(np.float32)

    def inputs(self, step: int) -> dict[str, Array]:
        names = {node.name: node.types[0].shape for node in self.compiled.expanded if isinstance(node.op, InputOp)}
        arrays = {n: named_rng(step, n).normal(size=shape) for n, shape in names.items() if n not in self.after}
        limits = RANGES.get(self.name, {})
        return {name: limits.get(name, np.asarray)(array).astype(np.float32) for name, array in arrays.items()}

    def limits(self) -> dict[str, tuple[float, float]]:
        """The least and the greatest of each value, over a stream of its own."""
        graph, runner, found = self.compiled.expanded, self.runner(np.float32), dict[str, tuple[float, float]]()
        for step in range(CALIBRATION):
            for ref, array in runner.step(self.inputs(1000 + step)).items():
                low, high = found.get(graph.value_name(ref), (np.inf, -np.inf))
                found[graph.value_name(ref)] = min(low, float(array.min())), max(high, float(array.max()))
        return found

    def wrong(self, net: LiteRT | Micro, kernels: str, steps: int) -> int:
        """The number of integers of the outputs of a stream that are others than the interpreter's."""
        rounding, states, found = self.numbers.rounding(self.compiled, kernels), self.first, 0
        assert rounding is not None
        runner, graph = self.runner(np.float32, rounding), self.compiled.expanded
        for step in range(steps):
            inputs = self.inputs(step)
            values, fed = runner.step(inputs), input_blobs(self.manifest, inputs | states)
            blobs = net.forward(fed, self.manifest.output_blobs)
            outputs = {o.name: self.manifest.outputs[o.name].read(blobs) for o in graph.outputs}
            for output in graph.outputs:
                grid = rounding.grid(output.ref)
                assert grid is not None
                one, other = (np.rint(each / grid.scale) for each in (values[output.ref], outputs[output.name]))
                found += int(np.count_nonzero(one != other))
            states = {before: outputs[after] for before, after in self.after.items()}
        return found

    def runner(self, dtype: type[np.floating], rounding: IntegerRounding | None = None) -> StepRunner:
        runner = StepRunner(self.compiled, self.values.weights, rounding, dtype=dtype)
        states = self.compiled.states or ()
        runner.resume({pair.name: self.first[pair.before].astype(dtype) for pair in states})
        return runner

    def gaps(self, nets: Mapping[str, LiteRT | Micro], steps: int) -> dict[str, float]:
        """Return how far each net is from the interpreter in float64, and how far that is in float32, at the most."""
        graph, exact, single = self.compiled.expanded, self.runner(np.float64), self.runner(np.float32)
        states = dict.fromkeys(nets, self.first)
        gaps = dict.fromkeys((*nets, "float32"), 0.0)
        for t in range(steps):
            inputs = self.inputs(t)
            values, rounded = exact.step(inputs), single.step(inputs)
            found = {"float32": {output.name: rounded[output.ref] for output in graph.outputs}}
            for name, net in nets.items():
                fed = input_blobs(self.manifest, inputs | states[name])
                blobs = net.forward(fed, self.manifest.output_blobs)
                found[name] = {o.name: self.manifest.outputs[o.name].read(blobs) for o in graph.outputs}
                states[name] = {before: found[name][after] for before, after in self.after.items()}
            for name, outputs in found.items():
                for output in graph.outputs:
                    wanted = values[output.ref]
                    gap = np.abs(outputs[output.name] - wanted).max() / max(1.0, np.abs(wanted).max())
                    gaps[name] = max(gaps[name], float(gap))
        return gaps
