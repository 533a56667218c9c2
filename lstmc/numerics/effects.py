"""The effects of a device's numbers on a net: errors of outputs by step, their causes, stalling states, and advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lstmc.errors import DataError
from lstmc.ir import Ref
from lstmc.numerics.chosen import integer_rounding
from lstmc.numerics.device import BITS, Device, Range, State
from lstmc.numerics.ranges import Ranges
from lstmc.numerics.rounding import DeviceRounding, weight_slot
from lstmc.numerics.sequences import Sequences, StepRunner, constants
from lstmc.ops import Array
from lstmc.process.status import report_activity

__all__ = ["NumbersReport", "Simulation"]

CAUSE_STEPS = 6000  # steps of a few sequences, divided among the tried variants: 20 to 200 for each; 0: none are tried
CAUSE_SEQUENCES = 8
CHANGE_STEPS = 200  # steps for the comparison with another form of the net
HEADROOM = 0.25
HELPS = 0.8  # a change is advised if it leaves at most this part of the error
STALLS = 0.05  # a state is reported if at least this share of its updates has no effect
Runners = Callable[[int, DeviceRounding | None], StepRunner]


@dataclass(frozen=True)
class OutputError:
    """The absolute error of all elements of an output or a state against float32; ``size`` is its root mean square.
    ``by_step`` has the mean error after each step. ``other_choices`` has for each step the share of rows in which
    another element is the largest: with scores of classes, another choice."""

    name: str
    mean: float
    largest: float
    size: float
    by_step: tuple[float, ...]
    other_choices: tuple[float, ...]

    @property
    def relative(self) -> float:
        return self.mean / self.size if self.size else self.mean


@dataclass(frozen=True)
class StateEffect:
    """A state in a device's numbers: the distance of two numbers (0 for floats), and the share of its updates that
    change the float32 number and not the device's number."""

    name: str
    format: str
    distance: float
    stalled: float


@dataclass(frozen=True)
class Guilt:
    """The part of the error that goes away if one value (or the weights of one product) stays in float32."""

    name: str
    kind: str
    mends: float


@dataclass(frozen=True)
class Change:
    """A change of the device's numbers in words, and the error with the change as a part of the error without."""

    text: str
    error: float


@dataclass(frozen=True)
class ReaderOutput:
    """An output of the quantised net in the reader: its errors against float32, the mean error that the simulation
    predicts for the same sequences, and the number of different values, which is small for integers."""

    error: OutputError
    predicted: float
    values: int

    @property
    def ratio(self) -> float:
        """The predicted mean error as a multiple of the reader's."""
        return self.predicted / self.error.mean if self.error.mean else float("inf") if self.predicted else 1.0


@dataclass(frozen=True)
class NumbersReport:
    """The effects of the numbers of ``device`` on a net, over ``sequences`` of ``steps``. ``clipped`` has by value the
    share of elements outside of the calibrated range, ``accumulated`` by layer the bits of the largest sum in a product
    of integers, of which the device has ``accumulator``. ``reader`` has the outputs of the reader, if it ran."""

    net: str
    device: Device
    sequences: int
    steps: int
    outputs: tuple[OutputError, ...]
    states: tuple[StateEffect, ...]
    guilty: tuple[Guilt, ...]
    clipped: Mapping[str, float]
    accumulated: Mapping[str, float]
    changes: tuple[Change, ...]
    reader: tuple[ReaderOutput, ...] = ()

    @property
    def error(self) -> float:
        """The mean error of all outputs, relative to their size."""
        return float(np.mean([each.relative for each in self.outputs]))

    @property
    def overflows(self) -> dict[str, float]:
        """The layers whose sums need more bits than the device has, with the number of bits."""
        return {name: bits for name, bits in self.accumulated.items() if bits > self.device.accumulator}

    @property
    def advice(self) -> list[str]:
        """The changes that reduce the error, the most helpful first, and warnings of stalling states and overflows."""
        helpful = sorted((each for each in self.changes if each.error <= HELPS), key=lambda each: each.error)
        lines = [f"{each.text}: {each.error:.0%} of the error is left" for each in helpful]
        for state in self.states:
            if state.stalled >= STALLS:
                lines.append(f"state {state.name} stalls: {state.stalled:.0%} of its updates change no number")
        has = f"the device has {self.device.accumulator}"
        return lines + [f"{n} may overflow: its sums need {b:.0f} bits, {has}" for n, b in self.overflows.items()]

    def __str__(self) -> str:
        lines = [f"{self.net}, {self.device.name}: {self.sequences} sequences of {self.steps} steps"]
        lines += [f"  {e.name}: mean error {e.mean:.2g}, largest {e.largest:.2g}" for e in self.outputs]
        lines += [f"  {e.error.name} in the reader: mean error {e.error.mean:.2g}" for e in self.reader]
        return "\n".join([*lines, *(f"  {line}" for line in self.advice)])

    def as_json(self) -> dict[str, Any]:
        """Return the report as an object of JSON."""
        return asdict(self) | {"device": self.device.name, "advice": self.advice, "overflows": self.overflows}


class _Trial:
    """A simulated device beside the exact net: sums up the errors of outputs, step by step."""

    def __init__(self, runner: StepRunner, outputs: Sequence[str], steps: int) -> None:
        self.runner, self.refs = runner, {name: runner.after[name] for name in outputs}
        assert isinstance(runner.rounding, DeviceRounding)
        self.rounding = runner.rounding
        # sums of absolute errors, of squares, and of rows with another largest element, by step
        self.sums = {name: np.zeros((steps, 3)) for name in outputs}
        self.largest = dict.fromkeys(outputs, 0.0)
        self.stalled = {pair.name: np.zeros(2) for pair in runner.states}  # updates without effect, and all updates

    def step(
        self, t: int, inputs: Mapping[str, Array], exact: Mapping[Ref, Array], before: Mapping[str, Array]
    ) -> None:
        """Run one step on the device, and add up its errors against ``exact`` values; ``before``: the exact states."""
        own_before = self.runner.current
        values = self.runner.step(inputs)
        for name, ref in self.refs.items():
            error = np.abs(values[ref].astype(np.float64) - exact[ref])
            other = np.count_nonzero(values[ref].argmax(-1) != exact[ref].argmax(-1)) * error.shape[-1]
            self.sums[name][t] += error.sum(), (exact[ref].astype(np.float64) ** 2).sum(), other
            self.largest[name] = max(self.largest[name], float(error.max()))
        for pair in self.runner.states:
            ref = self.runner.after[pair.after]
            moved = exact[ref] != before[pair.name]
            still = values[ref] == own_before[pair.name]
            self.stalled[pair.name] += np.count_nonzero(moved & still), np.count_nonzero(moved)

    def outputs(self, elements: Mapping[str, int]) -> tuple[OutputError, ...]:
        """Return the errors of all outputs. ``elements`` has each output's elements in one step of all sequences."""
        errors = []
        for name, sums in self.sums.items():
            count = elements[name] * len(sums)
            size = float(np.sqrt(sums[:, 1].sum() / count))
            by_step, _, others = (tuple(map(float, column)) for column in sums.T / elements[name])
            errors.append(OutputError(name, float(sums[:, 0].sum() / count), self.largest[name], size, by_step, others))
        return tuple(errors)


@dataclass(frozen=True)
class _Variant:
    """A device that leaves some values or weights exact; ``counts`` as in :class:`DeviceRounding`."""

    device: Device
    exact: tuple[Ref, ...] = ()
    exact_weights: tuple[str, ...] = ()
    counts: bool = False


class Simulation:
    """A net of one step in the numbers of a device, calibrated by ``ranges``, over sequences. ``runners`` returns the
    net for a number of sequences, with or without a rounding. Raises :class:`DataError` if values are not finite."""

    def __init__(self, net: str, runners: Runners, sequences: Sequences, ranges: Ranges, device: Device) -> None:
        self._net, self._runners, self._sequences, self._device = net, runners, sequences, device
        exact = runners(1, None)
        graph = exact.graph
        self.graph, self._fixed = graph, constants(graph)  # the latter are the names of constant nodes
        named = graph.named()
        if wrong := [each.name for each in ranges if each.not_finite]:
            notes = ["no numbers of a device can be simulated: the ranges list them"]
            raise DataError(f"the values of {net} are not finite in float32: {wrong[0]} is the first", notes=notes)
        known = [each for each in ranges if each.name in named]
        self._ranges: dict[Ref, Range] = {named[each.name]: (each.least, each.greatest) for each in known}
        if device.weights.computed:  # constants are rounded like values
            self._ranges |= {ref: (float(each.min()), float(each.max())) for ref, each in exact.constants.items()}

    def _rounding(self, runner: StepRunner, variant: _Variant) -> DeviceRounding:
        """Return the arithmetic of a variant of the device for a net."""
        states = {Ref(pair.before): runner.after[pair.after] for pair in runner.states}
        options = (variant.exact, variant.exact_weights, variant.counts)
        if variant.device.arithmetic == "integer":
            return integer_rounding(variant.device, runner.graph, self._ranges, states, *options)
        return DeviceRounding(variant.device, runner.graph, self._ranges, {*states, *states.values()}, *options)

    def report(self) -> NumbersReport:
        """Simulate the device on all sequences, find the causes of its errors on some of them, and report both."""
        count, steps = self._sequences.total, self._sequences.steps
        (trial,), elements = self._run([_Variant(self._device, counts=True)], count, steps, "simulating")
        rounding, graph = trial.rounding, self.graph
        beyond = {ref: clipped for ref, clipped in rounding.clipped.items() if clipped and ref in rounding.sites}
        clipped = {graph.value_name(ref): n / (graph.type(ref).size * steps * count) for ref, n in beyond.items()}
        accumulated = {name: float(np.log2(max(most, 1.0))) + 1 for name, most in rounding.accumulated.items()}
        guilty, changes = self._causes(rounding)
        return NumbersReport(
            self._net, self._device, count, steps, trial.outputs(elements), tuple(self._state(trial, rounding)), guilty,
            clipped, accumulated, changes,
        )  # fmt: skip

    def first_error(self) -> float:
        """Return the mean error of all outputs relative to their size, on a few sequences and steps."""
        steps = min(CHANGE_STEPS, self._sequences.steps)
        count = min(CAUSE_SEQUENCES, self._sequences.total)
        (trial,), elements = self._run([_Variant(self._device)], count, steps, "simulating")
        return float(np.mean([each.relative for each in trial.outputs(elements)]))

    def _state(self, trial: _Trial, rounding: DeviceRounding) -> Iterator[StateEffect]:
        """Yield the effect of the device's numbers on each state."""
        for pair in trial.runner.states:
            ref = trial.runner.after[pair.after]
            grid, (still, moved) = rounding.grid(ref), trial.stalled[pair.name]
            distance, stalled = grid.scale if grid else 0.0, float(still / moved) if moved else 0.0
            yield StateEffect(pair.name, rounding.format_of(ref), distance, stalled)

    def _causes(self, rounding: DeviceRounding) -> tuple[tuple[Guilt, ...], tuple[Change, ...]]:
        """Return the error that each value and weight causes, the guiltiest first, and changes that were tried."""
        if not CAUSE_STEPS:
            return (), ()
        device = self._device
        running = [node for node in self.graph if node.name not in self._fixed]
        products = [node.name for node in running if weight_slot(self.graph, node, self._fixed) is not None]
        weights = products if device.weights.format != "float" else []
        suspects = [(self.graph.value_name(ref), "value", _Variant(device, exact=(ref,))) for ref in rounding.sites]
        suspects += [(name, "weights", _Variant(device, exact_weights=(name,))) for name in weights]
        changed = dict(self._changed())
        trials = [_Variant(device), *(variant for _, _, variant in suspects), *map(_Variant, changed.values())]
        steps = min(max(20, min(200, CAUSE_STEPS // len(trials))), self._sequences.steps)
        done, elements = self._run(trials, min(CAUSE_SEQUENCES, self._sequences.total), steps, "causes of")
        errors = [float(np.mean([each.relative for each in trial.outputs(elements)])) for trial in done]
        base, *rest = [error / (errors[0] or 1.0) for error in errors]
        tried = zip(suspects, rest[: len(suspects)], strict=True)
        guilty = sorted((Guilt(n, kind, base - error) for (n, kind, _), error in tried), key=lambda each: -each.mends)
        changes = tuple(Change(text, error) for text, error in zip(changed, rest[len(suspects) :], strict=True))
        return tuple(guilty), changes

    def _changed(self) -> Iterator[tuple[str, Device]]:
        """Yield devices that differ from this device in one kind of numbers, each with a text that names the change."""
        device = self._device
        if device.kernels:  # these fix ranges and weights; with states of 16 bits the net is another one
            if device.values.format == "int8":
                yield "values in 16 bits (a16w8)", replace(device, values=replace(device.values, format="int16"))
            return
        if device.values.format == "int8" and device.state is None:
            yield "states in 16 bits", replace(device, state=State("int16"))
        if device.values.format in BITS and not device.values.headroom:
            more = replace(device.values, headroom=HEADROOM)
            yield f"ranges with {HEADROOM:.0%} headroom", replace(device, values=more)
        if device.values.format == "int8":
            yield "values in 16 bits", replace(device, values=replace(device.values, format="int16"))
        if device.weights.format in BITS and device.weights.per != "row":
            yield "weights with a scale for each row", replace(device, weights=replace(device.weights, per="row"))
        if device.weights.format == "int8":
            yield "weights in 16 bits", replace(device, weights=replace(device.weights, format="int16"))

    def _run(
        self, variants: Sequence[_Variant], count: int, steps: int, what: str
    ) -> tuple[list[_Trial], dict[str, int]]:
        """Run each variant of the device beside the exact net over ``count`` sequences; ``what`` begins reports of
        progress. Return a trial for each, and how many elements each output has in one step of all sequences."""
        done: list[_Trial] = []
        elements: dict[str, int] = {}
        parts = [slice(part.start, min(part.stop, count)) for part in self._sequences.parts() if part.start < count]
        for index, part in enumerate(parts):
            width = part.stop - part.start
            exact = self._runners(width, None)
            outputs = exact.outputs
            roundings = [trial.rounding for trial in done] or [self._rounding(exact, each) for each in variants]
            runners = [self._runners(width, rounding) for rounding in roundings]
            done = done or [_Trial(runner, outputs, steps) for runner in runners]
            for trial, runner in zip(done, runners, strict=True):
                trial.runner = runner
            for t, inputs in self._sequences.stream(part, stop=steps):
                if t == 0:
                    for each in (exact, *runners):
                        each.start(inputs)
                if t % 8 == 0:
                    percent = 100 * (index * steps + t) // (len(parts) * steps)
                    report_activity(f"{what} {self._net} in {self._device.name}, {percent} %")
                before = exact.current
                values = exact.step(inputs)
                for trial in done:
                    trial.step(t, inputs, values, before)
            for name in outputs:
                elements[name] = elements.get(name, 0) + exact.graph.type(exact.after[name]).size
        return done, elements
