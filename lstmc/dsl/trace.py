"""Tracing: one run of a user's function, recorded node by node.

The model has one trace; each scanned cell has one of its own, whose parent is the model's. A value of the parent
used in a body enters it as a ``static`` argument, a parameter as a ``weight``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lstmc.dsl.scope import Scope
from lstmc.errors import DslError, ShapeError
from lstmc.ir import Builder, Ref, Scan
from lstmc.ops import Arg, Op, Param, Role
from lstmc.source import SrcLoc, assigned_names, here
from lstmc.types import TensorType

_NAME = re.compile(r"[^\W\d][\w./-]*")
_LONGEST_TEXT = 60


class Traced:
    """One array of a trace. :class:`~lstmc.dsl.value.Value` is the kind that a user's function works with."""

    __slots__ = ("ref", "trace")

    def __init__(self, trace: Trace, ref: Ref) -> None:
        self.trace = trace
        self.ref = ref

    @property
    def type(self) -> TensorType:
        return self.trace.builder.type(self.ref)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its axes."""
        return self.type.shape

    def told(self, name: str | None = None) -> str:
        """How an error's note names it, with where it was declared or made."""
        return self.trace.origin(self.ref, name)


T = TypeVar("T", bound=Traced)


@dataclass(eq=False)
class Trace:
    """A graph being built from a user's function. ``owner`` is how errors call it: ``cell 'lstm'``."""

    owner: str
    builder: Builder
    scope: Scope
    parent: Trace | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        self.captured: dict[Ref, tuple[Traced, Traced]] = {}  # the parent's ref -> its value, and the argument here
        self.declared: dict[Ref, str] = {}  # how an error's note names an argument
        self.cells: dict[Hashable, Any] = {}  # the model's: what is shared by all uses of one bound cell
        self.names: set[str] = set()  # the model's: names of bound cells and scans that are taken

    @property
    def root(self) -> Trace:
        return self if self.parent is None else self.parent.root

    def unique_name(self, base: str) -> str:
        """A name for a bound cell or scan that no other one of the model has."""
        name, count = base, 1
        while name in self.root.names:
            count += 1
            name = f"{base}_{count}"
        self.root.names.add(name)
        return name

    def apply(self, op: Op, *operands: Traced, names: Sequence[str] = (), loc: SrcLoc | None = None) -> tuple[Ref, ...]:
        """Record one op. A shape error is raised on the user's own line and names where the operands come from."""
        loc = loc or here()
        values = [self.adopt(value, loc) for value in operands]
        try:
            return self.builder.add(op, *[v.ref for v in values], names=names or assigned_names(loc), loc=loc)
        except ShapeError as error:
            notes = [f"{_operand_name(op, slot)} is {value.told()}" for slot, value in enumerate(values)]
            raise error.located(loc, notes=list(dict.fromkeys(notes))) from None

    def adopt(self, value: T, loc: SrcLoc | None) -> T:
        """The value as one of this trace: itself, or an argument standing for a value of the parent."""
        if self.finished or value.trace.finished or value.trace not in (self, self.parent):
            owner = self.owner if self.finished else value.trace.owner
            raise DslError(
                f"a value of {owner} is used outside the call that made it. Return it from there, or pass"
                " it on as an input, a state or a static input",
                loc=loc,
            )
        if value.trace is self:
            return value
        if value.ref not in self.captured:
            outer = value.trace
            node = outer.builder.node(value.ref.node)
            weight = isinstance(node.op, Param)
            role: Role = "weight" if weight else "static"
            (ref,) = self.builder.add(Arg(value.shape, role), names=(node.names[value.ref.out],), loc=node.loc)
            self.declared[ref] = value.told()
            self.captured[value.ref] = (value, type(value)(self, ref))
        argument = self.captured[value.ref][1]
        assert isinstance(argument, type(value))
        return argument

    def origin(self, ref: Ref, name: str | None = None) -> str:
        """Where a value comes from: what is declared, else its name (or its expression) and where it was made."""
        if ref in self.declared:
            return self.declared[ref]
        node = self.builder.node(ref.node)
        if name is None:
            assigned = () if isinstance(node.op, Scan) else assigned_names(node.loc)
            text = node.loc.text() if node.loc and not isinstance(node.op, Scan) else None
            written = text if text and len(text) <= _LONGEST_TEXT else node.names[ref.out]
            name = assigned[ref.out] if ref.out < len(assigned) else written
        place = f", made at {node.loc.short}" if node.loc else ""
        return f"{name}: {node.types[ref.out]}{place}"


def _operand_name(op: Op, slot: int) -> str:
    named = op.operands[min(slot, len(op.operands) - 1)]
    return f"operand {slot + 1}" if named.startswith("*") else named


def check_name(name: object, what: str, loc: SrcLoc | None) -> None:
    """Raise unless ``name`` can name layers and blobs."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DslError(
            f"{what} must be a letter or _, then letters, digits and any of _ . / -, found {name!r}",
            loc=loc,
        )
