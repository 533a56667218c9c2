"""A net over a file, or a folder of files: arrays are cut into batches, and some batches make a part. Outputs go into
HDF5 files, in order, and an interrupted run continues from its finished parts."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from math import prod
from pathlib import Path

import numpy as np

from lstmc.backend import TRAINING_INPUT, OpenNet, load_backend
from lstmc.errors import DataError, LstmcError, OutputError, SweepError
from lstmc.files.arrays import StoredArray, h5py_package, npz_bytes, read_arrays, read_npz, wrong_names
from lstmc.files.lock import hold_folder
from lstmc.files.output import write_files
from lstmc.ops import Array
from lstmc.process.pool import Pool, SerialPool, pool
from lstmc.process.status import report_activity

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """The axis of each array that counts examples: of ``inputs`` and ``outputs``; None for an array that is used whole.

    ``count`` examples make batches of ``per_batch``, the last of which may have fewer. With ``stacked`` a row is a
    whole batch, along a first axis that the net lacks, and ``per_batch`` is 1. Outputs have None if all arrays have
    exactly the net's shapes: there is one batch.
    """

    inputs: Mapping[str, int | None]
    outputs: Mapping[str, int | None]
    count: int
    per_batch: int
    stacked: bool

    @property
    def batches(self) -> int:
        return -(-self.count // self.per_batch)

    def rows(self, batch: int) -> tuple[int, int]:
        """Return the first example of a batch, and the index after its last."""
        return batch * self.per_batch, min((batch + 1) * self.per_batch, self.count)

    def net_input(self, name: str, part: Array) -> Array:
        """Return a part of an input in the net's shape; in an incomplete batch the last example is repeated."""
        axis = self.inputs[name]
        if axis is None:
            return part
        if self.stacked:
            return np.asarray(part[0])
        missing = self.per_batch - part.shape[axis]
        width = [(0, missing if at == axis else 0) for at in range(part.ndim)]
        return np.pad(part, width, mode="edge") if missing else part

    def first_examples(self, name: str, array: Array, count: int) -> Array:
        """Return the first ``count`` examples of an output of one batch; of stacked batches the whole output."""
        axis = self.outputs[name]
        if self.stacked:
            return array[None]
        return array if axis is None else np.take(array, np.arange(count), axis)


def layout_of(
    source: str,
    shapes: Shapes,
    outputs: Shapes,
    arrays: Shapes,
    optional: Collection[str] = (),
    training_inputs: Collection[str] = (),
) -> Layout:
    """Return how arrays, given by their shapes, fit a net's inputs (``shapes``); ``source`` names the arrays in errors.

    Inputs that are ``optional`` may be absent; only training needs ``training_inputs``. An array has the input's shape
    with another size on the axis that counts examples, or one more axis in front; an array with exactly the input's
    shape is used for every batch. Raises :class:`DataError` with everything that does not fit, and for outputs whose
    axis of examples is ambiguous.
    """
    why_extra = dict.fromkeys(training_inputs, f": {TRAINING_INPUT}")
    problems = wrong_names({name: list(shape) for name, shape in shapes.items()}, arrays, optional, why_extra)
    both = {name: (shapes[name], arrays[name]) for name in shapes if name in arrays}
    stacked = any(len(array_shape) == len(shape) + 1 for shape, array_shape in both.values())
    axes: dict[str, int | None] = {}
    counts: dict[str, tuple[int, int]] = {}
    for name, (shape, array_shape) in both.items():
        axis = axes[name] = _axis(shape, array_shape, stacked)
        if axis is not None:
            counts[name] = (array_shape[axis], 1 if stacked else shape[axis])
        elif array_shape != shape:
            forms = f"{list(shape)} with any number of examples on one axis, or any number of such"
            problems.append(f"wrong shape: {name} must be {forms}, found {list(array_shape)}")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, (count, _) in counts.items())
        problems.append(f"expected the same number of examples in all arrays: {listed}")
    count, size = next(iter(counts.values()), (1, 1))
    if count == 0:
        problems.append("there are no examples")
    places = {name: _output_axis(shape, size, stacked) if counts else None for name, shape in outputs.items()}
    problems += [
        f"output {name} {list(outputs[name])} has not one axis of size {size}: the axis of the examples is ambiguous;"
        " give whole batches, with a leading axis for them"
        for name, place in places.items()
        if counts and place is None
    ]
    if problems:
        raise DataError(f"{source} does not fit the net", notes=problems)
    return Layout(axes, places, count, size, stacked and bool(counts))


def _axis(shape: tuple[int, ...], array_shape: tuple[int, ...], stacked: bool) -> int | None:
    """Return the axis of an array that counts examples, or batches if ``stacked``; None unless one axis differs."""
    if stacked:
        return 0 if array_shape[1:] == shape and len(array_shape) == len(shape) + 1 else None
    if len(shape) != len(array_shape):
        return None
    differ = [axis for axis, (size, actual) in enumerate(zip(shape, array_shape, strict=True)) if size != actual]
    return differ[0] if len(differ) == 1 else None


def _output_axis(shape: tuple[int, ...], size: int, stacked: bool) -> int | None:
    """Return the axis of an output that counts examples, or batches if ``stacked``; None unless one has ``size``."""
    if stacked:
        return 0
    places = [axis for axis, axis_size in enumerate(shape) if axis_size == size]
    return places[0] if len(places) == 1 else None


SUFFIXES = (".h5", ".hdf5")


def join(parts: Sequence[Path], layout: Layout, to: Path) -> None:
    """Write the outputs of all parts, in order, into one HDF5 file. Raises :class:`~lstmc.errors.OutputError`."""
    write_files(to.parent, {to.name: partial(_join, parts, layout)})


def _join(parts: Sequence[Path], layout: Layout, path: Path) -> None:
    """Write the outputs of all parts into an HDF5 file: outputs along the axis of examples one after another."""
    with h5py_package().File(path, "w") as file:
        for part in parts:
            for name, stored in read_npz(part, DataError).items():
                axis, array = layout.outputs[name], np.asarray(stored)
                if axis is None:
                    file.create_dataset(name, data=array)
                    continue
                if name not in file:
                    most = tuple(None if at == axis else size for at, size in enumerate(array.shape))
                    empty = tuple(0 if at == axis else size for at, size in enumerate(array.shape))
                    file.create_dataset(name, empty, array.dtype, maxshape=most, chunks=True)
                dataset = file[name]
                start = dataset.shape[axis]
                dataset.resize(start + array.shape[axis], axis)
                dataset[(slice(None),) * axis + (slice(start, None),)] = array


@dataclass(frozen=True)
class NetUse:
    """A net, and how it is run. All workers use the same paths."""

    net: str
    backend: str
    weights: str | None = None
    gpu: bool = False

    def open(self) -> OpenNet:
        backend = load_backend(self.backend)
        return backend.opened(Path(self.net), None if self.weights is None else Path(self.weights), self.gpu)


@dataclass(frozen=True)
class Part:
    """The batches from ``first`` up to ``end`` of the arrays in ``source``; their outputs go into the file ``to``."""

    use: NetUse
    source: str
    layout: Layout
    first: int
    end: int
    to: str


_OPEN: dict[NetUse, OpenNet] = {}  # nets of this process: each is loaded once, and its Caffe lives as long


def run_part(part: Part) -> None:
    """Run the batches of a part, and write all outputs or none. Raises the error of a forward pass that fails."""
    outputs: dict[str, list[Array]] = {}
    arrays = _arrays(part.source)
    net = _OPEN.get(part.use) or _OPEN.setdefault(part.use, part.use.open())
    for batch in range(part.first, part.end):
        start, stop = part.layout.rows(batch)
        fed = {
            name: part.layout.net_input(
                name, np.asarray(arrays[name]) if axis is None else arrays[name].part(axis, start, stop)
            )
            for name, axis in part.layout.inputs.items()
        }
        for name, array in net.run(fed).items():
            outputs.setdefault(name, []).append(part.layout.first_examples(name, array, stop - start))
    joined = {name: np.concatenate(pieces, part.layout.outputs[name] or 0) for name, pieces in outputs.items()}
    _close_at_the_end()
    path = Path(part.to)
    write_files(path.parent, {path.name: npz_bytes(joined)})


@lru_cache(maxsize=1)  # an .npz file is read whole: once for consecutive parts
def _arrays(source: str) -> dict[str, StoredArray]:
    return read_arrays(Path(source))


@cache
def _close_at_the_end() -> None:
    atexit.register(close_nets)


def close_nets() -> None:
    """Close all nets and files of this process."""
    _arrays.cache_clear()
    while _OPEN:
        _, net = _OPEN.popitem()
        with suppress(Exception):
            net.close()


PART_BYTES = 32 << 20  # about the bytes of a part's inputs and outputs
ABOUT = "part_of.json"
TRIES = 3  # attempts for a part whose worker ends
AHEAD = 2  # parts that wait for each worker
LOOK_SECONDS = 0.5
READ = (".npz", *SUFFIXES)


@dataclass(frozen=True)
class Finished:
    """The result of a file: the number of ``examples`` in the output file ``to``, or the ``problem``."""

    source: Path
    to: Path
    examples: int = 0
    problem: str = ""


@dataclass(frozen=True)
class _Job:
    """A file, and its parts."""

    source: Path
    to: Path
    layout: Layout
    parts: tuple[Part, ...]

    @property
    def folder(self) -> Path:
        return _parts_folder(self.to)


def run_bulk(
    use: NetUse,
    source: Path,
    to: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Finished]:
    """Run a net over a file, into the HDF5 file ``to``; or over the files of a folder, into files in a folder ``to``.

    Without a scheduler and a number of workers, this process does everything. Finished parts of an interrupted run are
    kept in a folder beside the output, and the same call continues. In a folder, a file that does not fit is reported
    and the run continues. Raises :class:`DataError` if a single file does not fit the net, or if the package h5py is
    missing; and :class:`SweepError` if workers end again and again.
    """
    h5py_package()  # before anything is run
    several = os.path.isdir(source)
    pairs = _files(source, to) if several else [(source, _hdf5_path(to))]
    with ExitStack() as stack:
        stack.callback(close_nets)
        opened = use.open()
        inputs, outputs, optional = dict(opened.inputs), dict(opened.outputs), set(opened.optional)
        labels = tuple(opened.training_inputs)
        opened.close()
        jobs: list[_Job] = []
        for path, target in pairs:
            if several and target.exists():
                continue  # the file is complete, because it was renamed into its place
            try:
                shapes = {name: array.shape for name, array in read_arrays(path).items()}
                layout = layout_of(str(path), inputs, outputs, shapes, optional, labels)
            except DataError as error:
                if not several:
                    raise
                yield Finished(path, target, problem=error.message)
                continue
            job = _job(use, path, target, layout, 4 * sum(map(prod, (*inputs.values(), *outputs.values()))))
            stack.enter_context(_hold_parts(job))
            jobs.append(job)
        alone = scheduler is None and workers is None
        job_pool = SerialPool() if alone else stack.enter_context(pool(scheduler, workers))
        yield from _run(jobs, job_pool, several, stop)


def _run(jobs: list[_Job], workers: Pool | SerialPool, several: bool, stop: Callable[[], bool]) -> Iterator[Finished]:
    """Run the pending parts of jobs by workers, and yield the result of each file when it ends."""
    parts = {part.to: (job, part) for job in jobs for part in job.parts if not Path(part.to).exists()}
    left = {job.to: parts.keys() & {part.to for part in job.parts} for job in jobs}
    queue, tries, failed = list(parts), dict.fromkeys(parts, 0), set[Path]()
    for job in jobs:
        if not left[job.to]:
            yield _join_parts(job)
    total = len(parts)
    while (queue or workers.waiting) and not stop():
        while queue and workers.waiting < AHEAD * workers.workers:
            name = queue.pop(0)
            workers.submit(run_part, parts[name][1], name)
        for ended in workers.ended(LOOK_SECONDS):
            job, _ = parts[ended.name]
            tries[ended.name] += 1
            if ended.problem and isinstance(ended.error, LstmcError):  # the same error would come again
                if not several:
                    raise ended.error
                if job.to not in failed:
                    failed.add(job.to)
                    queue = [name for name in queue if parts[name][0] is not job]
                    yield Finished(job.source, job.to, problem=ended.error.message)
            elif ended.problem:
                if tries[ended.name] >= TRIES:
                    raise SweepError(f"{job.source}: {ended.problem}")
                queue.insert(0, ended.name)
            else:
                left[job.to].discard(ended.name)
                done = total - sum(map(len, left.values()))
                report_activity(f"{done} of {total} parts, {100 * done // total} %")
                if not left[job.to]:
                    yield _join_parts(job)


def _join_parts(job: _Job) -> Finished:
    join([Path(part.to) for part in job.parts], job.layout, job.to)
    shutil.rmtree(job.folder, ignore_errors=True)
    return Finished(job.source, job.to, job.layout.count)


def _job(use: NetUse, source: Path, to: Path, layout: Layout, batch_bytes: int) -> _Job:
    """Return the job of a file: its parts, each with as many batches as fit into ``PART_BYTES``."""
    per_part = max(1, PART_BYTES // max(1, batch_bytes))
    starts = range(0, layout.batches, per_part)
    data, folder = str(source.absolute()), _parts_folder(to).absolute()
    parts = tuple(
        Part(use, data, layout, first, min(first + per_part, layout.batches), str(folder / f"{first:09d}.npz"))
        for first in starts
    )
    return _Job(source, to, layout, parts)


@contextmanager
def _hold_parts(job: _Job) -> Iterator[None]:
    """Lock the folder of a job's parts for this process; parts of another net or of other data are removed."""
    lock = job.to.with_name(f".{job.to.name}.lock")
    busy = SweepError(f"another process writes {job.to}: wait for it")
    with hold_folder(job.folder, lock, busy, str(job.to)):
        about, now = job.folder / ABOUT, _dependences(job)
        if not about.exists() or about.read_bytes() != now:
            shutil.rmtree(job.folder)
            write_files(job.folder, {ABOUT: now})
        yield
    lock.unlink(missing_ok=True)


def _dependences(job: _Job) -> bytes:
    """Return what the parts depend on: hashes of the net's files; the size and time of the data, too large to hash."""
    part = job.parts[0]
    net = Path(part.use.net)
    files = {str(path): path for path in (net, Path(part.use.weights or net), *net.parent.glob(f"{net.stem}.*"))}
    facts = {
        "use": asdict(part.use),
        "net": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())},
        "data": [str(job.source.absolute()), job.source.stat().st_size, job.source.stat().st_mtime_ns],
        "layout": asdict(job.layout),
        "parts": [[each.first, each.end] for each in job.parts],
    }
    return json.dumps(facts, indent=1).encode()


def _parts_folder(to: Path) -> Path:
    return to.with_name(f".{to.name}.parts")


def _hdf5_path(to: Path) -> Path:
    if to.suffix not in SUFFIXES:
        raise OutputError(f"{to}: expected a file that ends in {' or '.join(SUFFIXES)}, for outputs of any size")
    return to


def _files(source: Path, to: Path) -> list[tuple[Path, Path]]:
    """Return the files of arrays in a folder, each with its output file. Raise DataError for none, or equal outputs."""
    sources = sorted(path for path in source.iterdir() if path.suffix in READ and not path.name.startswith("."))
    if not sources:
        raise DataError(f"{source}: expected files that end in {', '.join(READ)}, found none")
    targets: dict[Path, Path] = {}
    for path in sources:
        target = to / f"{path.stem}{SUFFIXES[0]}"
        if target in targets:
            raise DataError(f"{targets[target]} and {path} would both be written as {target}: give one another name")
        targets[target] = path
    return [(path, target) for target, path in targets.items()]
