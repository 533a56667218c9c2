"""The ranges of every value of a net over streams of data: extremes, percentiles, saturation, changes of states. Each
value has a histogram over the 65 536 numbers of bfloat16 (sign, exponent and seven bits), to which float32 is
truncated. Histograms of parts add up, need no range in advance, and give percentiles to 0.4 % of a number. Extremes and
means are over all elements; percentiles and shares of a value with many elements over a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import DataError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.files.output import write_files
from lstmc.ir import Graph, Ref
from lstmc.numerics.sequences import Sequences, StepRunner, constants
from lstmc.ops import Array, Concat, Input, Op, Pointwise, Sigmoid, Split, Tanh
from lstmc.process.status import report_activity

__all__ = ["Ranges", "ValueRange", "measure_ranges"]

BINS = 1 << 16
BUFFERED = 1 << 18  # elements that are counted at a time
SAMPLED = 1 << 14  # of larger arrays about so many elements are counted, evenly spread, each for several
STRIP = 200  # spans of equally many steps, each with statistics of its own
SAVE_SECONDS = 20.0  # seconds between two snapshots of a measurement
PERCENTILES = (0.1, 1.0, 25.0, 50.0, 75.0, 99.0, 99.9)
SATURATED = 0.01  # saturated: this near to an asymptote, as a part of the distance between both asymptotes
BOUNDS: Mapping[type, tuple[float, float]] = {Sigmoid: (0.0, 1.0), Tanh: (-1.0, 1.0)}

Kind = Literal["input", "state", "change", "gate", "blob", "parameter"]


@dataclass(frozen=True)
class ValueRange:
    """The range of one value. Shares are of all its elements, in all steps of all sequences. A range of kind ``change``
    is the absolute change of a state in a step. ``saturated`` is the share within 1 % of an asymptote of a sigmoid or
    tanh, None for other values. ``over_time``: least, mean and greatest number in each of STRIP spans of steps."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    least: float
    greatest: float
    mean: float
    percentiles: Mapping[float, float]
    zero: float
    saturated: float | None
    not_finite: int
    over_time: Sequence[tuple[float, float, float]] = ()

    @property
    def magnitude(self) -> float:
        """The greatest absolute value."""
        return max(abs(self.least), abs(self.greatest))


@dataclass(frozen=True)
class Ranges:
    """The ranges of all values of a net, by name, over ``sequences`` of ``steps``."""

    net: str
    sequences: int
    steps: int
    values: Mapping[str, ValueRange] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ValueRange:
        return self.values[name]

    def __iter__(self) -> Iterator[ValueRange]:
        return iter(self.values.values())

    def __str__(self) -> str:
        lines = [f"{self.net}: {len(self.values)} values, {self.sequences} sequences of {self.steps} steps"]
        lines += [f"  {each.name} ({each.kind}): {each.least:.4g} to {each.greatest:.4g}" for each in self]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return the ranges as an object of JSON."""
        return asdict(self) | {"values": [asdict(each) for each in self]}


@cache
def _centres() -> NDArray[np.float64]:
    """Return the middle of each bin. For a bin that ends at infinity, it is the bin's beginning."""
    bits = np.arange(BINS, dtype=np.uint32) << 16
    with np.errstate(all="ignore"):
        low, high = (b.view(np.float32).astype(np.float64) for b in (bits, bits | 0xFFFF))
        centres = np.where(np.isfinite(high), (low + high) / 2, low)
    centres[[0, BINS // 2]] = 0
    return centres


@cache
def _ascending() -> NDArray[np.int64]:
    finite = np.flatnonzero((np.arange(BINS) & 0x7F80) != 0x7F80)
    return np.concatenate([finite[finite >= BINS // 2][::-1], finite[finite < BINS // 2]])


class _Tally:
    """The statistics of one value: its histogram, the figures of all steps, and those of each span in ``strip``."""

    def __init__(self, name: str, kind: Kind, shape: tuple[int, ...], bounds: tuple[float, float] | None) -> None:
        self.name, self.kind, self.shape, self.bounds = name, kind, shape, bounds
        self.bins = np.zeros(BINS, np.int64)
        self.figures = np.array([np.inf, -np.inf, 0.0, 0.0])  # least, greatest, sum, elements
        self.strip = np.tile(self.figures, (STRIP, 1))
        self._waiting: list[NDArray[np.uint16]] = []  # bins of elements that are not yet in ``bins``
        self._count, self._every = 0, 1  # how many these are, and for how many elements each of them counts

    @np.errstate(over="ignore", invalid="ignore")  # of values that are not finite
    def add(self, array: Array, span: int | None = None) -> None:
        """Count the elements of an array. ``span`` is the index of the span of their step; None for a parameter."""
        array = np.ascontiguousarray(array, np.float32)
        total = float(array.sum())
        known = array[~np.isnan(array)] if np.isnan(total) else array
        least, greatest = float(known.min(initial=np.inf)), float(known.max(initial=-np.inf))
        figures = (least, greatest, total, float(array.size))
        for row in (self.figures, *(() if span is None else (self.strip[span],))):
            row[0], row[1] = min(row[0], figures[0]), max(row[1], figures[1])
            row[2:] += figures[2:]
        every = array.size // SAMPLED | 1  # odd, so that all columns of a matrix with even sizes are counted in turn
        if every != self._every or self._count >= BUFFERED:
            self.flush()
        self._every = every
        self._waiting.append((array.reshape(-1)[::every].view(np.uint32) >> 16).astype(np.uint16))
        self._count += len(self._waiting[-1])

    @np.errstate(over="ignore", invalid="ignore")  # of values that are not finite
    def merge(self, other: _Tally) -> None:
        """Add the counts of another value's tally to this tally."""
        other.flush()
        self.bins += other.bins
        for row, more in zip((self.figures, *self.strip), (other.figures, *other.strip), strict=True):
            row[0], row[1] = min(row[0], more[0]), max(row[1], more[1])
            row[2:] += more[2:]

    def flush(self) -> None:
        if self._waiting:
            self.bins += self._every * np.bincount(np.concatenate(self._waiting), minlength=BINS)
            self._waiting, self._count = [], 0

    def result(self) -> ValueRange:
        """Return the range of the value from all that was counted."""
        self.flush()
        order = _ascending()
        counts, centres = self.bins[order], _centres()[order]
        total, finite = int(self.bins.sum()), int(counts.sum())
        least, greatest = (float(f) for f in self.figures[:2])
        if least > greatest:  # all are NaN
            least = greatest = float("nan")
        if not finite:
            percentiles = dict.fromkeys(PERCENTILES, float("nan"))
        else:
            places = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * finite, side="left")
            at = np.clip(centres[places], np.nan_to_num(least), np.nan_to_num(greatest))
            percentiles = dict(zip(PERCENTILES, map(float, at), strict=True))
        saturated = None
        if self.bounds is not None:
            low, high = self.bounds
            margin = SATURATED * (high - low)
            saturated = float(counts[(centres < low + margin) | (centres > high - margin)].sum() / total)
        rows = [(row[0], row[2] / row[3], row[1]) for row in self.strip if row[3]]
        return ValueRange(
            self.name, self.kind, self.shape, least, greatest, float(self.figures[2] / self.figures[3]), percentiles,
            float((self.bins[0] + self.bins[BINS // 2]) / total), saturated, total - finite,
            tuple((float(a), float(b), float(c)) for a, b, c in rows),
        )  # fmt: skip


class _Measured:
    """The tallies of a graph's values. A value that is split gets the counts of its pieces at the end."""

    def __init__(self, runner: StepRunner) -> None:
        """Prepare a tally for each value that is no constant and no view, and for the change of each state."""
        graph = runner.graph
        self._pairs = {pair.name: (Ref(pair.before), runner.after[pair.after]) for pair in runner.states}
        after = {elements_of(graph, ref) for _, ref in self._pairs.values()}
        fixed = constants(graph)
        self.tallies: dict[Ref, _Tally] = {}
        self._pieces: dict[Ref, list[Ref]] = {}
        for node in graph:
            if node.name in fixed or _is_view(graph, Ref(node.name)):
                continue
            if isinstance(node.op, Split):
                (whole,) = graph.args(node.name)
                self._pieces.setdefault(whole, node.refs)
            for out, (name, type_) in enumerate(zip(node.names, node.types, strict=True)):
                ref, bounds = Ref(node.name, out), asymptotes(graph, Ref(node.name, out))
                kind: Kind = "state" if ref in after else "gate" if bounds else "blob"
                kind = "input" if isinstance(node.op, Input) else kind
                self.tallies[ref] = _Tally(name, kind, type_.shape, bounds)
        shapes = {name: graph.type(ref).shape for name, (_, ref) in self._pairs.items()}
        self.changes = {name: _Tally(f"{name} change", "change", shape, None) for name, shape in shapes.items()}

    def add(self, values: Mapping[Ref, Array], span: int) -> None:
        """Count the values of one step. ``span`` is the index of the span of steps that contains the step."""
        for ref, tally in self.tallies.items():
            if ref not in self._pieces:
                tally.add(values[ref], span)
        for name, (before, after) in self._pairs.items():
            self.changes[name].add(np.abs(values[after] - values[before].reshape(values[after].shape)), span)

    @property
    def all(self) -> list[_Tally]:
        return [*self.tallies.values(), *self.changes.values()]

    def results(self) -> list[ValueRange]:
        for whole, pieces in reversed(self._pieces.items()):
            for piece in pieces if whole in self.tallies else ():
                self.tallies[whole].merge(self.tallies[piece])
        return [tally.result() for tally in self.all]


def asymptotes(graph: Graph, ref: Ref) -> tuple[float, float] | None:
    """Return the bounds of the sigmoid or tanh whose result, or a piece or view of it, a value is; None for others."""
    while isinstance(graph.node(ref.node).op, Split) or _is_view(graph, ref):
        ref = graph.args(ref.node)[0]
    return next((bounds for kind, bounds in BOUNDS.items() if isinstance(graph.node(ref.node).op, kind)), None)


def elements_of(graph: Graph, ref: Ref) -> Ref:
    """Return the value of which a value is a view, or the value itself."""
    while _is_view(graph, ref):
        (ref,) = graph.args(ref.node)
    return ref


def source_of(graph: Graph, ref: Ref, pieces: bool = False) -> Ref:
    """Return the value from which a value takes its elements as a piece, a view or a join of copies, so that both have
    one grid. With ``pieces``, a piece of a split is itself such a source."""
    while True:
        ref = elements_of(graph, ref)
        sources = set(graph.args(ref.node))
        if not isinstance(graph.node(ref.node).op, Concat if pieces else Split | Concat) or len(sources) != 1:
            return ref
        (ref,) = sources


def _is_view(graph: Graph, ref: Ref) -> bool:
    """Return whether a value has exactly the elements of one other value: reshaped, permuted or copied."""
    node, args = graph.node(ref.node), graph.args(ref.node)
    if len(args) != 1 or len(node.types) != 1 or graph.type(args[0]).size != node.types[0].size:
        return False
    return node.op.moves or _copies(node.op)


@lru_cache
def _copies(op: Op) -> bool:
    """Return whether an elementwise op returns its operand, such as a layer that gives a state a name."""
    probes = np.array([-1e30, -1.5, 0.0, 0.3, 1e30])
    with np.errstate(all="ignore"):
        return isinstance(op, Pointwise) and np.array_equal(op.eval(probes)[0], probes)


def measure_ranges(
    net: str, runners: Callable[[int], StepRunner], sequences: Sequences, parameters: Mapping[str, Array],
    snapshot: Path | None = None, stop: Callable[[], bool] = lambda: False,
) -> Ranges | None:  # fmt: skip
    """Stream all sequences through a net of one step, and return the ranges of its values. ``runners`` returns the net
    for a number of sequences. The measurement is saved in the file ``snapshot``, if given, from time to time; a later
    call continues from it, and the end removes it. Return None if ``stop`` ended the measurement early; the snapshot
    then has all that was measured. Raises :class:`DataError` for a snapshot of another measurement."""
    parts = list(sequences.parts())
    runner = runners(parts[0].stop)
    measured = _Measured(runner)
    place = _Place(snapshot, _fingerprint(net, runner, sequences, parameters), measured)
    begin = place.read()
    done = begin[0] * sequences.steps + begin[1]
    for index, part in enumerate(parts[begin[0] :], begin[0]):
        runner = runner if index == 0 else runners(part.stop - part.start)
        if index == begin[0] and begin[1]:
            runner.resume(place.states)
        for t, inputs in sequences.stream(part, begin[1] if index == begin[0] else 0):
            if t == 0:
                runner.start(inputs)
            if done % 16 == 0:
                report_activity(f"ranges of {net}, {100 * done // (len(parts) * sequences.steps)} %")
                stopping = stop()
                if stopping or place.due():
                    place.write(index, t, runner)
                if stopping:
                    return None
            measured.add(runner.step(inputs), t * STRIP // sequences.steps)
            done += 1
    place.remove()
    values = [*measured.results(), *(tally.result() for tally in _parameter_tallies(parameters))]
    return Ranges(net, sequences.total, sequences.steps, {each.name: each for each in values})


def _parameter_tallies(parameters: Mapping[str, Array]) -> Iterable[_Tally]:
    for name, array in parameters.items():
        tally = _Tally(name, "parameter", np.shape(array), None)
        tally.add(np.asarray(array))
        yield tally


def _fingerprint(net: str, runner: StepRunner, sequences: Sequences, parameters: Mapping[str, Array]) -> str:
    """Return a hash of the net, its parameters, and the shapes of the data with the elements of their first steps."""
    shapes = sorted((name, tuple(each.array.shape)) for name, each in sequences.inputs.items())
    names = [node.names for node in runner.graph]
    digest = sha256(repr((net, shapes, names)).encode())
    for arrays in (parameters, sequences.read(next(sequences.parts()), 0, 1)):
        for name in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


class _Place:
    """The snapshot of a measurement in a file: progress, states, and all counts. Without a path none is written."""

    def __init__(self, path: Path | None, fingerprint: str, measured: _Measured) -> None:
        self.path, self.fingerprint, self.measured = path, fingerprint, measured
        self.states: dict[str, Array] = {}
        self._saved = monotonic()

    def due(self) -> bool:
        return self.path is not None and monotonic() - self._saved > SAVE_SECONDS

    def read(self) -> tuple[int, int]:
        """Read the snapshot, and return the part and step to continue with. Raises DataError if it is another net's."""
        if self.path is None or not self.path.exists():
            return 0, 0
        arrays = {name: np.asarray(array) for name, array in read_npz(self.path, DataError).items()}
        fingerprint = bytes(arrays.get("fingerprint", np.zeros(0, np.uint8))).decode(errors="replace")
        if fingerprint != self.fingerprint:
            problem = "the snapshot of another measurement: expected one of this net and these data"
            raise DataError(f"{self.path}: {problem}", notes=["remove it to measure from the beginning"])
        for i, tally in enumerate(self.measured.all):
            tally.bins[arrays[f"{i}/places"]] = arrays[f"{i}/counts"]
            tally.figures[:], tally.strip[:] = arrays[f"{i}/figures"], arrays[f"{i}/strip"]
        self.states = {name.removeprefix("state/"): a for name, a in arrays.items() if name.startswith("state/")}
        part, step = map(int, arrays["at"])
        return part, step

    def write(self, part: int, step: int, runner: StepRunner) -> None:
        """Write the snapshot of a measurement that has reached a step of a part."""
        if self.path is None:
            return
        arrays: dict[str, NDArray[Any]] = {"at": np.array([part, step])}
        arrays["fingerprint"] = np.frombuffer(self.fingerprint.encode(), np.uint8)
        for i, tally in enumerate(self.measured.all):
            tally.flush()
            places = np.flatnonzero(tally.bins)
            arrays |= {f"{i}/places": places, f"{i}/counts": tally.bins[places]}
            arrays |= {f"{i}/figures": tally.figures, f"{i}/strip": tally.strip}
        arrays |= {f"state/{name}": array for name, array in runner.current.items()}
        write_files(self.path.parent, {self.path.name: npz_bytes(arrays)})
        self._saved = monotonic()

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
