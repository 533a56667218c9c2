"""``scan``: run a bound cell over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.dsl.cell import (
    BoundCell,
    Cell,
    CellUse,
    bind_argument,
    call_step,
    declare_params,
    use_of,
)
from lstmc.dsl.trace import Trace
from lstmc.dsl.value import Value
from lstmc.errors import DslError, ShapeError
from lstmc.ir import Builder, Ref, Scan, rename_values
from lstmc.ops import Arg, Full, Input, Role
from lstmc.source import SrcLoc, here

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
    loc = here()
    _check_bound(bound, loc)
    sequences = _match_sequences(bound, xs, dict(static or {}), loc)
    trace = next(iter(sequences.values())).trace
    if trace.parent is not None:
        raise DslError(
            "scan inside a cell's body is not possible: a body is one step. Call the bound cell,"
            f" {bound.usage()}, or scan in the model",
            loc=loc,
            scope=trace.owner,
        )
    return _Scanner(bound, trace, use_of(bound, trace), loc, reverse).run(
        sequences, dict(static or {}), _match_init(bound, init, loc), name
    )


def _check_bound(bound: Any, loc: SrcLoc | None) -> None:
    if isinstance(bound, BoundCell):
        return
    found = f"the unbound cell {bound.name}" if isinstance(bound, Cell) else repr(bound)
    hint = f"{bound.name}({', '.join(f'{d}=...' for d in bound.dims)})" if isinstance(bound, Cell) else "lstm(H=64)"
    raise DslError(f"scan takes a bound cell, such as {hint}, found {found}", loc=loc)


def _match_sequences(bound: BoundCell, xs: Any, static: dict[str, Value], loc: SrcLoc | None) -> dict[str, Value]:
    cell = bound.cell
    wanted = [name for name in cell.inputs if name not in static]
    listed = list(xs) if isinstance(xs, list | tuple) else [xs]
    given = dict(xs) if isinstance(xs, Mapping) else dict(zip(wanted, listed, strict=False))
    count = len(given) if isinstance(xs, Mapping) else len(listed)
    unknown = [name for name in static if name not in cell.inputs]
    if unknown or set(given) != set(wanted) or count != len(wanted) or not wanted:
        raise DslError(
            f"scan of {cell.name}: expected a sequence for each of {', '.join(wanted) or 'its inputs'},"
            f" found {count} sequences and static {', '.join(static) or 'none'}",
            loc=loc,
            scope=cell.owner,
            notes=[declared.told(name) for name, declared in cell.inputs.items()],
        )
    for name, value in {**given, **static}.items():
        if not isinstance(value, Value):
            raise DslError(f"scan of {cell.name}: {name} must be a Value, found {value!r}", loc=loc, scope=cell.owner)
    return {name: given[name] for name in wanted}


def _match_init(bound: BoundCell, init: Any, loc: SrcLoc | None) -> dict[str, Value]:
    states = list(bound.cell.states)
    if init is None:
        return {}
    given = {states[0]: init} if isinstance(init, Value) and len(states) == 1 else init
    if not isinstance(given, Mapping) or not set(given) <= set(states):
        found = ", ".join(map(str, given)) if isinstance(given, Mapping) else repr(given)
        raise DslError(
            f"scan of {bound.cell.name}: init gives states by name, of {', '.join(states)}, found {found}",
            loc=loc,
            scope=bound.cell.owner,
        )
    for name, value in given.items():
        if not isinstance(value, Value):
            raise DslError(
                f"scan of {bound.cell.name}: the initial {name} must be a Value, found {value!r}",
                loc=loc,
                scope=bound.cell.owner,
            )
    return dict(given)


class _Scanner:
    """One call of scan: the operands are made to fit, then the body is traced on arguments of one step."""

    def __init__(self, bound: BoundCell, trace: Trace, use: CellUse, loc: SrcLoc | None, reverse: bool) -> None:
        self.bound, self.trace, self.use, self.loc, self.reverse = bound, trace, use, loc, reverse

    def run(
        self, sequences: dict[str, Value], static: dict[str, Value], init: dict[str, Value], name: str | None
    ) -> tuple[Any, dict[str, Value]]:
        declared = self.bound.cell.signature.declarations
        length = self._length(sequences)

        def fitted(values: dict[str, Value], lead: int) -> dict[str, Value]:
            return {n: bind_argument(self.use, n, declared[n], v, lead, self.loc) for n, v in values.items()}

        sequences, static, init = fitted(sequences, 1), fitted(static, 0), fitted(init, 0)
        # the first scan of a bound cell may have its very name: then layers and parameters share their prefix
        title = self.trace.unique_name(name or self.use.name) if name or self.use.scanned else self.use.name
        self.use.scanned = True
        operands = sequences | self._initial(init, title) | static
        declare_params(self.bound, self.use, self.trace)
        return self._scan(title, operands, set(sequences), length)

    def _length(self, sequences: dict[str, Value]) -> int:
        lengths = {name: value.shape[0] for name, value in sequences.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ShapeError(
                f"scan of {self.bound.cell.name}: sequences differ in their number of steps: {found}",
                loc=self.loc,
                scope=self.bound.cell.owner,
                notes=[v.trace.origin(v.ref, n) for n, v in sequences.items()],
            )
        return next(iter(lengths.values()))

    def _initial(self, init: dict[str, Value], title: str) -> dict[str, Value]:
        """Every state's first value: the given one, a blob made by its fill, or zero."""
        found = {}
        for name, declared in self.bound.cell.states.items():
            if name in init:
                found[name] = init[name]
                continue
            mend = f"write {self.bound.cell.name}({{name}}=SIZE)"
            shape = self.use.scope.sizes(declared.shape, f"state {name}", declared.loc, mend)
            op = Full(shape) if declared.fill is None else Input(shape, declared.fill)
            (ref,) = self.trace.builder.add(op, names=(f"{title}/{name}_0",), loc=declared.loc)
            found[name] = Value(self.trace, ref)
        return found

    def _scan(
        self, title: str, operands: dict[str, Value], sequences: set[str], length: int
    ) -> tuple[Any, dict[str, Value]]:
        cell = self.bound.cell
        body = Trace(cell.owner, Builder(title), self.use.scope, self.trace)
        arguments: dict[str, Value] = {}
        passed: dict[str, Ref] = {}
        for name, value in operands.items():
            role: Role = "x" if name in sequences else "state" if name in cell.states else "static"
            shape = value.shape[1:] if role == "x" else value.shape
            declared = cell.signature.declarations[name]
            shown = f"{name}_prev" if role == "state" else name  # the plain name is the next state's
            (ref,) = body.builder.add(Arg(shape, role), names=(shown,), loc=declared.loc)
            body.declared[ref] = declared.told(name)
            passed[ref.node] = value.ref
            arguments[name] = Value(body, ref)
        output, following = call_step(self.bound, body, arguments, self.loc)
        step_outputs = _named_outputs(output, body, cell)
        following = {name: body.adopt(value, self.loc) for name, value in following.items()}
        results = [(f"y.{n}" if n else "y", v.ref) for n, v in step_outputs.items()]
        results += [(f"next.{name}", value.ref) for name, value in following.items()]
        wanted = {value.ref: name for name, value in (*following.items(), *step_outputs.items()) if name}
        graph = rename_values(body.builder.finish(results), wanted)
        op = Scan(graph, length, self.reverse)
        passed |= {argument.ref.node: outer.ref for outer, argument in body.captured.values()}
        refs = [passed[arg.name] for arg in graph.body_args()]
        names = [f"{title}/{n or 'y'}" for n in step_outputs] + [f"{title}/{n}_T" for n in following]
        made = [Value(self.trace, ref) for ref in self._add(op, refs, names)]
        steps, last = made[: len(step_outputs)], made[len(step_outputs) :]
        return _like(output, steps), dict(zip(following, last, strict=True))

    def _add(self, op: Scan, operands: list[Ref], names: list[str]) -> tuple[Ref, ...]:
        return self.trace.builder.add(op, *operands, names=names, loc=self.loc)


def _named_outputs(output: Any, body: Trace, cell: Cell) -> dict[str, Value]:
    """A step's output as values by name; a single one is called ''."""
    if output is None:
        named: dict[str, Any] = {}
    elif isinstance(output, Value):
        named = {"": output}
    elif isinstance(output, tuple | list):
        named = {str(i): value for i, value in enumerate(output)}
    else:
        named = dict(output) if isinstance(output, Mapping) else {"": output}
    for name, value in named.items():
        if not isinstance(value, Value) or not isinstance(name, str):
            raise DslError(
                f"a step's output must be a Value, a tuple or dict of Values, or None, found {value!r}",
                loc=cell.loc,
                scope=cell.owner,
            )
    return {name: body.adopt(value, cell.loc) for name, value in named.items()}


def _like(output: Any, values: list[Value]) -> Any:
    if output is None:
        return None
    if isinstance(output, Mapping):
        return dict(zip(output, values, strict=True))
    return tuple(values) if isinstance(output, tuple | list) else values[0]
