"""A value in another shape: a reshape of a reshape is one, and of a value's own shape there is none."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.ir.graph import Builder
from lstmc.ir.node import Ref, Steps
from lstmc.ops import Reshape
from lstmc.source import SrcLoc


def reshaped(
    b: Builder, ref: Ref, op: Reshape, names: Sequence[str] = (), loc: SrcLoc | None = None, steps: Steps = ()
) -> Ref:
    """The value in the shape of ``op``: itself, or what it is a reshape of, if that has the shape; else by one ``op``.

    Reshapes of other kinds than ``op``, such as a view that is the host's, are left alone.
    """
    source = reshape_source(b, ref, type(op))
    for known in (ref, source):
        if b.type(known).shape == op.shape:
            return known
    return b.add(op, source, names=names, loc=loc, steps=steps)[0]


def reshape_source(b: Builder, ref: Ref, kind: type[Reshape] = Reshape) -> Ref:
    """What a value is a reshape of, through all of this kind; itself where it is none."""
    while isinstance(b.node(ref.node).op, kind):
        (ref,) = b.args(ref.node)
    return ref
