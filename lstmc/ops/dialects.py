"""Dialects: the ops that a distribution brings, found by entry point; the core's come through the same door.

An entry point of the group ``lstmc.dialects`` names a module. Every op that is defined in it, or in a module below
it, and whose name begins with the entry point's and a dot, belongs to that dialect: ``example = "my_ops"`` has
``example.cube``. The core's dialect is ``core``, and its ops have no dot. Reading a text loads the dialects that the
text speaks, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from inspect import isabstract
from types import ModuleType
from typing import Any

from lstmc.ops.base import Op
from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point

DIALECTS = "lstmc.dialects"
CORE_DIALECT = "core"


def ops_in(module: str) -> tuple[type[Op], ...]:
    """Every whole op that is defined in a module of this name or below it, in the order of their definition."""
    return tuple(op for op in _defined_in(module) if not isabstract(op))


def dialect_of(op: str) -> str:
    """The dialect of an op by its name: ``example`` of ``example.cube``, the core's where there is no dot."""
    return op.rpartition(".")[0] or CORE_DIALECT


def dialects() -> tuple[str, ...]:
    """The names of all installed dialects."""
    return tuple(entry_points_of(DIALECTS))


def load_dialect(name: str) -> dict[str, type[Op]]:
    """The ops of an installed dialect by name. Raises :class:`PluginError` if there is none, or it is not whole."""
    return _loaded(only_entry_point(DIALECTS, name, "dialect"))


@cache
def _loaded(point: EntryPoint) -> dict[str, type[Op]]:
    module = load_point(point, "dialect")
    if not isinstance(module, ModuleType):
        raise malformed(point, "dialect", "the name of a module that ops are defined in", repr(module))
    everything = _defined_in(module.__name__)
    for op in everything:
        if not isabstract(op) and not isinstance(getattr(op, "name", None), str):
            raise malformed(point, "dialect", f'a name in class {op.__name__}: name = "{point.name}.…"', "none")
    defined = [op for op in everything if "name" in op.__dict__]
    own = [op for op in defined if dialect_of(op.name) == point.name]
    if not own:
        names = ", ".join(f"{op.__name__} called {op.name}" for op in defined) or "no op"
        raise malformed(point, "dialect", f"ops whose names begin with {point.name}.", names)
    for op in own:
        for expected, actual in op_problems(op):
            raise malformed(point, "dialect", expected, actual)
    by_name = {op.name: op for op in own}
    for op in own:
        if by_name[op.name] is not op:
            raise malformed(point, "dialect", f"one op called {op.name}", f"{op.__name__}, {by_name[op.name].__name__}")
    return by_name


def op_problems(op: type[Op]) -> Iterator[tuple[str, str]]:
    """Yield the faults of an op's class: the expectation, and the actual state."""
    if isabstract(op):
        yield f"that {op.__name__} defines {', '.join(sorted(op.__abstractmethods__))}", "none of that name"
    params = op.__dict__.get("__dataclass_params__")
    if params is None or not params.frozen:
        yield f"@dataclass(frozen=True) above class {op.__name__}", "none"
    if not isinstance(getattr(op, "operands", None), tuple):
        yield f"that {op.__name__} names its operands in a tuple", "none"


def _defined_in(module: str) -> tuple[type[Op], ...]:
    """Every subclass of Op that a module of this name, or one below it, defines."""
    below = dict.fromkeys(_derived(Op))  # a layer that is a core op too is met twice
    return tuple(op for op in below if op.__module__ == module or op.__module__.startswith(f"{module}."))


def _derived(base: type[Any]) -> Iterator[type[Op]]:
    for op in base.__subclasses__():
        yield op
        yield from _derived(op)
