"""Values that are integers, whatever the inputs are."""

from __future__ import annotations

from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import Divide, Expand, Function, Permute, Reduction, Select
from lstmc.ops import Affine, Binary, Concat, Max, Reshape, Round, Split, Sum
from lstmc.passes.unrolled_steps import Step


def is_whole(builder: NetBuilder, x: Operand) -> bool:
    """Return whether a value is known to be integral: masks and rounded numbers, moved, added or multiplied."""
    waiting, seen = [x], set[Operand]()
    while waiting:
        value = waiting.pop()
        maker = builder.producer(value) if isinstance(value, str) else None
        if maker is None:
            return False
        if _makes_whole(maker) or value in seen:
            continue
        if not _keeps_whole(maker):
            return False
        seen.add(value)
        waiting += maker.inputs
    return True


def _makes_whole(step: Step) -> bool:
    op = step.op
    if isinstance(op, Function):
        return op.function in ("step", "floor", "ceil", "trunc", "sign")
    return isinstance(op, Round) or (isinstance(op, Reduction) and op.kind == "argmax")


def _keeps_whole(step: Step) -> bool:
    """Return whether an op maps integers to integers."""
    op = step.op
    if isinstance(op, Affine):
        return op.scale.is_integer() and op.shift.is_integer()
    if isinstance(op, Reduction):
        return op.kind != "mean"
    if isinstance(op, Binary):
        return not isinstance(op, Divide)
    return isinstance(op, Sum | Max | Reshape | Permute | Concat | Split | Select | Expand)
