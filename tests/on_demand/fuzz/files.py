"""Damaged files of every format that is read: a clean error or a right result, in bounded time and memory.

Run by ``python -m tests.on_demand.fuzz --files``, or ``make fuzz FUZZ=--files``. Each mutant is read in a child process
that has so much memory and time, and in which nothing may be run, sent, or written outside of its folder.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lstmc.errors import LstmcError
from tests.on_demand.fuzz.formats import Format, formats
from tests.on_demand.fuzz.mutate import mutant

MEMORY = 1 << 30  # bytes that reading a file may take
SECONDS = 20
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Forbidden(BaseException):
    """Something that reading a file must not do."""


@dataclass
class Counts:
    """What became of mutants, by format: (format, outcome) -> how many; and a line for each failure."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        self.outcomes.update(other.outcomes)
        self.failed += other.failed

    def __str__(self) -> str:
        names = sorted({name for name, _ in self.outcomes})
        lines = [
            f"{name}: {sum(self.outcomes[name, o] for o in ('read', 'refused', 'failed'))} mutants,"
            f" {self.outcomes[name, 'read']} read, {self.outcomes[name, 'refused']} refused,"
            f" {self.outcomes[name, 'failed']} failed"
            for name in names
        ]
        first = f"{self.outcomes.total()} mutants read, {len(self.failed)} failed"
        return "\n".join([first, *(f"  {line}" for line in (*lines, *self.failed))])


def damaged_files(seeds: Iterable[int], keep: Path | None = None, only: tuple[str, ...] = ()) -> Iterator[Counts]:
    """One mutant for each seed, of the formats in turn (or ``only`` those): what became of it. A file that fails is
    kept in ``keep``."""
    with tempfile.TemporaryDirectory(prefix="lstmc-fuzz-") as folder:
        known = formats(Path(folder))
        names = only or tuple(known)
        seeds = iter(seeds)
        while batch := list(itertools.islice(seeds, 200)):
            yield from _in_child([(seed, known[names[seed % len(names)]]) for seed in batch], keep)


def _in_child(work: list[tuple[int, Format]], keep: Path | None) -> Iterator[Counts]:
    """The outcomes of some mutants. A child that ends before its work is done failed at the mutant it was at."""
    context = multiprocessing.get_context("fork")
    while work:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(work, theirs))
        child.start()
        theirs.close()
        done = 0
        while done < len(work):
            try:
                outcome, why = ours.recv() if ours.poll(3 * SECONDS) else ("failed", "hangs")
            except EOFError:
                child.join()
                outcome, why = "failed", f"the process ended with {child.exitcode}"
            seed, form = work[done]
            done += 1
            counts = Counts(Counter({(form.name, outcome): 1}))
            if outcome == "failed":
                counts.failed.append(f"{form.name}, seed {seed}: {why}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}.{form.name}").write_bytes(mutant(form.content, seed))
            yield counts
            if why.startswith(("the process", "hangs")):
                break
        child.kill()
        child.join()
        work = work[done:]


def _child(work: list[tuple[int, Format]], results: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True  # what is imported while a file is read leaves no compiled module either
    with tempfile.TemporaryDirectory(prefix="lstmc-mutant-") as home:
        os.chdir(home)
        watch = _Watch(os.path.realpath(home))
        sys.addaudithook(watch)
        for number, (seed, form) in enumerate(work):
            folder = Path(home, str(number))
            folder.mkdir()
            (folder / form.name).write_bytes(mutant(form.content, seed))
            signal.alarm(SECONDS)
            watch.on = True
            outcome = _read(form, folder)
            watch.on = False
            signal.alarm(0)
            shutil.rmtree(folder, ignore_errors=True)
            results.send(outcome)


def _read(form: Format, folder: Path) -> tuple[str, str]:
    try:
        form.read(folder)
    except LstmcError as error:
        text = str(error)
        if len(text) > 200_000 or not all(c.isprintable() or c in "\n\t" for c in text):
            return "failed", f"a message that is too long or not printable: {text[:200]!r}"
        return "refused", type(error).__name__
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "lstmc" in frame.filename]
        near = ours[-1] if ours else place
        return "failed", f"{type(error).__name__}: {str(error)[:200]} at {near.filename}:{near.lineno}"
    return "read", ""


def _too_long(number: int, frame: object) -> None:
    raise Forbidden(f"more than {SECONDS} s")


@dataclass
class _Watch:
    """An audit hook: raises where something is run, or is written outside of ``home``."""

    home: str
    on: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in RUNS:
            raise Forbidden(f"{event} {arguments!r}")
        if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & WRITES:
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self.home + os.sep) and path != os.devnull:
                raise Forbidden(f"writes {path}")
