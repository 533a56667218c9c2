"""A run that is watched while it goes on: its events one after another, in a loop that may end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any, ParamSpec

from lstmc.api.training_run import Run, train
from lstmc.runs.events import Event

Arguments = ParamSpec("Arguments")


def yielding(run: Callable[Arguments, Run]) -> Callable[Arguments, Iterator[Event | Run]]:
    """A function that takes what ``run`` takes, and yields what it is told, and at last the run itself."""

    def events(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Iterator[Event | Run]:
        told: SimpleQueue[Event | Run | BaseException] = SimpleQueue()
        taken, ended = SimpleQueue[None](), Flag()
        given: dict[str, Any] = dict(kwargs)
        progress: Callable[[Event], object] = given.pop("progress", None) or (lambda event: None)
        stop: Callable[[], bool] = given.pop("stop", None) or (lambda: False)

        def tell(event: Event) -> bool:
            """Hand an event over, and wait until the loop comes back for the next."""
            enough = progress(event) is True
            told.put(event)
            taken.get()
            return enough

        def work() -> None:
            watched: dict[str, Any] = {**given, "progress": tell, "stop": lambda: ended.is_set() or stop()}
            try:
                told.put(run(*args, **watched))
            except BaseException as error:  # it is raised where the loop is
                told.put(error)

        thread = Thread(target=work, name="lstmc.training", daemon=True)
        thread.start()
        try:
            while not isinstance(found := told.get(), Run | BaseException):
                yield found
                taken.put(None)
            if isinstance(found, BaseException):
                raise found
            yield found
        finally:  # the loop is over, or was left: the run ends with a snapshot
            ended.set()
            taken.put(None)
            while thread.is_alive():
                thread.join(0.05)
                taken.put(None)  # for what it tells on its way out

    return events


training = yielding(train)
training.__name__ = training.__qualname__ = "training"
training.__doc__ = """Train as :func:`lstmc.train` does, with the same arguments, and yield each event as it happens;
the last thing it yields is the :class:`lstmc.Run`.

The training waits while the loop is at an event. A loop that is left, by ``break`` or an error, stops it with a
snapshot.

>>> import lstmc, tempfile, numpy as np
>>> from lstmc.runs.events import Updated
>>> N = lstmc.dims("N")
>>> @lstmc.model
... def fits(X=lstmc.Input(N, 3), y=lstmc.Input(N, 1), W=lstmc.Param(1, 3)):
...     found = lstmc.linear(X, W)
...     return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
>>> X = np.random.default_rng(0).normal(size=(40, 3))
>>> with tempfile.TemporaryDirectory() as folder:
...     for event in lstmc.training(fits, {"X": X, "y": X @ [[1], [2], [3]]}, N=10, out=folder):
...         if isinstance(event, Updated) and event.loss < 1:
...             break
>>> event.iteration < 100
True
"""
