"""What all uses of one bound cell in one model share, and where bound cells are made inside other cells' bodies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from lstmc.dsl.scope import Scope
from lstmc.ir import Ref


@dataclass(eq=False)
class CellUse:
    """What all uses of one bound cell in one model share: its sizes, its name and its parameters."""

    name: str
    scope: Scope = field(default_factory=Scope)
    params: dict[str, tuple[Ref, ...]] = field(default_factory=dict)  # in the model's trace, by argument
    scanned: bool = False
    running: bool = False
    births: int = 0  # how many bound cells the body has made so far, while it is traced

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Inside, the body is being traced: bound cells that are made now are born in it."""
        self.running, self.births = True, 0
        token = _tracing.set(self)
        try:
            yield
        finally:
            _tracing.reset(token)
            self.running = False


@dataclass(frozen=True)
class Birth:
    """Where a bound cell was made, if in another cell's body: ``number`` counts those that the body makes.

    A body that is traced again makes its bound cells again; by this they are known to be the same ones.
    """

    use: CellUse
    number: int


_tracing: ContextVar[CellUse | None] = ContextVar("the bound cell whose body is being traced", default=None)


def birth() -> Birth | None:
    """The birth of a bound cell that is made now; None outside of cells' bodies."""
    use = _tracing.get()
    if use is None:
        return None
    use.births += 1
    return Birth(use, use.births)
