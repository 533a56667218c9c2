"""The arguments of ``scan``: each is checked, and an error is raised at its own place in the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstmc.dsl.cell import BoundCell, Cell
from lstmc.dsl.dims import Size, as_size
from lstmc.dsl.identifiers import by_identifier
from lstmc.dsl.step import check_is_value
from lstmc.dsl.value import Value, described
from lstmc.errors import DslError
from lstmc.source import SrcLoc, argument_location


@dataclass(frozen=True)
class ScanOptions:
    """How a scan runs."""

    reverse: bool
    carry: bool
    cont: Value | None
    lengths: Value | None
    length: Size | None
    name: str | None


class ScanCall:
    """The call of scan in the user's file: its arguments are checked, each at its own place."""

    def __init__(self, loc: SrcLoc | None) -> None:
        self.loc = loc

    def at(self, keyword: str, position: int | None = None) -> SrcLoc | None:
        return argument_location(self.loc, position, keyword)

    def check_bound(self, bound: object) -> None:
        if isinstance(bound, BoundCell):
            return
        if isinstance(bound, Cell):
            problem = f"a cell with its sizes: write scan({bound.example()}, ...), found {bound.name} without any"
        else:
            problem = f"a cell with its sizes, such as lstm(H=64), found {described(bound)}"
        raise DslError(f"scan takes {problem}", loc=self.at("bound", 0))

    def static(self, bound: BoundCell, static: Any) -> dict[str, Value]:
        cell, loc = bound.cell, self.at("static")
        if static is None:
            return {}
        inputs = ", ".join(cell.inputs)
        if not isinstance(static, Mapping):
            raise DslError(f"static takes a dict of inputs by name, of {inputs}, found {described(static)}", loc=loc)
        given = by_identifier(static)
        for name, value in given.items():
            if name not in cell.inputs:
                hint = f": {name} is a state: give its initial value by init" if name in cell.states else ""
                raise DslError(f"static names inputs of {cell.name}, of {inputs}, found {name!r}{hint}", loc=loc)
            check_is_value(value, f"static {name}", loc)
        return given

    def sequences(self, bound: BoundCell, xs: Any, static: Mapping[str, Value]) -> dict[str, Value]:
        cell, loc = bound.cell, self.at("xs", 1)
        wanted = [name for name in cell.inputs if name not in static]
        if xs is None:
            xs = {}
        elif not wanted:
            why = "static gives every input of it" if static else "it has no input"
            raise DslError(
                f"{cell.owner} takes no sequence, because {why}: expected scan({cell.name}(...), length=T), found xs",
                loc=loc,
            )
        listed = list(xs) if isinstance(xs, list | tuple) else [xs]
        given = by_identifier(xs) if isinstance(xs, Mapping) else dict(zip(wanted, listed, strict=False))
        count = len(given) if isinstance(xs, Mapping) else len(listed)
        if count != len(wanted) or set(given) != set(wanted):
            found = ", ".join(map(str, given)) or "none" if isinstance(xs, Mapping) else count
            raise DslError(
                f"{cell.name} takes {'a sequence' if len(wanted) == 1 else f'{len(wanted)} sequences'}"
                f" here, for {', '.join(wanted)}: found {found}",
                loc=loc,
                notes=[declared.note(name) for name, declared in cell.inputs.items()],
            )
        for name in wanted:
            check_is_value(given[name], f"the sequence for {name}", loc)
        return {name: given[name] for name in wanted}

    def length(self, bound: BoundCell, length: Any, sequences: Mapping[str, Value]) -> Size | None:
        """The declared number of steps: needed where no sequence tells it, and only there."""
        loc = self.at("length")
        if length is None:
            if not sequences:
                raise DslError(
                    f"{bound.cell.owner} runs over no sequence here: expected the number of steps, as in length=T",
                    loc=self.loc,
                )
            return None
        if sequences:
            raise DslError(
                "length is for a scan without a sequence: here the sequence has the number of steps", loc=loc
            )
        size = as_size(length)
        if size is None:
            raise DslError(f"length takes a positive integer or a dimension, found {described(length)}", loc=loc)
        return size

    def option(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise DslError(f"{name} must be True or False, found {described(value)}", loc=self.at(name))
        return value

    def along(self, name: str, value: Any, shape: str) -> Value | None:
        """``cont`` or ``lengths``: a Value, or None."""
        if value is not None:
            check_is_value(value, name, self.at(name), f": it takes a Value {shape}")
        return value  # type: ignore[no-any-return]

    def initial(self, bound: BoundCell, init: Any) -> dict[str, Value]:
        cell, loc = bound.cell, self.at("init")
        if init is None:
            return {}
        given = {next(iter(cell.states)): init} if isinstance(init, Value) and len(cell.states) == 1 else init
        states = ", ".join(cell.states) or "none"
        if not isinstance(given, Mapping):
            one = "a Value or " if len(cell.states) == 1 else ""
            raise DslError(
                f"init takes {one}a dict of states by name, of {states}, found {described(init)}: a state without"
                " init starts at its fill, or at zero",
                loc=loc,
            )
        by_state = by_identifier(given)
        for name, value in by_state.items():
            if name not in cell.states:
                raise DslError(f"init names states of {cell.name}, of {states}, found {name!r}", loc=loc)
            hint = ": a state without init starts at its fill, or at zero"
            check_is_value(value, f"the initial {name}", loc, hint)
        return by_state

    def check_carry(self, options: ScanOptions, init: Mapping[str, Value]) -> None:
        if options.carry and init:
            raise DslError(
                f"carry sets the initial value of every state, and init that of {', '.join(init)}:"
                " expected one of them",
                loc=self.at("carry"),
            )
        if options.carry and options.reverse:
            raise DslError(
                "carry starts where the batch before ended, but a reversed scan ends at the first step: expected only"
                " one of carry and reverse",
                loc=self.at("carry"),
            )
