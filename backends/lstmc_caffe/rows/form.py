"""The layers that a target takes: written if they fit it, and refused with its own reason if they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from lstmc.backend import Violation
from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref
from lstmc.passes import Refs
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.fixed_blobs import stood_for
from lstmc_caffe.rows.layout import as_matrix, viewed
from lstmc_caffe.targets.lint import lint_op
from lstmc_caffe.targets.target import Target
from lstmc_caffe.unroll.fan import concat_tree

Shape = tuple[int, ...]
_COUNTS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Form:
    """Makes the layers that stand for one node of a graph that is being rebuilt."""

    target: Target
    b: Builder
    node: Node

    @property
    def rows(self) -> bool:
        """Whether every blob must be a matrix, but for those of layers on images."""
        return self.target.layout == "rows"

    def shape(self, ref: Ref) -> Shape:
        return self.b.type(ref).shape

    def fits(self, op: caffe.CaffeOp, *types: TensorType) -> bool:
        """Whether a layer on operands of these types may be written."""
        return not self._against(op, types)

    def _against(self, op: caffe.CaffeOp, types: Sequence[TensorType]) -> list[Violation]:
        learned = op.blobs(len(types))
        blobs = [type_ for slot, type_ in enumerate(types) if slot not in learned]
        tops = op.infer(*types)
        axes = self.target.axes_of(op.layer_type)
        if self.rows and (wrong := [str(type_) for type_ in (*blobs, *tops) if type_.rank not in axes]):
            expected = " or ".join(_COUNTS[count] for count in axes)
            return [self._violation(op, f"a blob is {wrong[0]}", f"{expected} axes")]
        # DummyData stands for a constant, until the pass `constants`; others until `fixed_blobs`
        stands = isinstance(op, caffe.DummyData) or (self.rows and stood_for(op, self.target))
        return [] if stands else lint_op(op, blobs, tops, self.target)

    def _violation(self, op: caffe.CaffeOp, found: str, expected: str) -> Violation:
        """A layer that needs other blobs than matrices."""
        rules = [rule for rule in self.target.restrictions if rule.axes]
        why = (
            (rules[0].reason, rules[0].source) if rules else ("every blob is a matrix", f"layout of {self.target.name}")
        )
        return Violation(self.node.name, op.layer_type, found, expected, *why)

    def refuse_rows(self, op: caffe.CaffeOp, found: str, expected: str) -> NoReturn:
        """Raise for a layer that no matrix will do for; if the target does not have its type at all, for that."""
        self.refuse(self._violation(op, found, expected))

    def layers(self, op: caffe.CaffeOp, *args: Ref, names: Sequence[str] = ()) -> Refs:
        """A layer, under the node's own names if no others are given. Refused if it does not fit the target."""
        if found := self._against(op, [self.b.type(ref) for ref in args]):
            self.refuse(found[0])
        if not names:
            return self.b.copy(self.node, args, op)
        return self.b.add(op, *args, names=names, loc=self.node.loc, steps=(self.node.step,) * len(names))

    def layer(self, op: caffe.CaffeOp, *args: Ref, name: str = "") -> Ref:
        """A layer of one top."""
        return self.layers(op, *args, names=(name,) if name else ())[0]

    def joined(self, axis: int, parts: Sequence[Ref], name: str = "") -> Ref:
        """A Concat; of one part no layer, as MNN takes that out, and its name with it."""
        return parts[0] if len(parts) == 1 else self.layer(caffe.ConcatLayer(axis), *parts, name=name)

    def refuse(self, found: Violation) -> NoReturn:
        """Raise, with the target's reason."""
        what = f"target {self.target.name} has no {found.type} layer"
        reason, source = self.target.reason_against(found.type)
        if self.target.allows(found.type):
            what = f"target {self.target.name} has no such {found.type} layer: {found.found}, expected {found.expected}"
            reason, source = found.reason, found.source
        raise BackendError(
            f"{what}, which %{self.node.name} needs", loc=self.node.loc, notes=(reason, f"documented in: {source}")
        )

    def view(self, ref: Ref, shape: Shape, names: Sequence[str] = ()) -> Ref:
        """A value in another shape: for matrices a view, which may turn out to be no layer; else a Reshape."""
        if self.rows or self.shape(ref) == shape:
            return viewed(self.b, ref, shape, names, (self.node.step,) * len(names))
        return self.layers(caffe.ReshapeLayer(shape), ref, names=names or (f"{self.named(ref)}/reshaped",))[0]

    def result(self, ref: Ref, out: int = 0) -> Ref:
        """What stands for a result of the node, in its own shape."""
        return self.view(ref, self.node.types[out].shape, (self.node.names[out],))

    def blob(self, ref: Ref) -> Ref:
        """A value as layers read it that work on each element alone."""
        return as_matrix(self.b, ref) if self.rows else ref

    def named(self, ref: Ref) -> str:
        return self.b.node(ref.node).names[ref.out]

    def constant(self, shape: Shape, value: float, name: str) -> Ref:
        """A blob of one number."""
        return self.layer(caffe.DummyData(shape, value), name=name)

    def repeated(self, ref: Ref, axis: int, count: int, name: str) -> Ref:
        """A matrix joined with itself along an axis, by as many Concats as the target's limit asks for."""
        self.layer_check(caffe.ConcatLayer(axis), ref)
        return concat_tree(self.b, [ref] * count, axis, name, self.node.step, self.target.bottoms_at_most or count)

    def layer_check(self, op: caffe.CaffeOp, ref: Ref) -> None:
        """Raise unless a layer on two of these would fit."""
        if found := self._against(op, [self.b.type(ref)] * 2):
            self.refuse(found[0])
