"""Tracing: one run of a user's function, recorded node by node.

The model has one trace; each scanned cell has one of its own, whose parent is the model's. A value of the parent
used in a body enters it as a ``static`` argument, a parameter as a ``weight``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lstmc.dsl.dims import Scope
from lstmc.errors import DslError, ShapeError
from lstmc.ir import Builder, Ref
from lstmc.ops import Arg, Op, Param, Role
from lstmc.source import SrcLoc, assigned_names, here

if TYPE_CHECKING:
    from lstmc.dsl.value import Value


@dataclass(eq=False)
class Trace:
    """A graph being built from a user's function. ``owner`` is how errors call it: ``cell 'lstm'``."""

    owner: str
    builder: Builder
    scope: Scope
    parent: Trace | None = None

    def __post_init__(self) -> None:
        self.captured: dict[Ref, tuple[Value, Value]] = {}  # the parent's ref -> its value, and the argument here
        self.declared: dict[Ref, str] = {}  # how an error's note names an argument
        self.cells: dict[int, Any] = {}  # the model's: what is shared by all uses of one bound cell
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

    def apply(self, op: Op, *operands: Value, names: Sequence[str] = (), loc: SrcLoc | None = None) -> tuple[Ref, ...]:
        """Record one op. A shape error is raised on the user's own line and names where the operands come from."""
        loc = loc or here()
        values = [self.adopt(value, loc) for value in operands]
        try:
            return self.builder.add(op, *[v.ref for v in values], names=names or assigned_names(loc), loc=loc)
        except ShapeError as error:
            raise ShapeError(error.message, loc=loc, scope=self.owner, notes=self._origins(op, values)) from None

    def adopt(self, value: Value, loc: SrcLoc | None) -> Value:
        """The value as one of this trace: itself, or an argument standing for a value of the parent."""
        if value.trace is self:
            return value
        if self.parent is None or value.trace.root is not self.root:
            raise DslError(
                f"a value of {value.trace.owner} is used in {self.owner}: values do not outlive the call they are made"
                " in. Return it, or pass it as an input, a state or a static input",
                loc=loc,
                scope=self.owner,
            )
        outer = self.parent.adopt(value, loc)
        if outer.ref not in self.captured:
            node = self.parent.builder.node(outer.ref.node)
            weight = isinstance(node.op, Param) or (isinstance(node.op, Arg) and node.op.role == "weight")
            role: Role = "weight" if weight else "static"
            (ref,) = self.builder.add(Arg(outer.shape, role), names=(node.names[outer.ref.out],), loc=node.loc)
            self.declared[ref] = self.parent.origin(outer.ref, node.names[outer.ref.out])
            self.captured[outer.ref] = (outer, type(outer)(self, ref))
        return self.captured[outer.ref][1]

    def origin(self, ref: Ref, name: str) -> str:
        """Where a value comes from, for an error's note."""
        if ref in self.declared:
            return self.declared[ref]
        node = self.builder.node(ref.node)
        place = f", made at {node.loc.short}" if node.loc else ""
        return f"{name}: {node.types[ref.out]}{place}"

    def _origins(self, op: Op, values: Sequence[Value]) -> list[str]:
        return list(dict.fromkeys(self.origin(value.ref, _operand_name(op, slot)) for slot, value in enumerate(values)))


def _operand_name(op: Op, slot: int) -> str:
    named = op.operands[min(slot, len(op.operands) - 1)]
    return f"{named[1:-1]} {slot + 1}" if named.startswith("*") else named
