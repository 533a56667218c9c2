"""``scan``: run a bound cell over time; ``step_index``: the number of the step. Masks mark the valid steps of each
sequence of a batch; ordinary ops compute them from the lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.dsl.cell import (
    BoundCell,
    Cell,
    Out,
    StepResult,
    bind_argument,
    call_step,
    check_is_value,
    declare_params,
    declared_shape,
    like,
    step_outputs,
    use_of,
)
from lstmc.dsl.dims import Size, as_size
from lstmc.dsl.function import checked, described, function, wrong_shape
from lstmc.dsl.trace import Trace, check_name, open_trace, opened, origin, size_in
from lstmc.dsl.value import Value, inner_trace
from lstmc.errors import DslError, ShapeError, errors_at
from lstmc.ir import Builder, Graph, Scan
from lstmc.ops import Add, Affine, Arg, Constant, Full, Input, IntegerRange, Leaf, Mul, Op, Relu, Reshape, Role, Values
from lstmc.source import SrcLoc, argument_location, here
from lstmc.text import by_identifier

SHAPE = (1,)


@function
def step_index() -> Value:
    """In a cell: the number of steps that the scan has done, as an array [1]: 0 at the first step, 1 at the second, ...
    With ``reverse`` the first step is the last in time. With ``carry`` the number continues from the previous batch;
    ``cont`` and ``lengths`` do not change it. In a net of one step (``--step``) the number is a state."""
    loc = here()
    trace = open_trace("step_index", loc)
    if trace.parent is None:
        raise DslError("step_index must be called in a cell that is scanned: a model has no steps", loc=loc)
    if trace.counter is None:
        (trace.counter,) = trace.builder.add(Arg(SHAPE, "x"), names=("step_index",), loc=loc)
        trace.declared[trace.counter] = "step_index(): the number of the step"
    return Value(trace, trace.counter)


def counted(trace: Trace, steps: int, reverse: bool, carry: bool, loc: SrcLoc | None) -> Value:
    """Return the numbers 0, 1, 2, ... of a scan's steps as a sequence [T, 1], which another scan makes: one for all
    scans of the same length, direction and ``carry``."""
    counters = trace.root.counters
    alike = steps, reverse, carry
    if alike not in counters:
        body = _counting(trace, "step_index", "index", SHAPE, 1.0)
        first: Op = Input(SHAPE, Constant(0)) if carry else Full(SHAPE)
        (start,) = trace.builder.add(first, names=(f"{body.name}/index_0",), loc=loc)
        op, names = Scan(body, steps, reverse, inside=trace.root.is_step), (body.name, f"{body.name}/index_T")
        steps_seen, last = trace.builder.add(op, start, names=names, loc=loc)
        if carry:
            trace.root.carried[start] = last
        counters[alike] = steps_seen
    return Value(trace, counters[alike])


def valid_mask(trace: Trace, lengths: Value, steps: int, loc: SrcLoc | None) -> Value:
    """Return the mask [T, N], 1 - relu(1 - relu(lengths - t)): 1 where step t is before the end of sequence n, else 0.
    ``lengths`` [N] are integers up to T. Equal calls get the same mask."""
    masks = trace.root.masks
    if (lengths.ref, steps) not in masks:
        trace.expect(lengths.ref, IntegerRange(0, steps))
        body = _counting(trace, "steps_left", "left", lengths.shape, -1.0)  # the lengths, counted down
        scan, names = Scan(body, steps, inside=trace.root.is_step), (body.name, f"{body.name}_T")
        value = Value(trace, trace.builder.add(scan, lengths.ref, names=names, loc=loc)[0])
        ops = (("left", Relu()), ("missing", Affine(-1.0, 1.0)), ("past", Relu()), ("valid", Affine(-1.0, 1.0)))
        for name, op in ops:
            value = Value(trace, trace.apply(op, value, names=(name,), loc=loc)[0])
        masks[lengths.ref, steps] = value.ref
    return Value(trace, masks[lengths.ref, steps])


def _counting(trace: Trace, title: str, state: str, shape: tuple[int, ...], by: float) -> Graph:
    """Return the body of a scan whose output is a state before the step, to which each step adds ``by``."""
    body = Builder(trace.root.titles.unique(title))
    (now,) = body.add(Arg(shape, "state"), names=(f"{state}_prev",))
    (following,) = body.add(Affine(1.0, by), now, names=(state,))
    return body.finish([("", now), (state, following)])


def masked(value: Value, mask: Value, name: str) -> Value:
    """Return a value [N, ...] times a mask [N]; the product is called ``name``."""
    trace = value.trace
    if len(value.shape) > 1:
        shape = (mask.shape[0], *(1,) * (len(value.shape) - 1))
        mask_name = trace.builder.node(mask.ref.node).names[mask.ref.out]
        mask = Value(trace, trace.apply(Reshape(shape), mask, names=(f"{mask_name}_rows",))[0])
    return Value(trace, trace.apply(Mul(), value, mask, names=(name,))[0])


def keep(new: Value, old: Value, mask: Value, name: str) -> Value:
    """Return ``new`` where the mask [N] is 1, and ``old`` where it is 0; exactly, since one of two products is 0."""
    trace = new.trace
    missing = Value(trace, trace.apply(Affine(-1.0, 1.0), mask, names=("missing",))[0])
    terms = masked(new, mask, f"{name}_new"), masked(old, missing, f"{name}_old")
    return Value(trace, trace.apply(Add(), *terms, names=(name,))[0])


@checked
def last_valid(y: Value, lengths: Value) -> Value:
    """The value of each sequence's last step: y [T, N, ...], lengths [N], result [N, ...]; zero for a length of 0.

    A scan that gives zeros past each sequence's end (``scan(..., lengths=lengths)``) already keeps the last *states*:
    this function is for its outputs.
    """
    loc = here()
    for position, (name, value) in enumerate((("y", y), ("lengths", lengths))):
        check_is_value(value, f"{name} of last_valid", argument_location(loc, position, name))
    if len(y.shape) < 2 or lengths.shape != y.shape[1:2]:
        raise wrong_shape("last_valid takes y [T, N, ...] and lengths [N]", y=y, lengths=lengths)
    trace = inner_trace(y, lengths)
    mask = valid_mask(trace, lengths, y.shape[0], loc)
    body = Trace(trace.owner, Builder(trace.root.titles.unique("last_valid")), trace.scope, trace)
    (before,) = body.builder.add(Arg(y.shape[1:], "state"), names=("last_prev",))
    (here_y,) = body.builder.add(Arg(y.shape[1:], "x"), names=("y",))
    (valid,) = body.builder.add(Arg(mask.shape[1:], "x"), names=("valid",))
    last = keep(Value(body, here_y), Value(body, before), Value(body, valid), "last")
    body.finished = True
    graph = body.builder.finish([("last", last.ref)])
    (zero,) = trace.builder.add(Full(y.shape[1:]), names=(f"{graph.name}/last_0",), loc=loc)
    scan = Scan(graph, y.shape[0], inside=trace.root.is_step)
    (ref,) = trace.builder.add(scan, zero, y.ref, mask.ref, names=(f"{graph.name}/last_T",), loc=loc)
    return Value(trace, ref)


class _ScanCall:
    """A call of ``scan`` in the user's file: it checks and fits the arguments, then traces the body on one step."""

    def __init__(self, bound: BoundCell, loc: SrcLoc | None) -> None:
        """Raise :class:`DslError` at the argument unless ``bound`` is a cell with sizes; ``loc`` is the user's call."""
        self.bound, self.loc = bound, loc
        if not isinstance(bound, BoundCell):
            problem = f"a cell with its sizes, such as lstm(H=64), found {described(bound)}"
            if isinstance(bound, Cell):
                problem = f"a cell with its sizes: write scan({bound.example()}, ...), found {bound.name} without any"
            raise DslError(f"scan takes {problem}", loc=self.at("bound", 0))
        self.cell = bound.cell
        self.length: Size | None = None  # this and the following are arguments of ``scan``, which sets them
        self.name: str | None = None
        self.reverse = self.carry = False
        self.cont: Value | None = None
        self.lengths: Value | None = None

    def at(self, keyword: str, position: int | None = None) -> SrcLoc | None:
        return argument_location(self.loc, position, keyword)

    def static(self, static: Any) -> dict[str, Value]:
        """Return the static inputs by name. Raise :class:`DslError` unless they are Values for inputs of the cell."""
        cell, loc = self.cell, self.at("static")
        if static is None:
            return {}
        inputs = ", ".join(cell.inputs)
        if not isinstance(static, Mapping):
            raise DslError(f"static takes a dict of inputs by name, of {inputs}, found {described(static)}", loc=loc)
        values = by_identifier(static)
        for name, value in values.items():
            if name not in cell.inputs:
                hint = f": {name} is a state: give its initial value by init" if name in cell.states else ""
                raise DslError(f"static names inputs of {cell.name}, of {inputs}, found {name!r}{hint}", loc=loc)
            check_is_value(value, f"static {name}", loc)
        return values

    def sequences(self, xs: Any, static: Mapping[str, Value]) -> dict[str, Value]:
        """Return the sequence of each input that is not static, by name. Raise DslError unless each has one."""
        cell, loc = self.cell, self.at("xs", 1)
        names = [name for name in cell.inputs if name not in static]
        if xs is None:
            xs = {}
        elif not names:
            why = "static gives every input of it" if static else "it has no input"
            valid = f"expected scan({cell.name}(...), length=T), found xs"
            raise DslError(f"{cell.owner} takes no sequence, because {why}: {valid}", loc=loc)
        listed = list(xs) if isinstance(xs, list | tuple) else [xs]
        by_name = by_identifier(xs) if isinstance(xs, Mapping) else dict(zip(names, listed, strict=False))
        count = len(by_name) if isinstance(xs, Mapping) else len(listed)
        if count != len(names) or set(by_name) != set(names):
            actual = ", ".join(map(str, by_name)) or "none" if isinstance(xs, Mapping) else count
            valid = f"{'a sequence' if len(names) == 1 else f'{len(names)} sequences'} here, for {', '.join(names)}"
            notes = [declared.note(name) for name, declared in cell.inputs.items()]
            raise DslError(f"{cell.name} takes {valid}: found {actual}", loc=loc, notes=notes)
        for name in names:
            check_is_value(by_name[name], f"the sequence for {name}", loc)
        return {name: by_name[name] for name in names}

    def steps(self, length: Any, sequences: Mapping[str, Value]) -> Size | None:
        """Return the number of steps that ``length`` gives, or None if there is a sequence instead."""
        loc = self.at("length")
        if length is None and not sequences:
            problem = "runs over no sequence here: expected the number of steps, as in length=T"
            raise DslError(f"{self.cell.owner} {problem}", loc=self.loc)
        if length is None:
            return None
        if sequences:
            problem = "length is for a scan without a sequence: here the sequence has the number of steps"
            raise DslError(problem, loc=loc)
        size = as_size(length)
        if size is None:
            raise DslError(f"length takes a positive integer or a dimension, found {described(length)}", loc=loc)
        return size

    def option(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise DslError(f"{name} must be True or False, found {described(value)}", loc=self.at(name))
        return value

    def along(self, name: str, value: Any, shape: str) -> Value | None:
        if value is not None:
            check_is_value(value, name, self.at(name), f": it takes a Value {shape}")
        return value  # type: ignore[no-any-return]

    def initial(self, init: Any) -> dict[str, Value]:
        """Return the first values that ``init`` gives, by state. Raise DslError unless they are Values for states."""
        cell, loc = self.cell, self.at("init")
        if init is None:
            return {}
        single = len(cell.states) == 1
        given = {next(iter(cell.states)): init} if isinstance(init, Value) and single else init
        states, hint = ", ".join(cell.states) or "none", ": a state without init starts at its fill, or at zero"
        if not isinstance(given, Mapping):
            valid = f"{'a Value or ' if single else ''}a dict of states by name, of {states}"
            raise DslError(f"init takes {valid}, found {described(init)}{hint}", loc=loc)
        by_state = by_identifier(given)
        for name, value in by_state.items():
            if name not in cell.states:
                raise DslError(f"init names states of {cell.name}, of {states}, found {name!r}", loc=loc)
            check_is_value(value, f"the initial {name}", loc, hint)
        return by_state

    def check_carry(self, init: Mapping[str, Value]) -> None:
        if self.carry and init:
            problem = f"carry sets the initial value of every state, and init that of {', '.join(init)}"
            raise DslError(f"{problem}: expected one of them", loc=self.at("carry"))
        if self.carry and self.reverse:
            problem = "carry starts where the batch before ended, but a reversed scan ends at the first step"
            raise DslError(f"{problem}: expected only one of carry and reverse", loc=self.at("carry"))

    def run(
        self, trace: Trace, sequences: dict[str, Value], static: dict[str, Value], init: dict[str, Value]
    ) -> tuple[Any, dict[str, Value]]:
        """Fit all arguments to their declarations, trace the scan, return outputs over time and last states by name."""
        self.trace, self.use = trace, use_of(self.bound, trace)
        xs, at_static, name = self.at("xs", 1), self.at("static"), self.name
        sequences = {n: self._fitted(n, value, xs, sequence=True) for n, value in sequences.items()}
        length = self._length(sequences, xs)
        static = {n: self._fitted(n, value, at_static) for n, value in static.items()}
        init = {n: self._first(n, value) for n, value in init.items()}
        # the first scan of a bound cell has the name of the cell, so that layers and parameters share their prefix
        title = self.trace.root.titles.unique(name or self.use.name) if name or self.use.scanned else self.use.name
        self.use.scanned = True
        operands = sequences | self._initial(init, title) | static
        declare_params(self.bound, self.use, self.trace.root)
        masks = self._masks(operands, sequences, length)
        output, last = self._scan(title, operands, masks, set(sequences), length)
        if self.carry:
            self.trace.root.carried.update({operands[state].ref: value.ref for state, value in last.items()})
        return output, last

    def _fitted(self, name: str, value: Value, loc: SrcLoc | None, sequence: bool = False) -> Value:
        return bind_argument(self.bound, self.use, name, self.trace.adopt(value, loc), loc, sequence)

    def _first(self, name: str, value: Value) -> Value:
        """Return a state's first value from ``init``; a value without the axis of the batch is repeated along it."""
        loc = self.at("init")
        declared = self.cell.states[name]
        if len(value.shape) + 1 != len(declared.shape):
            return self._fitted(name, value, loc)
        because = f"from the initial {name}, which is {value.type}"
        notes = (declared.note(f"{name} of {self.cell.owner}"), f"given {origin(value)}")
        with errors_at(loc):
            self.use.scope.unify(declared.shape[1:], value.shape, because, notes)
        shape = declared_shape(self.bound, self.use, name)
        zeros = Value(self.trace, self.trace.builder.add(Full(shape), names=(f"{name}_zeros",), loc=loc)[0])
        return Value(self.trace, self.trace.apply(Add(), zeros, value, names=(f"{name}_0",), loc=loc)[0])

    def _length(self, sequences: dict[str, Value], loc: SrcLoc | None) -> int:
        """Return the number of steps: from ``length``, or from the sequences, which must agree."""
        if self.length is not None:
            return size_in(self.trace, self.length, self.at("length"))
        lengths = {name: value.shape[0] for name, value in sequences.items()}
        if len(set(lengths.values())) > 1:
            actual = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            notes = [f"{name} is {origin(value)}" for name, value in sequences.items()]
            problem = f"the sequences for {self.cell.name} must have the same number of steps"
            raise ShapeError(f"{problem}: {actual}", loc=loc, notes=notes)
        return next(iter(lengths.values()))

    def _initial(self, init: dict[str, Value], title: str) -> dict[str, Value]:
        """Return every state's first value by name: from ``init``, the last batch, the declared fill, or zero."""
        values = {}
        for name, declared in self.cell.states.items():
            if name in init:
                values[name] = init[name]
                continue
            first = f"{name}_first" if f"{name}_0" in self.cell.params else f"{name}_0"  # a parameter keeps its name
            if isinstance(declared.fill, Values) and not self.carry:
                numbers = self.trace.root.constant(declared.fill, f"{title}/{first}", declared.loc)
                values[name] = self._first(name, Value(self.trace, numbers))
                continue
            shape = declared_shape(self.bound, self.use, name)
            op: Leaf = Input(shape, Constant(0) if self.carry else declared.fill)
            if not self.carry and (declared.fill is None or isinstance(declared.fill, Constant)):
                op = Full(shape, 0.0 if declared.fill is None else declared.fill.value)
            (ref,) = self.trace.builder.add(op, names=(f"{title}/{first}",), loc=declared.loc)
            values[name] = Value(self.trace, ref)
        return values

    def _masks(self, operands: Mapping[str, Value], sequences: Mapping[str, Value], steps: int) -> dict[str, Value]:
        """Return the masks that ``cont`` and ``lengths`` give, each [T, N], by the name of the body's argument."""
        rows = [operands[name].shape[0] for name in self.cell.states]
        batch = [*rows, *(value.shape[1] for value in sequences.values() if len(value.shape) > 1), 0][0]
        given = (self.cont, self.lengths)
        cont, lengths = (None if value is None else self.trace.adopt(value, self.loc) for value in given)
        masks = {}
        if cont is not None:
            self._check_along("cont", cont, "[T, N]", (steps, batch))
            self.trace.expect(cont.ref, IntegerRange(0, 1))
            masks["cont"] = cont
        if lengths is not None:
            self._check_along("lengths", lengths, "[N]", (batch,))
            masks["valid"] = valid_mask(self.trace, lengths, steps, self.loc)
        for state in self.cell.states if masks else ():
            self._check_batch(f"state {state}", operands[state], batch)
        return masks

    def _check_batch(self, what: str, value: Value, batch: int) -> None:
        """Raise :class:`ShapeError` unless a value that a mask multiplies, ``what``, has one row for each sequence."""
        if value.shape[0] != batch:
            name = "lengths" if self.cont is None or what == "output" else "cont"
            actual = f"{what} of {self.cell.name} is {value.type}: expected [{batch}, ...]"
            problem = f"{name} is for {batch} sequences, but {actual}"
            raise ShapeError(problem, loc=self.at(name), notes=(f"{what} is {origin(value)}",))

    def _check_along(self, name: str, value: Value, shape: str, expected: tuple[int, ...]) -> None:
        """Raise :class:`ShapeError` unless ``cont`` or ``lengths`` has the expected shape."""
        if value.shape != expected:
            problem = f"{name} must be {shape}, here {list(expected)}: found {value.type}"
            raise ShapeError(problem, loc=self.at(name), notes=(f"given {origin(value)}",))

    def _scan(
        self, title: str, operands: dict[str, Value], masks: dict[str, Value], sequences: set[str], length: int
    ) -> tuple[Any, dict[str, Value]]:
        """Trace the body, add the scan to the graph, and return its outputs over time and its last states by name."""
        loc = self.loc
        body = Trace(self.cell.owner, Builder(title), self.use.scope, self.trace)
        with opened(body):
            arguments = {name: self._argument(body, name, value, sequences) for name, value in operands.items()}
            inside = {name: self._mask_argument(body, name, value) for name, value in masks.items()}
            outer = {argument.ref.node: operands[name] for name, argument in arguments.items()}  # by inner name
            outer |= {argument.ref.node: masks[name] for name, argument in inside.items()}
            output, following = self._step(body, arguments, inside)
        outer |= {argument.ref.node: value for value, argument in body.captured.values()}  # type: ignore[misc]
        if body.counter is not None:
            outer[body.counter.node] = counted(self.trace, length, self.reverse, self.carry, loc)
        for name, domain in body.expected.items():
            self.trace.expect(outer[name].ref, domain)
        outputs = step_outputs(output)
        results = [(name, value.ref) for name, value in (*outputs.items(), *following.items())]
        labels = {value.ref: name for name, value in (*following.items(), *outputs.items()) if name}
        graph = body.finished_graph(results, labels)
        refs = [outer[arg.name].ref for arg in graph.body_args()]
        names = [f"{title}/{n or 'y'}" for n in outputs] + [f"{title}/{n}_T" for n in following]
        op = Scan(graph, length, self.reverse, inside=self.trace.root.is_step)
        values = [Value(self.trace, ref) for ref in self.trace.builder.add(op, *refs, names=names, loc=loc)]
        last = dict(zip(following, values[len(outputs) :], strict=True))
        return like(output, values[: len(outputs)]), by_identifier(last)

    def _step(self, body: Trace, arguments: dict[str, Value], masks: dict[str, Value]) -> StepResult:
        """Trace the cell's step: ``cont`` multiplies the states before it, the mask of ``lengths`` the results."""
        loc, states = self.loc, self.cell.states
        step_arguments = dict(arguments)
        if "cont" in masks:
            step_arguments |= {n: masked(arguments[n], masks["cont"], f"{n}_cont") for n in states}
        output, following = call_step(self.bound, body, step_arguments, loc, "scanned")
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
        """Add the body's argument for an input or state of the cell, and return it as a value of one step."""
        role: Role = "x" if name in sequences else "state" if name in self.cell.states else "static"
        shape = value.shape[1:] if role == "x" else value.shape
        declared = self.cell.signature.declarations[name]
        shown = f"{name}_prev" if role == "state" else name  # the plain name is the next state's
        (ref,) = body.builder.add(Arg(shape, role), names=(shown,), loc=declared.loc)
        body.declared[ref] = declared.note(name)
        return Value(body, ref)

    def _mask_argument(self, body: Trace, name: str, value: Value) -> Value:
        (ref,) = body.builder.add(Arg(value.shape[1:], "x"), names=(name,), loc=self.at(name))
        body.declared[ref] = f"{name}: {body.builder.type(ref)} of a step"
        return Value(body, ref)


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
    sequence runs for ``length`` steps. ``init`` gives states their first value (gradients flow through it; other states
    start at zero or at their fill); a value without the axis N is the same for the whole batch. ``static`` gives an
    input the same value at every step. ``reverse`` runs from the last step to the first, outputs keeping their places
    in time. ``name`` names the layers; parameters keep the bound cell's name.

    ``cont`` [T, N] has Caffe's sequence markers (``lstm_layer.cpp``): each state is multiplied by cont[t] before step t
    uses it, so a 0 starts a new sequence at step t. With ``reverse`` step t + 1 runs before step t, so the 0 belongs at
    a sequence's last step. ``lengths`` [N] has each sequence's number of steps: after its last step the outputs are
    zero and the states stay as they are, so the last states are those of its last step. With ``carry`` states start
    with the last states of the previous batch, as in Caffe's own recurrent layers; in the first batch they start at
    zero.
    """
    call = _ScanCall(bound, here())
    constant = call.static(static)
    sequences = call.sequences(xs, constant)
    initial = call.initial(init)
    call.length = call.steps(length, sequences)
    if name is not None:
        check_name(name, "the name of a scan", call.at("name"))
    call.name, call.reverse, call.carry = name, call.option("reverse", reverse), call.option("carry", carry)
    call.cont, call.lengths = call.along("cont", cont, "[T, N]"), call.along("lengths", lengths, "[N]")
    call.check_carry(initial)
    values = [*sequences.values(), *constant.values(), *initial.values()]
    values += [value for value in (call.cont, call.lengths) if value is not None]
    trace = inner_trace(*values) if values else open_trace("scan", call.loc)
    if trace.parent is not None and not trace.finished:
        remedy = f"Call {bound.usage()} here, or scan in the model"
        raise DslError(f"scan cannot be called in a cell: a cell is one step. {remedy}", loc=call.loc)
    return call.run(trace, sequences, constant, initial)


__all__ = ["last_valid", "scan", "step_index"]
