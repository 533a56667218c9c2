"""Workers for many independent jobs, by Dask: processes on this machine, or workers of a scheduler elsewhere. Every
worker is a process that runs one job at a time. If a worker ends, another worker gets its job."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from lstmc.errors import Argument, LstmcError, SweepError
from lstmc.plugins import need

CONNECT_SECONDS = 10.0
STOP_SECONDS = 60.0  # that jobs have to come to an end when nobody wants their results any more
ANSWER_SECONDS = 5.0  # within which a worker that is not stopped answers, whatever its job does
LOOK_SECONDS = 0.1  # between two looks for ended jobs
CONTINUE = "finished points are kept: run the command again to continue"
NO_PAGES: dict[str, list[str]] = {f"distributed.{server}.http.routes": [] for server in ("scheduler", "worker")}


@dataclass(frozen=True)
class JobResult:
    """The outcome of a job that has ended: its ``result``, or the ``problem`` as text and the raised ``error``."""

    name: str
    result: Any = None
    problem: str = ""
    error: BaseException | None = None


class SerialPool:
    """A pool that runs jobs in this process, one at a time. See :class:`Pool`."""

    workers = 1

    def __init__(self) -> None:
        self._jobs: list[tuple[str, Callable[[Any], Any], Any]] = []

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def submit(self, function: Callable[[Any], Any], argument: Any, name: str) -> None:
        self._jobs.append((name, function, argument))

    def ended(self, seconds: float) -> list[JobResult]:
        """Run the next job, even if it takes more than ``seconds``, and return its result."""
        name, function, argument = self._jobs.pop(0)
        try:
            return [JobResult(name, function(argument))]
        except LstmcError as error:
            return [JobResult(name, problem=str(error), error=error)]


class Pool:
    """Jobs that run in workers. ``where`` is the scheduler's name in errors; ``cluster`` is Dask's LocalCluster, if the
    workers are processes that this one has started."""

    def __init__(self, client: Any, where: str, cluster: Any = None) -> None:
        self._client, self._where, self._cluster = client, where, cluster
        self._futures: dict[str, Any] = {}  # of jobs that ``ended`` has not returned, by name

    @property
    def waiting(self) -> int:
        return len(self._futures)

    @property
    def workers(self) -> int:
        return sum(self._client.nthreads().values())

    def submit(self, function: Callable[[Any], Any], argument: object, name: str) -> None:
        """Submit ``function(argument)`` to a worker, which imports it by its name."""
        key = f"{name}-{uuid.uuid4().hex}"  # unique, because Dask runs a key only once
        self._futures[name] = self._client.submit(function, argument, key=key, pure=False)

    def ended(self, seconds: float) -> list[JobResult]:
        """Wait at most ``seconds`` for a job to end. Return the jobs that have ended since the last call. Raises
        SweepError if the scheduler has ended."""
        until = time.monotonic() + seconds
        while True:
            if self._client.status != "running":
                raise SweepError(f"{self._where} has ended; {CONTINUE}")
            done = [name for name, future in self._futures.items() if future.done()]
            if done or time.monotonic() >= until:
                return [_ended(name, self._futures.pop(name)) for name in done]
            time.sleep(LOOK_SECONDS)

    def stop(self) -> list[str]:
        """Cancel all jobs and wait until running jobs have ended. Return a sentence for each process that had to be
        killed, because a signal such as SIGSTOP had stopped it, or because its worker did not answer."""
        problems = list[str]()
        with suppress(Exception):  # the scheduler may have ended
            self._client.cancel(list(self._futures.values()), force=True)
            workers, until = set(self._client.nthreads()), time.monotonic() + STOP_SECONDS
            while workers and time.monotonic() < until:
                for worker, answer in self._client.sync(self._ask, workers).items():
                    if answer is None:
                        problems.append(self._silent(worker))
                    else:
                        problems += [f"process {pid} of a worker was stopped, and has been killed" for pid in answer[1]]
                    if answer is None or answer[0] == 0:
                        workers.discard(worker)
                time.sleep(LOOK_SECONDS)
        return problems

    async def _ask(self, workers: set[str]) -> dict[str, tuple[int, list[int]] | None]:
        """Return what :func:`_at_work` returns in each worker; None for a worker that does not answer."""

        async def ask(worker: str) -> tuple[int, list[int]] | None:
            try:
                answers = await asyncio.wait_for(self._client.run(_at_work, workers=[worker]), ANSWER_SECONDS)
            except TimeoutError:
                return None
            return answers[worker]  # type: ignore[no-any-return]  # of a package without types

        return dict(zip(workers, await asyncio.gather(*map(ask, workers)), strict=True))

    def _silent(self, worker: str) -> str:
        """Kill a worker that does not answer, if it is a process of this machine, and return a sentence about it."""
        said = f"did not answer for {ANSWER_SECONDS:g} s"
        for nanny in self._cluster.workers.values() if self._cluster else ():
            if nanny.worker_address == worker:
                pid = nanny.pid
                for process in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
                    process.kill()
                self._cluster.sync(nanny.close)  # otherwise the nanny starts another worker
                return f"worker process {pid} {said}, and has been killed"
        return f"the worker at {worker} {said}: it ends its job when it answers again"


def _at_work(dask_worker: Any) -> tuple[int, list[int]]:
    """Return the number of a worker's jobs, and its stopped child processes, killed here: jobs would wait for them."""
    killed = list[int]()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                process.kill()
                killed.append(process.pid)
    return len(dask_worker.active_threads), killed


def _ended(name: str, future: Any) -> JobResult:
    """Return the result of a job from Dask's future, which is done."""
    if future.status == "finished":
        return JobResult(name, future.result())
    if future.status != "error":
        return JobResult(name, problem=f"its job was {future.status}")
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        return JobResult(name, problem="every worker that it was given to ended: out of memory, or killed")
    return JobResult(name, problem=f"{type(error).__name__}: {error}".replace("\n", " "), error=error)


@contextmanager
def pool(scheduler: str | None = None, workers: int | None = None) -> Iterator[Pool]:
    """Yield a pool of workers: those of the scheduler at an address, as ``tcp://10.0.0.1:8786``, or without an address
    ``workers`` new processes of this machine (default: one for each core), which end with this process.
    A Dask process runs code for anybody who connects to it. So local processes talk by TLS, with a new key that is in
    no file, and their HTTP servers have no pages. The owner of a scheduler elsewhere is responsible for its security.
    Raises SweepError without the package distributed, and if no scheduler answers."""
    distributed = need("distributed", "Dask", "sweep", SweepError)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors of lstmc report its failures
    if scheduler is None:
        need("cryptography", "The encryption of Dask", "sweep", SweepError)
        with (
            need("dask.config", "Dask", "sweep", SweepError).set(NO_PAGES),
            distributed.LocalCluster(
                n_workers=workers or len(os.sched_getaffinity(0)),
                threads_per_worker=1,
                processes=True,
                security=distributed.Security.temporary(),
                protocol="tls://",
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any free port: None tries 8787, and warns where it is taken
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield from _stopped(Pool(client, "the scheduler on this machine", cluster))
        return
    try:
        client = _client(distributed, scheduler)
    except (OSError, ValueError) as error:
        raise SweepError(
            f"{Argument('scheduler', scheduler)}: expected the address of a Dask scheduler, as tcp://HOST:8786, found"
            f" none that answers ({error})"
        ) from None
    with client:
        yield from _stopped(Pool(client, f"the scheduler at {scheduler}"))


def _client(distributed: Any, scheduler: str) -> Any:
    """Return a client of the scheduler at an address. The client is closed if it cannot connect: Dask leaves that to
    the garbage collector. If that runs while another client starts, both want the same lock in one thread, and wait
    forever (``LoopRunner`` of distributed 2026.8)."""

    class Client(distributed.Client):  # type: ignore[misc]  # of a package that is optional
        def start(self, **arguments: Any) -> None:
            """Connect to the scheduler; close the client if this fails."""
            try:
                super().start(**arguments)
            except BaseException:
                self.close()
                raise

    return Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)


def _stopped(workers: Pool) -> Iterator[Pool]:
    """Yield the pool, and cancel its jobs in the end. Raises SweepError if a process of the pool had to be killed."""
    try:
        yield workers
    except BaseException:
        workers.stop()
        raise
    if workers.waiting and (problems := workers.stop()):
        raise SweepError(f"{'; '.join(problems)}; {CONTINUE}")
