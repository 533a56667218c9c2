"""A reader of pickles that runs no code: an interpreter of the instructions that saved tensors and modules need.

Python's ``pickle`` calls functions that the file names. Here a name that is not in a short list becomes an inert
:class:`Named`, and calling it gives an inert :class:`Built` that keeps the arguments and the state. Memory is bounded
by the size of the pickle: no instruction creates more than it has read. ``pickle.Unpickler`` with inert classes is no
replacement: it hashes a key that is a tuple in a million tuples, and overflows the stack of C.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

from lstmc.text import brief

STEPS = 2_000_000  # the most instructions of a pickle
DIGITS = 64  # the most bytes of an integer


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
    items: list[Any] = field(default_factory=list)  # elements of objects that are more than lists
    pairs: dict[Any, Any] = field(default_factory=dict)  # and of dicts


@dataclass(frozen=True)
class Persistent:
    """A reference to an object outside of the pickle."""

    id: Any


_MARK = object()
Rebuild = Callable[[Named, tuple[Any, ...]], Any]


def load(stream: BytesIO, rebuild: Rebuild) -> Any:
    """Read the next pickle of a stream. ``rebuild`` returns the object for a name and arguments, or None.

    Raises :class:`PickleProblem`.
    """
    machine, operations = _Machine(rebuild), pickletools.genops(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickletools raises it for texts with odd escapes
        for _ in range(STEPS):
            try:
                opcode, argument, _position = next(operations)
            except ValueError as error:  # pickletools raises it for bytes that are no instruction
                raise PickleProblem(brief(error)) from None
            if opcode.name == "STOP":
                return machine.pop()
            machine.run(opcode.name, argument)
    raise PickleProblem(f"more than {STEPS:,} instructions")


class _Machine:
    def __init__(self, rebuild: Rebuild) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.rebuild = rebuild

    def run(self, name: str, argument: Any) -> None:
        """Run an instruction."""
        push = self.stack.append
        if name in _PUSHED:
            if (
                name in ("LONG1", "LONG4", "LONG", "INT")
                and isinstance(argument, int)
                and argument.bit_length() > 8 * DIGITS
            ):
                raise PickleProblem(f"an integer of more than {DIGITS} bytes")
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name]())
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise PickleProblem(f"number {argument} of the memo is empty")
            push(self.memo[argument])
        elif name == "MARK":
            push(_MARK)
        elif name == "POP":
            self.stack.pop() if self.stack and self.stack[-1] is _MARK else self.pop()
        elif name == "DUP":
            push(self.top())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            push(tuple(reversed([self.pop() for _ in range(int(name[-1]))])))
        elif name == "TUPLE":
            push(tuple(self.marked()))
        elif name == "LIST":
            push(self.marked())
        elif name == "DICT":
            push(dict(_pairs(self.marked())))
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.marked()
            thing = self.top()
            _expect(thing.items if isinstance(thing, Built) else thing, list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.marked()
            thing = self.top()
            _expect(thing.pairs if isinstance(thing, Built) else thing, dict).update(_pairs(items))
        elif name == "ADDITEMS":
            items = self.marked()
            _expect(self.top(), set).update(map(_key, items))
        elif name not in ("PROTO", "FRAME"):
            self._run_of_objects(name, argument)

    def _run_of_objects(self, name: str, argument: Any) -> None:
        """Run an instruction that names a class, makes an object of it, or sets the state of one."""
        push = self.stack.append
        if name == "GLOBAL":
            push(Named(*argument.partition(" ")[::2]))
        elif name == "STACK_GLOBAL":
            word, module = _expect(self.pop(), str), _expect(self.pop(), str)
            push(Named(module, word))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            named = (self.pop(),) if name == "NEWOBJ_EX" else ()
            arguments, what = _expect(self.pop(), tuple), _expect(self.pop(), Named)
            instance = self.rebuild(what, (*arguments, *named))
            push(Built(what, (*arguments, *named)) if instance is None else instance)
        elif name == "BUILD":
            state = self.pop()
            if isinstance(self.top(), Built):
                self.top().state = state  # a known object, such as an OrderedDict, needs no state
        elif name == "BINPERSID":
            push(Persistent(self.pop()))
        else:
            raise PickleProblem(f"instruction {name}, which no saved model needs")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleProblem("too little on the stack")
        return self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Remove everything down to the last mark from the stack, and return it."""
        items: list[Any] = []
        while self.stack and self.stack[-1] is not _MARK:
            items.append(self.stack.pop())
        if not self.stack:
            raise PickleProblem("there is no mark")
        self.stack.pop()
        return items[::-1]


T = TypeVar("T")


def _expect(thing: Any, kind: type[T]) -> T:
    if not isinstance(thing, kind):
        raise PickleProblem(f"expected a {kind.__name__}, found a {type(thing).__name__}")
    return thing


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise PickleProblem("a key without a value")
    return [(_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


_Plain = str | int | float | bool | None


def _key(key: Any) -> Any:
    """Return a hashable key: a plain value, else the object's identity."""
    plain = isinstance(key, _Plain | Named | Built) or (
        isinstance(key, tuple) and all(isinstance(one, _Plain) for one in key)
    )
    return key if plain else id(key)


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
