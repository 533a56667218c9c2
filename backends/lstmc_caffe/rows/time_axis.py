"""Time in the rows of a matrix, or in blobs of single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.errors import BackendError
from lstmc.ir import Builder, Ref, Step
from lstmc.ops import Reshape, Split
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.unroll import concat_tree, slice_tree
from lstmc_caffe.rows.functions import parameter_value
from lstmc_caffe.rows.layout import Form, Matrix, matrix_at, unviewed, viewed
from lstmc_caffe.targets.target import Target


def _step_matrix(shape: tuple[int, ...]) -> Matrix:
    """A step [N, ...] as N rows of a sequence's matrix; a step [N], or a number, as one."""
    return matrix_at(shape, int(len(shape) > 1))


def _blob_of_value(b: Builder, x: Ref) -> Ref | None:
    """The blob of a parameter that is read as a value (``parameter_value``); None of any other value."""
    value = b.node(unviewed(b, x).node)
    if not isinstance(value.op, caffe.Scale) or not value.op.learned:
        return None
    ones, blob = b.args(value.name)
    constant = b.node(ones.node).op
    alone = isinstance(constant, caffe.DummyData) and constant.value == 1
    return blob if alone and b.type(blob).size == value.types[0].size else None


@dataclass(frozen=True)
class RowsTimeAxis:
    """A sequence [T, N, ...] is the matrix [T*N, ...]; a step is N rows of it, cut and joined by trees of layers.

    For a target without Slice, a step is a blob of its own: an input is fed step by step, an output read so, and a
    parameter's steps are pieces of it, each with a layer that gives its value.
    """

    target: Target

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """x [T, N, ...] as T values [N, ...]."""
        length, *rest = b.type(x).shape
        matrix = _step_matrix(tuple(rest))
        if self.target.time == "steps" and (blob := _blob_of_value(b, x)) is not None:
            cut: Refs = self._pieces(b, x, blob, matrix, names)
        elif length == 1:
            return (viewed(b, x, tuple(rest), names, tuple(steps)),)
        elif self.target.time == "steps":
            cut = self._steps(b, x, matrix, names, steps or (None,) * length)
        else:
            rows = viewed(b, x, (length * matrix[0], matrix[1]))
            cut = slice_tree(b, rows, 0, (matrix[0],) * length, names, steps)
        return tuple(
            viewed(b, step, tuple(rest), (f"{b.node(step.node).names[step.out]}/step",), (b.of_step(step),))
            for step in cut
        )

    def _steps(self, b: Builder, x: Ref, matrix: Matrix, names: Sequence[str], steps: Sequence[Step | None]) -> Refs:
        source = b.node(unviewed(b, x).node)
        whole = source.types[0].shape[:1] == (len(names),)  # else it was made a sequence of other steps
        if whole and isinstance(source.op, caffe.HostStack):
            return b.args(source.name)
        if not whole or not isinstance(source.op, caffe.HostInput):
            reason, documented = self.target.reason_against("Slice")
            raise BackendError(
                f"target {self.target.name}: a sequence that a scan reads must be an Input, a Param or a scan's own"
                " output",
                loc=source.loc,
                notes=(
                    f"found {source.name}: {source.types[0]}, computed by {source.op.name}, for {len(names)} steps",
                    "there is no Slice to cut it into steps; compute it inside the cell",
                    reason,
                    f"documented in: {documented}",
                ),
            )
        return tuple(
            b.add(caffe.Feed(matrix, t), Ref(source.name), names=(name,), loc=source.loc, steps=(step,))[0]
            for t, (name, step) in enumerate(zip(names, steps, strict=True))
        )

    def _pieces(self, b: Builder, x: Ref, blob: Ref, matrix: Matrix, names: Sequence[str]) -> Refs:
        """The steps of a parameter's value: each is the value of a piece of the blob."""
        form, called = Form(self.target, b, b.node(unviewed(b, x).node)), b.node(blob.node).names[blob.out]
        (rows,) = b.add(Reshape((len(names), *matrix)), blob, names=(f"{called}/steps",))
        pieces = b.add(Split(0, (1,) * len(names)), rows, names=[f"{called}/{t}" for t in range(len(names))])
        steps = [
            b.add(Reshape(matrix), piece, names=(f"{b.node(piece.node).names[piece.out]}/rows",)) for piece in pieces
        ]
        return tuple(parameter_value(form, step, name) for (step,), name in zip(steps, names, strict=True))

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """T values [N, ...] as one [T, N, ...]."""
        shape = (len(steps), *b.type(steps[0]).shape)
        if self.target.time == "steps":
            if len(steps) == 1:
                return viewed(b, steps[0], shape, (name,))
            return b.add(caffe.HostStack(), *steps, names=(name,))[0]
        matrix = _step_matrix(b.type(steps[0]).shape)
        rows = [viewed(b, step, matrix) for step in steps]
        joined = concat_tree(b, rows, 0, f"{name}/rows")
        return viewed(b, joined, shape, (name,))

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """x itself: none of these readers needs a Split."""
        return (x,) * len(names)
