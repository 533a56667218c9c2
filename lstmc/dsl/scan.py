"""``scan``: run a bound cell over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.dsl.cell import BoundCell
from lstmc.dsl.counting import counted
from lstmc.dsl.dims import Size
from lstmc.dsl.function import checked
from lstmc.dsl.identifiers import by_identifier
from lstmc.dsl.result import Out, StepResult, like, step_outputs
from lstmc.dsl.scan_call import ScanCall, ScanOptions
from lstmc.dsl.step import bind_argument, call_step, declare_params, declared_shape, use_of
from lstmc.dsl.trace import Trace, check_name, open_trace, opened, origin, size_in
from lstmc.dsl.valid import keep, masked, valid_mask
from lstmc.dsl.value import Value, inner_trace
from lstmc.errors import DimError, DslError, ShapeError
from lstmc.ir import Builder, Scan
from lstmc.ops import Add, Arg, Constant, Full, Input, IntegerRange, Leaf, Role
from lstmc.source import SrcLoc, here

__all__ = ["scan"]

Sequences = Value | tuple[Value, ...] | list[Value] | Mapping[str, Value]


@checked
def scan(
    bound: BoundCell[Out],
    xs: Sequences | None = None,
    *,
    init: Value | Mapping[str, Value] | None = None,
    static: Mapping[str, Value] | None = None,
    cont: Value | None = None,
    lengths: Value | None = None,
    length: Size | None = None,
    reverse: bool = False,
    carry: bool = False,
    name: str | None = None,
) -> tuple[Out, dict[str, Value]]:
    """Run a cell over a sequence [T, N, ...]; returns its outputs over time, and the last states by name.

    ``xs`` is one sequence, several in the order of the cell's inputs, or a dict by input name; a cell without a
    sequence runs for ``length`` steps. ``init`` gives states their first value (gradients flow through it; the rest
    start at zero or at their fill); without the axis N it is the same for the whole batch. ``static`` gives an input
    the same value at every step. ``reverse`` runs from the last step to the first, outputs keeping their places in
    time. ``name`` names the layers; parameters keep the bound cell's name.

    ``cont`` [T, N] is Caffe's indicator (``lstm_layer.cpp``): every state is multiplied by it before step t uses it,
    so 0 starts a new sequence there. Under ``reverse`` the step used before t is t + 1: 0 belongs at a sequence's last
    step then, not at its first. ``lengths`` [N] are numbers of steps: past its end a sequence's states stay as
    they are and its outputs are zero, so its last states are those of its last step. With ``carry`` states start
    where the batch before ended, as in Caffe's own recurrent layers, and at zero in the first.
    """
    call = ScanCall(here())
    call.check_bound(bound)
    constant = call.static(bound, static)
    sequences = call.sequences(bound, xs, constant)
    initial = call.initial(bound, init)
    steps = call.length(bound, length, sequences)
    if name is not None:
        check_name(name, "the name of a scan", call.at("name"))
    options = ScanOptions(
        call.option("reverse", reverse),
        call.option("carry", carry),
        call.along("cont", cont, "[T, N]"),
        call.along("lengths", lengths, "[N]"),
        steps,
        name,
    )
    call.check_carry(options, initial)
    values = [*sequences.values(), *constant.values(), *initial.values()]
    values += [value for value in (options.cont, options.lengths) if value is not None]
    trace = inner_trace(*values) if values else open_trace("scan", call.loc)
    if trace.parent is not None and not trace.finished:
        raise DslError(
            f"scan cannot be called in a cell: a cell is one step. Call {bound.usage()} here, or scan in the model",
            loc=call.loc,
        )
    return _Scanner(bound, trace, call, options).run(sequences, constant, initial)


class _Scanner:
    """One call of scan: the operands are made to fit, then the body is traced on arguments of one step."""

    def __init__(self, bound: BoundCell, trace: Trace, call: ScanCall, options: ScanOptions) -> None:
        self.bound, self.cell, self.trace, self.call, self.options = bound, bound.cell, trace, call, options
        self.use = use_of(bound, trace)

    def run(
        self, sequences: dict[str, Value], static: dict[str, Value], init: dict[str, Value]
    ) -> tuple[Any, dict[str, Value]]:
        xs, at_static, name = self.call.at("xs", 1), self.call.at("static"), self.options.name
        sequences = {n: self._fitted(n, value, xs, sequence=True) for n, value in sequences.items()}
        length = self._length(sequences, xs)
        static = {n: self._fitted(n, value, at_static) for n, value in static.items()}
        init = {n: self._first(n, value) for n, value in init.items()}
        # the first scan of a bound cell may have its very name: then layers and parameters share their prefix
        title = self.trace.root.unique_name(name or self.use.name) if name or self.use.scanned else self.use.name
        self.use.scanned = True
        operands = sequences | self._initial(init, title) | static
        declare_params(self.bound, self.use, self.trace.root)
        masks = self._masks(operands, sequences, length)
        output, last = self._scan(title, operands, masks, set(sequences), length)
        if self.options.carry:
            self.trace.root.carried.update({operands[state].ref: value.ref for state, value in last.items()})
        return output, last

    def _fitted(self, name: str, value: Value, loc: SrcLoc | None, sequence: bool = False) -> Value:
        return bind_argument(self.bound, self.use, name, self.trace.adopt(value, loc), loc, sequence)

    def _first(self, name: str, value: Value) -> Value:
        """A state's given first value; one without the axis of the batch is repeated along it."""
        loc = self.call.at("init")
        declared = self.cell.states[name]
        if len(value.shape) + 1 != len(declared.shape):
            return self._fitted(name, value, loc)
        because = f"from the initial {name}, which is {value.type}"
        notes = (declared.note(f"{name} of {self.cell.owner}"), f"given {origin(value)}")
        try:
            self.use.scope.unify(declared.shape[1:], value.shape, because, notes)
        except DimError as error:
            raise error.located(loc) from None
        shape = declared_shape(self.bound, self.use, name)
        zeros = Value(self.trace, self.trace.builder.add(Full(shape), names=(f"{name}_zeros",), loc=loc)[0])
        return Value(self.trace, self.trace.apply(Add(), zeros, value, names=(f"{name}_0",), loc=loc)[0])

    def _length(self, sequences: dict[str, Value], loc: SrcLoc | None) -> int:
        if self.options.length is not None:
            return size_in(self.trace, self.options.length, self.call.at("length"))
        lengths = {name: value.shape[0] for name, value in sequences.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ShapeError(
                f"the sequences for {self.cell.name} must have the same number of steps: {found}",
                loc=loc,
                notes=[f"{name} is {origin(value)}" for name, value in sequences.items()],
            )
        return next(iter(lengths.values()))

    def _initial(self, init: dict[str, Value], title: str) -> dict[str, Value]:
        """Every state's first value: the given one, the last batch's, a blob made by its fill, or zero."""
        found = {}
        for name, declared in self.cell.states.items():
            if name in init:
                found[name] = init[name]
                continue
            shape = declared_shape(self.bound, self.use, name)
            op: Leaf = Full(shape) if declared.fill is None else Input(shape, declared.fill)
            if self.options.carry:
                op = Input(shape, Constant(0))
            (ref,) = self.trace.builder.add(op, names=(f"{title}/{name}_0",), loc=declared.loc)
            found[name] = Value(self.trace, ref)
        return found

    def _masks(self, operands: Mapping[str, Value], sequences: Mapping[str, Value], steps: int) -> dict[str, Value]:
        """The sequences [T, N] of 0 and 1 that the body gets besides the cell's own."""
        rows = [operands[name].shape[0] for name in self.cell.states]
        batch = [*rows, *(value.shape[1] for value in sequences.values() if len(value.shape) > 1), 0][0]
        cont, lengths = (self._along(value) for value in (self.options.cont, self.options.lengths))
        masks = {}
        if cont is not None:
            self._check_along("cont", cont, "[T, N]", (steps, batch))
            self.trace.expect(cont.ref, IntegerRange(0, 1))
            masks["cont"] = cont
        if lengths is not None:
            self._check_along("lengths", lengths, "[N]", (batch,))
            masks["valid"] = valid_mask(self.trace, lengths, steps, self.call.loc)
        for state in self.cell.states if masks else ():
            self._check_batch(f"state {state}", operands[state], batch)
        return masks

    def _check_batch(self, what: str, value: Value, batch: int) -> None:
        """What a mask multiplies must have one row for each sequence."""
        if value.shape[0] != batch:
            name = "lengths" if self.options.cont is None or what == "output" else "cont"
            raise ShapeError(
                f"{name} is for {batch} sequences, but {what} of {self.cell.name} is {value.type}:"
                f" expected [{batch}, ...]",
                loc=self.call.at(name),
                notes=(f"{what} is {origin(value)}",),
            )

    def _along(self, value: Value | None) -> Value | None:
        return None if value is None else self.trace.adopt(value, self.call.loc)

    def _check_along(self, name: str, value: Value, shape: str, wanted: tuple[int, ...]) -> None:
        if value.shape != wanted:
            raise ShapeError(
                f"{name} must be {shape}, here {list(wanted)}: found {value.type}",
                loc=self.call.at(name),
                notes=(f"given {origin(value)}",),
            )

    def _scan(
        self, title: str, operands: dict[str, Value], masks: dict[str, Value], sequences: set[str], length: int
    ) -> tuple[Any, dict[str, Value]]:
        loc = self.call.loc
        body = Trace(self.cell.owner, Builder(title), self.use.scope, self.trace)
        with opened(body):
            arguments = {name: self._argument(body, name, value, sequences) for name, value in operands.items()}
            inside = {name: self._mask_argument(body, name, value) for name, value in masks.items()}
            outer = {argument.ref.node: operands[name] for name, argument in arguments.items()}
            outer |= {argument.ref.node: masks[name] for name, argument in inside.items()}
            output, following = self._step(body, arguments, inside)
        outer |= {argument.ref.node: value for value, argument in body.captured.values()}  # type: ignore[misc]
        if body.counter is not None:
            index = counted(self.trace, length, self.options.reverse, self.options.carry, loc)
            outer[body.counter.node] = index
        for name, domain in body.expected.items():
            self.trace.expect(outer[name].ref, domain)
        outputs = step_outputs(output)
        results = [(name, value.ref) for name, value in (*outputs.items(), *following.items())]
        wanted = {value.ref: name for name, value in (*following.items(), *outputs.items()) if name}
        graph = body.finished_graph(results, wanted)
        refs = [outer[arg.name].ref for arg in graph.body_args()]
        names = [f"{title}/{n or 'y'}" for n in outputs] + [f"{title}/{n}_T" for n in following]
        op = Scan(graph, length, self.options.reverse)
        made = [Value(self.trace, ref) for ref in self.trace.builder.add(op, *refs, names=names, loc=loc)]
        steps, last = made[: len(outputs)], made[len(outputs) :]
        return like(output, steps), by_identifier(dict(zip(following, last, strict=True)))

    def _step(self, body: Trace, arguments: dict[str, Value], masks: dict[str, Value]) -> StepResult:
        """The cell's own step, between what ``cont`` does to its states and ``lengths`` to its results."""
        loc, states = self.call.loc, self.cell.states
        given = dict(arguments)
        if "cont" in masks:
            given |= {n: masked(arguments[n], masks["cont"], f"{n}_cont") for n in states}
        output, following = call_step(self.bound, body, given, loc, "scanned")
        outputs = {n: body.adopt(value, loc) for n, value in step_outputs(output).items()}
        following = {name: body.adopt(value, loc) for name, value in following.items()}
        if "valid" in masks:
            valid = masks["valid"]
            for value in outputs.values():
                self._check_batch("output", value, valid.shape[0])
            outputs = {n: masked(value, valid, n or "y") for n, value in outputs.items()}
            following = {n: keep(value, arguments[n], valid, n) for n, value in following.items()}
        return like(output, list(outputs.values())), following

    def _argument(self, body: Trace, name: str, value: Value, sequences: set[str]) -> Value:
        role: Role = "x" if name in sequences else "state" if name in self.cell.states else "static"
        shape = value.shape[1:] if role == "x" else value.shape
        declared = self.cell.signature.declarations[name]
        shown = f"{name}_prev" if role == "state" else name  # the plain name is the next state's
        (ref,) = body.builder.add(Arg(shape, role), names=(shown,), loc=declared.loc)
        body.declared[ref] = declared.note(name)
        return Value(body, ref)

    def _mask_argument(self, body: Trace, name: str, value: Value) -> Value:
        (ref,) = body.builder.add(Arg(value.shape[1:], "x"), names=(name,), loc=self.call.at(name))
        body.declared[ref] = f"{name}: {body.builder.type(ref)} of a step"
        return Value(body, ref)
