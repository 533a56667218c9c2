"""``step_index``: which step it is, for cells that do something else at some steps."""

from __future__ import annotations

from lstmc.dsl.function import function
from lstmc.dsl.trace import Trace, open_trace
from lstmc.dsl.value import Value
from lstmc.errors import DslError
from lstmc.ir import Builder, Scan
from lstmc.ops import Affine, Arg, Constant, Full, Input, Op
from lstmc.source import SrcLoc, here

__all__ = ["step_index"]

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
            Scan(graph, steps, reverse), start, names=(title, f"{title}/index_T"), loc=loc
        )
        if carry:
            trace.root.carried[start] = last
        counters[alike] = steps_seen
    return Value(trace, counters[alike])
