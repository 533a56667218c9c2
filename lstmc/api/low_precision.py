"""A model over streams of data: its nets of one step, the ranges of their values, and their errors in low precision."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.api.models import ModelSource, keep_outputs, phase_graph, trace_model
from lstmc.api.options import CompileOptions
from lstmc.backend import Artifact, Backend, Compiled, Layer
from lstmc.data import BATCH, Data, batch_axes, data_name, read_data, sizes_of_data
from lstmc.dsl import Dim, Model
from lstmc.errors import DataError, sizes_argument
from lstmc.files.arrays import npz_bytes
from lstmc.ir import Graph, values_over_time
from lstmc.manifest import parse_manifest
from lstmc.numerics import compare
from lstmc.numerics.calibration import (
    READER_SEQUENCES,
    Calibration,
    WrittenStep,
    calibration_for,
    reader_outputs,
    run_quantised,
    take_samples,
    take_streams,
)
from lstmc.numerics.device import Device, State
from lstmc.numerics.effects import Change, NumbersReport, OutputError, ReaderOutput, Simulation
from lstmc.numerics.ranges import Ranges, measure_ranges
from lstmc.numerics.rounding import DeviceRounding
from lstmc.numerics.sequences import Sequences, StepRunner
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import parameters

COMPARER, VALUES, DESCRIPTION, INPUTS = "compare.py", "golden.npz", "net.json", "inputs.npz"


def golden_kit(
    runner: StepRunner, layers: Sequence[Layer], sequences: Sequences, width: int, steps: int
) -> dict[str, bytes]:
    """Return the files of a golden kit, with which a board's results are compared: all values, in float32, of the first
    ``steps`` steps of the first ``width`` sequences. Each blob is an array [steps, ...] under its name in the net."""
    graph = runner.graph
    named = graph.named()
    tops = dict.fromkeys(top for layer in layers for top in layer.tops)
    fed = dict.fromkeys(runner.inputs)
    blobs = {name: named[name] for name in (*fed, *tops) if name in named}
    rows: dict[str, list[Array]] = {name: [] for name in blobs}
    for t, inputs in sequences.stream(slice(0, width), stop=steps):
        if t == 0:
            runner.start(inputs)
        values = runner.step(inputs)
        for name, ref in blobs.items():
            rows[name].append(values[ref])
    golden = {name: np.stack(values) for name, values in rows.items()}
    listed: list[dict[str, Any]] = [
        {"name": name, "type": "Input", "reads": [], "writes": [name]} for name in fed if name not in tops
    ]
    listed += [{"name": n.name, "type": n.type, "reads": [*n.bottoms], "writes": [*n.tops]} for n in layers]
    outputs = {name: graph.value_name(ref) for name, ref in runner.after.items()}
    states = [{"name": pair.name, "before": pair.before, "after": outputs[pair.after]} for pair in runner.states]
    description = {"net": graph.name, "steps": steps, "layers": listed, "states": states, "outputs": outputs}
    before: Mapping[str, Array] = {name: golden[name] for name in fed}
    return {
        DESCRIPTION: json.dumps(description, indent=1).encode(),
        INPUTS: npz_bytes(before),
        VALUES: npz_bytes(golden),
        COMPARER: Path(compare.__file__).read_bytes(),
    }


CONVEX = "states updated as h + u (n - h), as nets compiled for these numbers are"
PLAIN = "states updated as the model has them, not as h + u (n - h)"
STEPS = 1000  # at most, by which a quantiser is calibrated


@dataclass(frozen=True)
class StreamedModel:
    """A model that is compiled for one step and any number of sequences, and the sequences that are fed to it.
    ``batch`` is the dimension that counts sequences; None for a model without one."""

    source: ModelSource
    backend: Backend
    options: CompileOptions
    weights: Mapping[str, Array]
    sequences: Sequences
    sizes: Mapping[str, int]
    batch: str | None

    @classmethod
    def from_data(
        cls,
        source: ModelSource,
        backend: Backend,
        options: CompileOptions,
        weights: Mapping[str, Array],
        data: Data,
        batch: str | None = None,
    ) -> StreamedModel:
        """Return a model with its data: for each input over time an array [T, N, ...], with any T and N; for each input
        of a model that is one step an array of all steps [T, ...]. A model of one sequence takes several one by one, if
        the shapes or its number of steps show which axis is time. ``batch`` is the dimension that counts sequences, by
        default N. Raises :class:`~lstmc.errors.DataError` with everything that does not fit."""
        axes, arrays = batch_axes(source.model, batch), read_data(data)
        has_batch = not source.model.next_states and any(each.batch is not None for each in axes.values())
        counted = (batch or BATCH) if has_batch else None  # the inputs of a model that is one step fix N
        leading = {each.sizes[0] for each in axes.values() if each.sizes}
        fixed = [name for name in options.sizes if name not in leading]
        sizes = {**options.sizes, **sizes_of_data(source.model, axes, arrays, fixed)}
        sizes |= {} if counted is None else {counted: 1}
        model = _deployed(source, options, sizes)
        sequences = Sequences.from_arrays(model, axes, values_over_time(model), arrays, data_name(data, "the data"))
        _check_steps(source.model, options.sizes, sequences)
        return cls(source, backend, options, weights, sequences, sizes, counted)

    def with_weights(self, weights: Mapping[str, Array]) -> StreamedModel:
        return replace(self, weights=weights)

    def shortened(self, count: int) -> StreamedModel:
        """Return the model with at most ``count`` steps of its data: whole sequences, or the first steps of one."""
        steps = min(self.sequences.steps, count)
        whole = min(self.sequences.count, count // steps)
        return replace(self, sequences=replace(self.sequences, steps=steps, count=whole))

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: self.weights[name] for name in parameters(_deployed(self.source, self.options, self.sizes))}

    def compiled(self, width: int) -> Compiled:
        """Return its net of one step for ``width`` sequences, in which every value has a name."""
        sizes = self.sizes if self.batch is None else {**self.sizes, self.batch: width}
        options = self.options
        return compile_graph(
            _deployed(self.source, options, sizes),
            self.backend.with_each_value(),
            options.target,
            self.source.name,
            step=True,
            form=options.form,
            passes=options.edited,
        )

    def ranges(self, snapshot: Path | None = None, stop: Callable[[], bool] = lambda: False) -> Ranges | None:
        """Return the ranges of all values; see :func:`~lstmc.numerics.measure_ranges`."""
        runners = lru_cache(2)(lambda width: StepRunner(self.compiled(width), self.weights))
        return measure_ranges(self.source.model.name, runners, self.sequences, self.parameters, snapshot, stop)

    def calibration(self, quantiser: Calibration, count: int) -> dict[str, bytes]:
        """Return the files of a net of one sequence and one step, and the calibration of a quantiser for it."""
        return self._calibrated(quantiser, count)[1]

    def _calibrated(self, quantiser: Calibration, count: int) -> tuple[WrittenStep, dict[str, bytes]]:
        """Return the written net of one step, and the files for a quantiser, with ``count`` samples of its inputs."""
        ranges = self.ranges()
        assert ranges is not None, "nothing asked to stop"
        compiled, artifact, layers = self._written(1)
        manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
        inputs = {name: entry.place.names for name, entry in manifest.inputs.items()}
        outputs = {name: place.names for name, place in manifest.outputs.items()}
        net = WrittenStep.of(artifact, layers, StepRunner(compiled, self.weights), inputs | outputs)
        return net, {**artifact.files, **quantiser.files(take_samples(net, self.sequences, ranges, count))}

    def _in_reader(
        self, device: Device, predicted: Sequence[OutputError], calibration: StreamedModel
    ) -> tuple[ReaderOutput, ...]:
        """Return the errors against float32 in the reader, quantised on ``calibration``, beside those ``predicted``."""
        quantiser = device.quantiser
        assert quantiser is not None, "numbers of a reader's quantiser"
        interpreter = self.backend.interpreter(quantiser.name)
        net, files = calibration._calibrated(calibration_for(quantiser.name), STEPS)
        fed, exact = take_streams(net, self.sequences)
        blobs = run_quantised(files, interpreter, quantiser.options, fed, device.name)
        outputs = {name: blobs[blob] for name, blob in net.outputs.items()}
        return reader_outputs(outputs, exact, {each.name: each.mean for each in predicted})

    def _written(self, width: int) -> tuple[Compiled, Artifact, tuple[Layer, ...]]:
        compiled = self.compiled(width)
        artifact = self.backend.emit(compiled, {name: self.weights[name] for name in parameters(compiled.model)})
        return compiled, artifact, self.backend.layers(artifact.files[artifact.net])

    def golden(self, steps: int, width: int = 1) -> dict[str, bytes]:
        """Return the files of a kit for a board, and of the net itself; see :func:`golden_kit`. Raises
        :class:`DataError` for more steps or sequences than the data have."""
        width = width if self.batch is not None else 1
        for what, asked, there in (("steps", steps, self.sequences.steps), ("sequences", width, self.sequences.total)):
            if not 0 < asked <= there:
                raise DataError(f"expected 1 to {there} {what}, as the data have, found {asked}")
        compiled, artifact, layers = self._written(width)
        kit = golden_kit(StepRunner(compiled, self.weights), layers, self.sequences, width, steps)
        return {**artifact.files, **kit}

    def numbers(
        self, device: Device, calibration: StreamedModel | None = None, in_reader: bool = False
    ) -> NumbersReport:
        """Return the net's error in a device's low precision, with ranges of ``calibration``, by default of the same
        data. With ``in_reader`` only the first sequences are used, and the reader runs them too, with its own
        quantiser. Raises :class:`~lstmc.errors.BackendError` for a reader that is not installed or fails."""
        if in_reader:
            calibration = (calibration or self).shortened(STEPS)
            count = min(READER_SEQUENCES, self.sequences.count)
            first = replace(self, sequences=replace(self.sequences, count=count))
            report = first.numbers(device, calibration)
            return replace(report, reader=first._in_reader(device, report.outputs, calibration))
        simulation = self._simulation(device, calibration or self)
        report = simulation.report()
        other, changed = self._with_other_numbers(device), CONVEX if self.options.numbers is None else PLAIN
        others = list[tuple[str, Simulation]]()  # other forms of the net, whose errors are compared with its own
        if other._in_numbers(device).compiled(1).expanded != simulation.graph:
            ranged = calibration._with_other_numbers(device) if calibration else other
            others.append((changed, other._simulation(device, ranged)))
        if self._in_numbers(device) is not self and device.values.format == "int8" and device.state is None:
            wider = replace(device, state=State("int16"))
            others.append(("states in 16 bits (a8w8-s16)", self._simulation(wider, calibration or self)))
        own = simulation.first_error() or 1.0 if others else 1.0
        more = (Change(text, each.first_error() / own) for text, each in others)
        return replace(report, changes=(*report.changes, *more))

    def _in_numbers(self, device: Device) -> StreamedModel:
        """Return the model compiled as the net that is written for a device's numbers."""
        backend = self.backend.for_integers(device.state is not None) if device.kernels else self.backend
        return self if backend is self.backend else replace(self, backend=backend)

    def _with_other_numbers(self, device: Device) -> StreamedModel:
        """Return the model compiled without the changes for a device's numbers if it has them, else with them."""
        numbers = device.source if self.options.numbers is None else None
        return replace(self, options=replace(self.options, numbers=numbers))

    def _simulation(self, device: Device, calibration: StreamedModel) -> Simulation:
        """Return the simulation of the net in a device's numbers, with ranges measured on ``calibration``."""
        ranges = calibration._in_numbers(device).ranges()
        assert ranges is not None, "nothing asked to stop"
        compiled = lru_cache(2)(self._in_numbers(device).compiled)

        def runner(width: int, rounding: DeviceRounding | None) -> StepRunner:
            return StepRunner(compiled(width), self.weights, rounding)

        return Simulation(self.source.model.name, runner, self.sequences, ranges, device)


def _deployed(source: ModelSource, options: CompileOptions, sizes: Mapping[str, int]) -> Graph:
    _, whole = trace_model(source, sizes, step=True)
    return keep_outputs(phase_graph(whole, "deploy"), options.outputs)


def _check_steps(model: Model, sizes: Mapping[str, int], sequences: Sequences) -> None:
    """Raise :class:`DataError` if a model of one sequence is to run several whose axes may be [N, T, ...] by mistake:
    no input without time shows that N counts sequences, and the model's number of steps does not tell N from T."""
    fed = sequences.inputs.values()
    if sequences.frames or not sequences.single or sequences.count < 2 or any(e.batch == 0 for e in fed):
        return
    name, array = next((each.name, each.array) for each in fed if each.time is not None and each.batch is not None)
    steps, count, time = sequences.steps, sequences.count, model.inputs[name].shape[0]
    given = sizes.get(time.name, time.default) if isinstance(time, Dim) else time
    if given == steps != count:
        return
    own = "no number of steps" if given is None else f"{given} steps"
    remedy = sizes_argument({str(time): steps})
    mend = f"of [T, N, ...] say the number of steps by {remedy}"
    raise DataError(
        f"{name} {list(array.shape)}: expected [T, N, ...], {steps} steps of {count} sequences; it may be [N, T, ...],"
        f" as {model.name} has {own}",
        notes=[
            "transpose an array [N, T, ...]; "
            + (mend if steps != count else "leave a sequence out of as many as steps")
        ],
    )
