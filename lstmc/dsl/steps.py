"""Steps of sequences: ``step_index``, for cells that do something else at some steps, and masks of the valid steps of
each sequence of a batch, computed from the lengths by ordinary ops.
"""

from __future__ import annotations

from lstmc.dsl.cell import check_is_value
from lstmc.dsl.function import checked, function, wrong_shape
from lstmc.dsl.trace import Trace, open_trace
from lstmc.dsl.value import Value, inner_trace
from lstmc.errors import DslError
from lstmc.ir import Builder, Ref, Scan
from lstmc.ops import Add, Affine, Arg, Constant, Full, Input, IntegerRange, Mul, Op, Relu, Reshape
from lstmc.source import SrcLoc, argument_location, here

__all__ = ["last_valid", "step_index"]


SHAPE = (1,)


@function
def step_index() -> Value:
    """In a cell: how many steps the scan has done before this one, [1]: 0 at its first, 1 at its second, ...

    With ``reverse`` the first step is the last in time. With ``carry`` it goes on where the batch before ended;
    ``cont`` and ``lengths`` leave it as it is. A net of one step (``--step``) has it as a state.
    """
    loc = here()
    trace = open_trace("step_index", loc)
    if trace.parent is None:
        raise DslError("step_index must be called in a cell that is scanned: a model has no steps", loc=loc)
    if trace.counter is None:
        (trace.counter,) = trace.builder.add(Arg(SHAPE, "x"), names=("step_index",), loc=loc)
        trace.declared[trace.counter] = "step_index(): the number of the step"
    return Value(trace, trace.counter)


def counted(trace: Trace, steps: int, reverse: bool, carry: bool, loc: SrcLoc | None) -> Value:
    """The numbers of a scan's steps as a sequence [T, 1], by a scan that counts; one for all scans that run alike."""
    counters = trace.root.counters
    alike = steps, reverse, carry
    if alike not in counters:
        title = trace.root.unique_name("step_index")
        body = Builder(title)
        (index,) = body.add(Arg(SHAPE, "state"), names=("index_prev",))
        (following,) = body.add(Affine(1.0, 1.0), index, names=("index",))
        graph = body.finish([("", index), ("index", following)])
        first: Op = Input(SHAPE, Constant(0)) if carry else Full(SHAPE)
        (start,) = trace.builder.add(first, names=(f"{title}/index_0",), loc=loc)
        steps_seen, last = trace.builder.add(
            Scan(graph, steps, reverse, inside=trace.root.is_step), start, names=(title, f"{title}/index_T"), loc=loc
        )
        if carry:
            trace.root.carried[start] = last
        counters[alike] = steps_seen
    return Value(trace, counters[alike])


def valid_mask(trace: Trace, lengths: Value, steps: int, loc: SrcLoc | None) -> Value:
    """1 where step t is before the end of sequence n, else 0: [T, N] from ``lengths`` [N], integers up to T.

    1 - relu(1 - relu(lengths - t)), made once for all that ask. Its gradient is zero.
    """
    masks = trace.root.masks
    if (lengths.ref, steps) not in masks:
        trace.expect(lengths.ref, IntegerRange(0, steps))
        value = Value(trace, _left(trace, lengths, steps, loc))
        ops = (("left", Relu()), ("missing", Affine(-1.0, 1.0)), ("past", Relu()), ("valid", Affine(-1.0, 1.0)))
        for name, op in ops:
            value = Value(trace, trace.apply(op, value, names=(name,), loc=loc)[0])
        masks[lengths.ref, steps] = value.ref
    return Value(trace, masks[lengths.ref, steps])


def _left(trace: Trace, lengths: Value, steps: int, loc: SrcLoc | None) -> Ref:
    """Return the number of steps of each sequence that are left before step t: [T, N], by counting the lengths down."""
    title = trace.root.unique_name("steps_left")
    body = Builder(title)
    (left,) = body.add(Arg(lengths.shape, "state"), names=("left_prev",))
    (following,) = body.add(Affine(1.0, -1.0), left, names=("left",))
    graph = body.finish([("", left), ("left", following)])
    scan = Scan(graph, steps, inside=trace.root.is_step)
    return trace.builder.add(scan, lengths.ref, names=(title, f"{title}_T"), loc=loc)[0]


def masked(value: Value, mask: Value, name: str) -> Value:
    """A value [N, ...] times a mask [N]; the product is called ``name``."""
    trace = value.trace
    if len(value.shape) > 1:
        shape = (mask.shape[0], *(1,) * (len(value.shape) - 1))
        mask_name = trace.builder.node(mask.ref.node).names[mask.ref.out]
        mask = Value(trace, trace.apply(Reshape(shape), mask, names=(f"{mask_name}_rows",))[0])
    return Value(trace, trace.apply(Mul(), value, mask, names=(name,))[0])


def keep(new: Value, old: Value, mask: Value, name: str) -> Value:
    """``new`` where the mask [N] is 1, ``old`` where it is 0; exact, as one of the two terms is a product with 0."""
    trace = new.trace
    missing = Value(trace, trace.apply(Affine(-1.0, 1.0), mask, names=("missing",))[0])
    terms = masked(new, mask, f"{name}_new"), masked(old, missing, f"{name}_old")
    return Value(trace, trace.apply(Add(), *terms, names=(name,))[0])


@checked
def last_valid(y: Value, lengths: Value) -> Value:
    """The value of each sequence's last step: y [T, N, ...], lengths [N], result [N, ...]; zero for a length of 0.

    A scan that gives zeros past each sequence's end (``scan(..., lengths=lengths)``) has its last *states* frozen
    there already: this is for its outputs.
    """
    loc = here()
    for position, (name, value) in enumerate((("y", y), ("lengths", lengths))):
        check_is_value(value, f"{name} of last_valid", argument_location(loc, position, name))
    if len(y.shape) < 2 or lengths.shape != y.shape[1:2]:
        raise wrong_shape("last_valid takes y [T, N, ...] and lengths [N]", y=y, lengths=lengths)
    trace = inner_trace(y, lengths)
    mask = valid_mask(trace, lengths, y.shape[0], loc)
    body = Trace(trace.owner, Builder(trace.root.unique_name("last_valid")), trace.scope, trace)
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
