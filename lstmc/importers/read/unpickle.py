"""A reader of pickles that runs no code: an interpreter of the instructions that saved tensors and modules need.

Python's own ``pickle`` calls what the file names. Here a name that is not in a short list becomes an inert
:class:`Named`, and calling it an inert :class:`Built` that keeps the arguments and the state. Memory is bounded by the
size of the pickle itself: no instruction here makes more of something than it has read.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

STEPS = 2_000_000  # instructions of one pickle
DIGITS = 64  # bytes of one integer


class PickleProblem(ValueError):
    """Raised for bytes that are no pickle, or a pickle that no saved model needs."""


@dataclass(frozen=True)
class Named:
    """A class or function by its name, which is never looked up."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Built:
    """An inert object in place of a call's result; ``state`` is its pickled state."""

    what: Named
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list)  # of lists that are more than lists
    pairs: dict[Any, Any] = field(default_factory=dict)  # and of dicts


@dataclass(frozen=True)
class Persistent:
    """A reference to an object outside of the pickle."""

    id: Any


_MARK = object()
Rebuild = Callable[[Named, tuple[Any, ...]], Any]


def load(stream: BytesIO, rebuild: Rebuild) -> Any:
    """Read the next pickle of a stream. ``rebuild`` returns the object for a name and arguments, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts with odd escapes, from pickletools
        return _run(_Machine(rebuild), stream)


def _run(machine: _Machine, stream: BytesIO) -> Any:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > STEPS:
                raise PickleProblem(f"more than {STEPS:,} instructions")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.run(opcode.name, argument)
    except PickleProblem:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, UnicodeError) as error:
        raise PickleProblem(f"{type(error).__name__}: {str(error)[:200]}") from None
    raise PickleProblem("it does not end")


class _Machine:
    def __init__(self, rebuild: Rebuild) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.rebuild = rebuild

    def run(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PUSHED:
            if name in ("LONG1", "LONG4", "LONG", "INT") and isinstance(argument, int) and argument.bit_length() > 512:
                raise PickleProblem(f"an integer of more than {DIGITS} bytes")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        else:
            getattr(self, f"_{name.lower()}")(argument)

    def _marked(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleProblem("there is no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _mark(self, argument: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, argument: Any) -> None:
        self.stack.pop()

    def _dup(self, argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _list(self, argument: Any) -> None:
        self.stack.append(self._marked())

    def _dict(self, argument: Any) -> None:
        items = self._marked()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _tuples(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count or _MARK in items:
            raise PickleProblem("too little on the stack")
        self.stack[-count:] = [tuple(items)]

    def _tuple1(self, argument: Any) -> None:
        self._tuples(1)

    def _tuple2(self, argument: Any) -> None:
        self._tuples(2)

    def _tuple3(self, argument: Any) -> None:
        self._tuples(3)

    def _append(self, argument: Any) -> None:
        item = self.stack.pop()
        _items(self.stack[-1]).append(item)

    def _appends(self, argument: Any) -> None:
        items = self._marked()
        _items(self.stack[-1]).extend(items)

    def _setitem(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _pairs(self.stack[-1])[_key(key)] = value

    def _setitems(self, argument: Any) -> None:
        items = self._marked()
        _pairs(self.stack[-1]).update((_key(k), v) for k, v in zip(items[::2], items[1::2], strict=True))

    def _additems(self, argument: Any) -> None:
        items = self._marked()
        self.stack[-1].update(map(_key, items))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Named(module, name))

    def _stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleProblem("a name that is no text")
        self.stack.append(Named(module, name))

    def _reduce(self, argument: Any) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(what, arguments))

    def _newobj(self, argument: Any) -> None:
        self._reduce(argument)

    def _newobj_ex(self, argument: Any) -> None:
        named = self.stack.pop()
        arguments, what = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(what, (*arguments, named)))

    def _called(self, what: Any, arguments: Any) -> Any:
        if not isinstance(what, Named) or not isinstance(arguments, tuple):
            raise PickleProblem("something is called that is no name")
        instance = self.rebuild(what, arguments)
        return Built(what, arguments) if instance is None else instance

    def _build(self, argument: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Built):
            self.stack[-1].state = state  # of a known object, as an OrderedDict's attributes, nothing is needed

    def _binpersid(self, argument: Any) -> None:
        self.stack.append(Persistent(self.stack.pop()))


def _key(key: Any) -> Any:
    """Return a hashable key: a plain value, else the object's identity."""
    return key if isinstance(key, str | int | float | bool | tuple | Named | Built | None) else id(key)


def _items(thing: Any) -> list[Any]:
    if isinstance(thing, Built):
        return thing.items
    if not isinstance(thing, list):
        raise PickleProblem("append to an object that is not a list")
    return thing


def _pairs(thing: Any) -> dict[Any, Any]:
    if isinstance(thing, Built):
        return thing.pairs
    if not isinstance(thing, dict):
        raise PickleProblem("set an item of an object that is not a dict")
    return thing


_PUSHED = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
