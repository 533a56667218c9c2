"""What the library is doing right now, for whoever shows it: a pass that runs, a net that is written or compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def doing(what: str) -> None:
    """Tell the listener, if there is one, what begins now: a few words, such as ``reading gru.pt``."""
    listener = _listener.get()
    if listener is not None:
        listener(what)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, ``listener`` is told of everything that begins, in place of the one outside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
