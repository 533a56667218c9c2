"""What the library is doing right now, for whoever shows it: a pass that runs, a net that is written or compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def doing(what: str) -> None:
    """Tell the listener, if there is one, what begins now: a few words, such as ``reading gru.pt``."""
    listener = _listener.get()
    if listener is not None:
        listener(what)


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """The items in order, while the listener, if there is one, is told each percent of them that is done:
    ``unrolling gru, 43 %``."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    told = -1
    for done, item in enumerate(items):
        percent = 100 * done // len(items)
        if percent != told:
            listener(f"{what}, {percent} %")
            told = percent
        yield item


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, ``listener`` is told of everything that begins, in place of the one outside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
