"""``scan``: run a bound cell over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.dsl.cell import BoundCell, Cell
from lstmc.dsl.result import like, step_outputs
from lstmc.dsl.step import CellUse, bind_argument, call_step, check_value, declare_params, declared_shape, use_of
from lstmc.dsl.trace import Trace, check_name
from lstmc.dsl.value import Value, described, inner_trace
from lstmc.errors import DslError, ShapeError
from lstmc.ir import Builder, Scan, rename_values
from lstmc.ops import Arg, Full, Input, Role
from lstmc.source import SrcLoc, argument_location, here

Sequences = Value | tuple[Value, ...] | list[Value] | Mapping[str, Value]


def scan(
    bound: BoundCell,
    xs: Sequences,
    *,
    init: Value | Mapping[str, Value] | None = None,
    static: Mapping[str, Value] | None = None,
    reverse: bool = False,
    name: str | None = None,
) -> tuple[Any, dict[str, Value]]:
    """Run a cell over a sequence [T, N, ...]; returns its outputs over time, and the last states by name.

    ``xs`` is one sequence, several in the order of the cell's inputs, or a dict by input name. ``init`` gives
    states their first value (gradients flow through it; the rest start at zero or at their fill). ``static``
    gives an input the same value at every step. ``reverse`` runs from the last step to the first, outputs keeping
    their places in time. ``name`` names the layers; parameters keep the bound cell's name.
    """
    call = _Call(here())
    call.check_bound(bound)
    constant = call.static(bound, static)
    sequences = call.sequences(bound, xs, constant)
    initial = call.initial(bound, init)
    if name is not None:
        check_name(name, "the name of a scan", call.at("name"))
    if not isinstance(reverse, bool):
        raise DslError(f"reverse must be True or False, found {described(reverse)}", loc=call.at("reverse"))
    trace = inner_trace(*sequences.values(), *constant.values(), *initial.values())
    if trace.parent is not None and not trace.finished:
        raise DslError(
            f"scan cannot stand in a cell: a cell is one step. Call {bound.usage()} here, or scan in the model",
            loc=call.loc,
        )
    return _Scanner(bound, trace, call, reverse).run(sequences, constant, initial, name)


class _Call:
    """The call of scan in the user's file: its arguments are checked, each at its own place."""

    def __init__(self, loc: SrcLoc | None) -> None:
        self.loc = loc

    def at(self, keyword: str, position: int | None = None) -> SrcLoc | None:
        return argument_location(self.loc, position, keyword)

    def check_bound(self, bound: object) -> None:
        if isinstance(bound, BoundCell):
            return
        if isinstance(bound, Cell):
            problem = f"such as {bound.name}({', '.join(f'{d}=...' for d in bound.dims)}), found {bound.name} unbound"
        else:
            problem = f"such as lstm(H=64), found {described(bound)}"
        raise DslError(f"scan takes a bound cell, {problem}", loc=self.at("bound", 0))

    def static(self, bound: BoundCell, static: Any) -> dict[str, Value]:
        cell, loc = bound.cell, self.at("static")
        if static is None:
            return {}
        inputs = ", ".join(cell.inputs)
        if not isinstance(static, Mapping):
            raise DslError(f"static takes a dict of inputs by name, of {inputs}, found {described(static)}", loc=loc)
        for name, value in static.items():
            if name not in cell.inputs:
                hint = f": {name} is a state, which init gives its first value" if name in cell.states else ""
                raise DslError(f"static names inputs of {cell.name}, of {inputs}, found {name!r}{hint}", loc=loc)
            check_value(value, f"static {name}", loc)
        if len(static) == len(cell.inputs):
            raise DslError(
                "static gives every input, so there is no sequence to scan over: expected one input or more in xs",
                loc=loc,
            )
        return dict(static)

    def sequences(self, bound: BoundCell, xs: Any, static: Mapping[str, Value]) -> dict[str, Value]:
        cell, loc = bound.cell, self.at("xs", 1)
        wanted = [name for name in cell.inputs if name not in static]
        if not wanted:
            raise DslError(f"{cell.owner} has no input, so there is no sequence to scan it over", loc=loc)
        listed = list(xs) if isinstance(xs, list | tuple) else [xs]
        given = dict(xs) if isinstance(xs, Mapping) else dict(zip(wanted, listed, strict=False))
        count = len(given) if isinstance(xs, Mapping) else len(listed)
        if count != len(wanted) or set(given) != set(wanted):
            found = ", ".join(map(str, given)) or "none" if isinstance(xs, Mapping) else count
            raise DslError(
                f"{cell.name} takes {'a sequence' if len(wanted) == 1 else f'{len(wanted)} sequences'}"
                f" here, for {', '.join(wanted)}: found {found}",
                loc=loc,
                notes=[declared.told(name) for name, declared in cell.inputs.items()],
            )
        for name in wanted:
            check_value(given[name], f"the sequence for {name}", loc)
        return {name: given[name] for name in wanted}

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
        for name, value in given.items():
            if name not in cell.states:
                raise DslError(f"init names states of {cell.name}, of {states}, found {name!r}", loc=loc)
            hint = ": a state without init starts at its fill, or at zero"
            check_value(value, f"the initial {name}", loc, hint)
        return dict(given)


class _Scanner:
    """One call of scan: the operands are made to fit, then the body is traced on arguments of one step."""

    def __init__(self, bound: BoundCell, trace: Trace, call: _Call, reverse: bool) -> None:
        self.bound, self.cell, self.trace, self.call, self.reverse = bound, bound.cell, trace, call, reverse
        self.use: CellUse = use_of(bound, trace)

    def run(
        self, sequences: dict[str, Value], static: dict[str, Value], init: dict[str, Value], name: str | None
    ) -> tuple[Any, dict[str, Value]]:
        xs, at_static, at_init = self.call.at("xs", 1), self.call.at("static"), self.call.at("init")
        sequences = {n: self._fitted(n, value, xs, sequence=True) for n, value in sequences.items()}
        length = self._length(sequences, xs)
        static = {n: self._fitted(n, value, at_static) for n, value in static.items()}
        init = {n: self._fitted(n, value, at_init) for n, value in init.items()}
        # the first scan of a bound cell may have its very name: then layers and parameters share their prefix
        title = self.trace.unique_name(name or self.use.name) if name or self.use.scanned else self.use.name
        self.use.scanned = True
        operands = sequences | self._initial(init, title) | static
        declare_params(self.bound, self.use, self.trace)
        return self._scan(title, operands, set(sequences), length)

    def _fitted(self, name: str, value: Value, loc: SrcLoc | None, sequence: bool = False) -> Value:
        return bind_argument(self.bound, self.use, name, self.trace.adopt(value, loc), loc, sequence)

    def _length(self, sequences: dict[str, Value], loc: SrcLoc | None) -> int:
        lengths = {name: value.shape[0] for name, value in sequences.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ShapeError(
                f"the sequences for {self.cell.name} must have the same number of steps: {found}",
                loc=loc,
                notes=[f"{name} is {value.told()}" for name, value in sequences.items()],
            )
        return next(iter(lengths.values()))

    def _initial(self, init: dict[str, Value], title: str) -> dict[str, Value]:
        """Every state's first value: the given one, a blob made by its fill, or zero."""
        found = {}
        for name, declared in self.cell.states.items():
            if name in init:
                found[name] = init[name]
                continue
            shape = declared_shape(self.bound, self.use, name)
            op = Full(shape) if declared.fill is None else Input(shape, declared.fill)
            (ref,) = self.trace.builder.add(op, names=(f"{title}/{name}_0",), loc=declared.loc)
            found[name] = Value(self.trace, ref)
        return found

    def _scan(
        self, title: str, operands: dict[str, Value], sequences: set[str], length: int
    ) -> tuple[Any, dict[str, Value]]:
        loc = self.call.loc
        body = Trace(self.cell.owner, Builder(title), self.use.scope, self.trace)
        try:
            arguments = {name: self._argument(body, name, value, sequences) for name, value in operands.items()}
            passed = {argument.ref.node: operands[name].ref for name, argument in arguments.items()}
            output, following = call_step(self.bound, body, arguments, loc, "scanned")
            outputs = {n: body.adopt(value, loc) for n, value in step_outputs(output).items()}
            following = {name: body.adopt(value, loc) for name, value in following.items()}
        finally:
            body.finished = True
        results = [(f"y.{n}" if n else "y", v.ref) for n, v in outputs.items()]
        results += [(f"next.{name}", value.ref) for name, value in following.items()]
        wanted = {value.ref: name for name, value in (*following.items(), *outputs.items()) if name}
        graph = rename_values(body.builder.finish(results), wanted)
        passed |= {argument.ref.node: outer.ref for outer, argument in body.captured.values()}
        refs = [passed[arg.name] for arg in graph.body_args()]
        names = [f"{title}/{n or 'y'}" for n in outputs] + [f"{title}/{n}_T" for n in following]
        op = Scan(graph, length, self.reverse)
        made = [Value(self.trace, ref) for ref in self.trace.builder.add(op, *refs, names=names, loc=loc)]
        steps, last = made[: len(outputs)], made[len(outputs) :]
        return like(output, steps), dict(zip(following, last, strict=True))

    def _argument(self, body: Trace, name: str, value: Value, sequences: set[str]) -> Value:
        role: Role = "x" if name in sequences else "state" if name in self.cell.states else "static"
        shape = value.shape[1:] if role == "x" else value.shape
        declared = self.cell.signature.declarations[name]
        shown = f"{name}_prev" if role == "state" else name  # the plain name is the next state's
        (ref,) = body.builder.add(Arg(shape, role), names=(shown,), loc=declared.loc)
        body.declared[ref] = declared.told(name)
        return Value(body, ref)
