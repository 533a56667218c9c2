"""A net over a file, or a folder of files: batch after batch, in order, and from where it was when it was ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Protocol

from lstmc.errors import DataError, LstmcError, OutputError, SweepError
from lstmc.files.arrays import read_arrays
from lstmc.files.output import hold_folder, write_files
from lstmc.nets.batches import SUFFIXES, Layout, NetUse, Part, close_nets, hdf5, join, layout_of, run_part
from lstmc.process.pool import Ended, SerialPool, pool
from lstmc.process.status import report_activity

PART_BYTES = 32 << 20  # of a part's inputs and outputs, about
ABOUT = "part_of.json"
TRIES = 3  # of a part whose worker ends
AHEAD = 2  # parts that wait for each worker
LOOK_SECONDS = 0.5
READ = (".npz", *SUFFIXES)


class Workers(Protocol):
    """A pool that runs parts; see :class:`~lstmc.process.pool.Pool`."""

    @property
    def waiting(self) -> int: ...

    @property
    def workers(self) -> int: ...

    def submit(self, function: Callable[[Part], None], argument: Part, name: str) -> None: ...

    def ended(self, seconds: float) -> list[Ended]: ...


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

    def pending_parts(self) -> list[Part]:
        """Return the parts that have not been run."""
        return [part for part in self.parts if not Path(part.to).exists()]


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

    Without a scheduler and a number of workers all is done in this process. What was done when a run is ended, in
    whatever way, is kept in a folder beside the output, and the same call goes on from there. Of a folder, a file that
    does not fit is told and the others go on. Raises :class:`DataError` for a file that does not fit the net and
    without the package h5py, and :class:`SweepError` where workers end again and again.
    """
    hdf5()  # before anything is run
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
                continue  # it is whole, as it was renamed into its place
            try:
                layout = layout_of(str(path), inputs, outputs, _shapes(path), optional, labels)
            except DataError as error:
                if not several:
                    raise
                yield Finished(path, target, problem=error.message)
                continue
            job = _job(use, path, target, layout, _batch_bytes(inputs, outputs))
            stack.enter_context(_hold_parts(job))
            jobs.append(job)
        pool_of_workers: Workers = (
            SerialPool() if scheduler is None and workers is None else stack.enter_context(pool(scheduler, workers))
        )
        yield from _run(jobs, pool_of_workers, several, stop)


def _run(jobs: list[_Job], workers: Workers, several: bool, stop: Callable[[], bool]) -> Iterator[Finished]:
    left = {job.to: {part.to for part in job.pending_parts()} for job in jobs}
    parts = {part.to: (job, part) for job in jobs for part in job.pending_parts()}
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
            if ended.problem and isinstance(ended.error, LstmcError):  # it would come again
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
    per_part = max(1, PART_BYTES // max(1, batch_bytes))
    starts = range(0, layout.batches, per_part)
    parts = tuple(
        Part(
            use,
            str(source.absolute()),
            layout,
            first,
            min(first + per_part, layout.batches),
            str(_parts_folder(to).absolute() / f"{first:09d}.npz"),
        )
        for first in starts
    )
    return _Job(source, to, layout, parts)


@contextmanager
def _hold_parts(job: _Job) -> Iterator[None]:
    """Hold the folder of a job's parts for this process; parts of another net or of other data are removed."""
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
    """Return the inputs that the parts depend on, as JSON: hashes of the net's files, and the size and time of the
    data, which may be too large to hash.
    """
    part = job.parts[0]
    net = Path(part.use.net)
    files = {str(path): path for path in (net, Path(part.use.weights or net), *net.parent.glob(f"{net.stem}.*"))}
    facts = {
        "use": asdict(replace(part.use)),
        "net": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())},
        "data": [str(job.source.absolute()), job.source.stat().st_size, job.source.stat().st_mtime_ns],
        "layout": asdict(job.layout),
        "parts": [[each.first, each.end] for each in job.parts],
    }
    return json.dumps(facts, indent=1).encode()


def _parts_folder(to: Path) -> Path:
    return to.with_name(f".{to.name}.parts")


def _batch_bytes(*shaped: dict[str, tuple[int, ...]]) -> int:
    return sum(4 * prod(shape) for shapes_ in shaped for shape in shapes_.values())


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in read_arrays(path).items()}


def _hdf5_path(to: Path) -> Path:
    if to.suffix not in SUFFIXES:
        raise OutputError(f"{to}: expected a file that ends in {' or '.join(SUFFIXES)}, for outputs of any size")
    return to


def _files(source: Path, to: Path) -> list[tuple[Path, Path]]:
    """Return the files of a folder, each with the file that its outputs go into."""
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
