"""Training by several processes: each has a part of every batch, and all sum their gradients by gloo. This process is
the first rank. Batches and states go to the other ranks through pipes, gradients through connections on the loopback
address; ranks find each other by a file in a folder that only this user can open."""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import FileStore, ProcessGroupGloo
from torch.overrides import TorchFunctionMode

from lstmc.backend import Compiled, RankPart, Settings
from lstmc.backend.compiled import DividedBatch, Trained, TrainingRequest, example_axis, smallest
from lstmc.errors import Argument, LstmcError, TrainingError
from lstmc.ir import Graph, Scan
from lstmc.ops import Array, Dropout
from lstmc.process.status import launched_processes
from lstmc.runs.folder import RunIdentity
from lstmc.runs.solver import Solver
from lstmc.runs.updates import Update
from lstmc_torch.modules import share_parameters
from lstmc_torch.trainer import TorchEngine, TorchState, train

RANK = "import sys; from lstmc_torch.ranks import main; main(*sys.argv[1:])"
STORE, SECRET = "store", "secret"
SECRET_BYTES = 32
WAIT = timedelta(hours=1)  # for the slowest rank, or a stopped rank
END_SECONDS = 5.0
LAST_LINES = 5


class RankEnded(LstmcError):
    """Raised when the process of a rank has ended."""


class Draw(NamedTuple):
    """A dropout in the program of the whole batch: its ratio, its shape, the axis of examples (None without one), and
    whether the program of a part has this dropout too."""

    ratio: float
    shape: tuple[int, ...]
    axis: int | None
    shared: bool


@dataclass(frozen=True)
class Share:
    """The work of one rank: its part of a batch, and the dropouts of whole batches in the order of the program."""

    part: RankPart
    draws: tuple[Draw, ...]


class _PartOfDraws(TorchFunctionMode):
    """Draws each dropout for the whole batch, as a single process does, and keeps only this rank's examples."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.part, self.draws = share.part, iter(share.draws)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function; a dropout is replaced by a product with this rank's part of the mask."""
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        for draw in self.draws:
            mask = F.dropout(torch.ones(draw.shape), draw.ratio)
            if draw.shared:  # otherwise the program of the part lacks this dropout: only its numbers are drawn
                break
        start, stop = self.part.start, self.part.stop
        return args[0] * (mask if draw.axis is None else mask.narrow(draw.axis, start, stop - start))


AddUp = Callable[[Tensor], None]  # replaces numbers by their sums over all ranks, in place


class RankEngine(TorchEngine):
    """The module of a rank's part of a batch, updated by the gradients of all ranks."""

    def __init__(self, share: Share, weights: Mapping[str, Array], solver: Solver, add_up: AddUp) -> None:
        super().__init__(share.part.compiled, weights, solver)
        self.share, self.add_up = share, add_up

    def gradients(self, batches: Sequence[Mapping[str, Array]]) -> float:
        """Sum all ranks' gradients and losses, which go in one message; return the sum of the losses."""
        loss = super().gradients(batches)
        learned = [p for _, p in sorted(self.learned())]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        message = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([loss])])
        self.add_up(message)
        for p, gradient in zip(learned, message[:-1].split([p.numel() for p in learned]), strict=True):
            p.grad = gradient.view_as(p)
        return float(message[-1])

    def outputs(self, batch: Mapping[str, Array], states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with _PartOfDraws(self.share):
            return super().outputs(batch, states)


class RanksEngine(TorchEngine):
    """The engine of the first rank: its part of a batch, and a module of the whole batch for tests and snapshots."""

    failures: ClassVar[tuple[type[LstmcError], ...]] = (RankEnded,)

    def __init__(
        self, compiled: Compiled, weights: Mapping[str, Array], solver: Solver, parts: Sequence[RankPart],
        others: OtherRanks,
    ) -> None:  # fmt: skip
        super().__init__(compiled, weights, solver)
        drawn = tuple(draws(compiled.expanded, smallest(parts)))  # the dropouts of a whole batch
        self.batch, self.others = DividedBatch.of(compiled.expanded, parts), others
        shares = [Share(replace(p, compiled=replace(p.compiled, history=(), opened=None)), drawn) for p in parts]
        others.tell("begin", [(share, weights, solver) for share in shares[1:]])  # each makes its RankEngine
        self.own = RankEngine(shares[0], weights, solver, others.connect())
        share_parameters(self.own.net, self.net)  # so each update changes the module of the whole batch too
        self.optimizer = self.own.optimizer

    def start(self, state: TorchState | None) -> None:
        """Take the values of a state, in every rank; the carried values of each rank's examples go to that rank."""
        super().start(state)
        if state is not None:
            states = [replace(state, carried=carried) for carried in self.batch.divide(state.carried)]
            self.own.start(states[0])
            self.others.tell("start", [(each,) for each in states[1:]])

    def update(self, batches: Sequence[Mapping[str, Array]]) -> Update:
        """Make one update, for which each rank gets its examples of each batch and its shares of the counted labels."""
        parts = [zip(self.batch.divide(b), self.batch.shares(b), strict=True) for b in batches]  # for each rank
        by_rank = list(zip(*([{**arrays, **shares} for arrays, shares in part] for part in parts), strict=True))
        self.others.tell("update", [(each,) for each in by_rank[1:]])
        return self.own.update(by_rank[0])

    def before(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Return parameters and no states from before the last update; if states are carried, two empty mappings."""
        return ({}, {}) if self.carried else self.own.last

    def state(self, first_losses: tuple[float, ...], run: RunIdentity) -> TorchState:
        if self.carried:
            whole = self.batch.join([self.own.arrays(), *self.others.ask("arrays")])
            self.states = {name: torch.from_numpy(array) for name, array in whole.items()}
        return super().state(first_losses, run)


def draws(whole: Graph, part: Graph) -> Iterator[Draw]:
    """Yield the dropouts of a whole batch's program. Raises :class:`TrainingError` if a part's has a further one."""
    of_part = dict(_dropouts(part, part.name))
    of_whole = list(_dropouts(whole, whole.name))
    if not of_part.keys() <= dict(of_whole).keys():
        raise TrainingError(
            f"{whole.name} cannot be trained by several ranks: the net of a part of a batch has other dropouts"
        )
    for name, (ratio, shape) in of_whole:
        _, other = of_part.get(name, (ratio, shape))
        yield Draw(ratio, shape, example_axis(shape, other), name in of_part)


def _dropouts(graph: Graph, scope: str) -> Iterator[tuple[str, tuple[float, tuple[int, ...]]]]:
    """Yield the name, ratio and shape of each dropout in program order, in a scan's body once for each step."""
    for node in graph:
        if isinstance(node.op, Dropout):
            yield f"{scope}/{node.name}", (node.op.ratio, node.types[0].shape)
        elif isinstance(node.op, Scan):
            for _ in range(node.op.length):
                yield from _dropouts(node.op.body, f"{scope}/{node.name}")


class OtherRanks:
    """The processes of all ranks except the first. They end when their pipes are closed."""

    def __init__(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lstmc-ranks-"))  # only its owner can open it
        (self.folder / SECRET).write_bytes(secrets.token_bytes(SECRET_BYTES))
        self.count = count
        path = os.pathsep.join(folder for folder in sys.path if folder)
        threads = str(max(1, (os.cpu_count() or 1) // count))  # of a rank: all ranks together use each core once
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": path}
        self.logs = [tempfile.TemporaryFile() for _ in range(1, count)]  # noqa: SIM115 - until close
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", RANK, str(self.folder), str(rank), str(count)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C reaches this process alone
            )
            for rank, log in enumerate(self.logs, 1)
        ]

    def tell(self, request: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        """Send each rank a request with its arguments. Raises :class:`RankEnded`."""
        with self._watched():
            for process, own in zip(self.processes, arguments, strict=True):
                assert process.stdin is not None
                pickle.dump((request, own), process.stdin, pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()

    def ask(self, request: str) -> list[Any]:
        """Return the replies of the ranks to a request. Raises :class:`RankEnded`."""
        self.tell(request, [()] * len(self.processes))
        return self.replies()

    def replies(self) -> list[Any]:
        """Return one reply of each rank. Raises :class:`RankEnded`."""
        with self._watched():
            return [pickle.load(process.stdout) for process in self.processes if process.stdout]

    def connect(self) -> AddUp:
        """Wait until all ranks are ready, and return the function that adds up numbers over all ranks, in place. The
        folder by which the ranks find each other is removed."""
        self.replies()
        with self._watched():
            sum_up = connect(self.folder, 0, self.count)
        shutil.rmtree(self.folder, ignore_errors=True)

        def add_up(numbers: Tensor) -> None:
            with self._watched():
                sum_up(numbers)

        return add_up

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn errors of pipes and connections in the block into :class:`RankEnded`, with a rank's last lines."""
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError, RuntimeError) as error:
            raise RankEnded("a rank has ended", notes=self.last_lines()) from error

    def last_lines(self) -> list[str]:
        """Return the last lines on stderr of the first rank that has ended and wrote any; [] if there is none."""
        for process, log in zip(self.processes, self.logs, strict=True):
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            if process.poll() is not None and lines:
                return lines[-LAST_LINES:]
        return []

    def close(self) -> None:
        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        for process, log in zip(self.processes, self.logs, strict=True):
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(folder: Path, rank: int, count: int) -> AddUp:
    """Connect a rank to all others, on the loopback address, and return the function that adds up numbers over all
    ranks. Another user of the machine could answer on a rank's port first, so each proves that it knows the secret."""
    options = ProcessGroupGloo._Options()
    options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    options._timeout = WAIT
    group = ProcessGroupGloo(FileStore(str(folder / STORE), count), rank, count, options)
    secret = torch.frombuffer(bytearray((folder / SECRET).read_bytes()), dtype=torch.uint8)
    shown = [torch.empty_like(secret) for _ in range(count)]
    group.allgather([shown], [secret]).wait()
    if not all(torch.equal(each, secret) for each in shown):
        raise TrainingError("a process that is no rank of this training has connected to it")
    group.barrier().wait()

    def add_up(numbers: Tensor) -> None:
        group.allreduce([numbers]).wait()

    return add_up


class TorchRanks:
    """Ranks that are processes on this machine. See :class:`~lstmc.backend.Ranks`."""

    def __init__(self, count: int | None) -> None:
        world = launched_processes()
        if world > 1:
            raise TrainingError(
                f"this process is one of {world} of an MPI launcher, and backend torch starts its ranks itself, on one"
                f" machine: run it without the launcher, with {Argument('ranks', str(count or world))}"
            )
        self.count = count or 1
        self._others = OtherRanks(self.count) if self.count > 1 else None

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        assert isinstance(settings, Solver)
        assert self._others is not None
        engine = partial(RanksEngine, parts=run.parts, others=self._others)
        return train(compiled, weights, settings, run, engine)

    def close(self) -> None:
        if self._others is not None:
            self._others.close()


def main(folder: str, rank: str, count: str) -> None:
    """Run a rank other than the first: answer the first rank's requests until that closes the pipe."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # catches all prints
    engine: RankEngine | None = None
    while True:
        try:
            request, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        result = None
        if request == "begin":
            pickle.dump(None, replies)
            replies.flush()
            share, weights, solver = arguments
            engine = RankEngine(share, weights, solver, connect(Path(folder), int(rank), int(count)))
        else:
            result = getattr(engine, request)(*arguments)
        if request == "arrays":
            pickle.dump(result, replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()
