"""The loss of a part of a batch, made such that the losses of all parts add up to that of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from lstmc.errors import TrainingError
from lstmc.ir import Graph, Node, Output, Rebuild, Ref, Scan
from lstmc.ops import (
    Add,
    Affine,
    EuclideanLoss,
    Input,
    Mul,
    Op,
    Pointwise,
    Reshape,
    SigmoidCrossEntropyLoss,
    SoftmaxLoss,
    StopGradient,
    Sub,
    Sum,
    Transpose,
)
from lstmc.ops.base import AlongAxis
from lstmc.prepare.phase import LOSS


@dataclass(frozen=True)
class Counted:
    """What a share is when labels are left out: of the labels in this input, those that are not ``ignored``."""

    labels: str
    ignored: int


@dataclass(frozen=True)
class Share:
    """A part's graph. ``counted`` are inputs of one number each that are to be fed: the part's share of what counts."""

    graph: Graph
    counted: Mapping[str, Counted]


def share_of_loss(whole: Graph, part: Graph, share: float) -> Share:
    """The training graph of a part of the batch, from the same model with both sizes of the batch.

    1. a mean over examples, as losses have it => times the part's share of what it is a mean over
    2. a sum over examples                     => as it is
    3. what depends on no example              => times ``share``, the part's share of all examples
    4. an output that is only reported         => nothing: it is a score of the whole batch

    Raises :class:`TrainingError` where examples are mixed otherwise: the parts would have to know of each other.
    """
    return _Sharing(whole, part, share).run()


class _Sharing:
    def __init__(self, whole: Graph, part: Graph, share: float) -> None:
        self.whole, self.part, self.share = whole, part, share
        self.counted: dict[str, Counted] = {}
        kept = [output.name for output in part.outputs if output.name == LOSS or output.carried_to]
        self.rebuild = Rebuild(part.returning(kept))
        self.mixed = _mixed(whole, part)

    def run(self) -> Share:
        if [node.name for node in self.whole] != [node.name for node in self.part]:
            raise TrainingError(
                f"{self.part.name} cannot be trained by several ranks: it is another model for another batch"
            )
        graph = self.rebuild.graph
        needed = graph.needed()
        for node in graph:
            if node.name in needed:
                self.check(node, self.whole, self.part, self.mixed)
            op = self.whole.node(node.name).op
            self.rebuild.put(
                node,
                self.rebuild.builder.copy(node, self.rebuild.args(node), op)
                if isinstance(op, Pointwise)  # a mean may be a sum of what was divided before
                else self.rebuild.builder.copy(node, self.rebuild.args(node)),
            )
        for output in graph.outputs:
            if output.carried_to and output.ref in self.mixed and not self.differs(output.ref):
                self.refuse(graph.node(output.ref.node), "is carried to the next batch, and is of all examples")
        loss = next(output.ref for output in graph.outputs if output.name == LOSS)
        made = self.shared(loss)
        outputs = [
            Output(
                o.name,
                made if o.name == LOSS else self.rebuild.new[o.ref],
                o.carried_to and self.rebuild.new[o.carried_to],
            )
            for o in graph.outputs
        ]
        return Share(self.rebuild.builder.finish(outputs), self.counted)

    def differs(self, ref: Ref) -> bool:
        """Whether a value has an axis of examples."""
        return self.part.type(ref) != self.whole.type(ref)

    def check(self, node: Node, whole: Graph, part: Graph, mixed: set[Ref]) -> None:
        """Refuse what mixes examples and gives a value for each of them."""
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        rows = [ref for ref in refs if part.type(ref) != whole.type(ref)]
        args = part.args(node.name)
        if not rows:
            return
        if any(ref in mixed and part.type(ref) == whole.type(ref) for ref in args):
            self.refuse(node, "gives each example something of the others")
        op = node.op
        if isinstance(op, AlongAxis) and not isinstance(op, Transpose):
            for ref in args:
                shapes = [graph.type(ref).shape for graph in (part, whole)]
                if op.axis < len(shapes[0]) and shapes[0][op.axis] != shapes[1][op.axis]:
                    self.refuse(node, "mixes the examples of a batch")
        if isinstance(op, Scan):
            other = whole.node(node.name).op
            assert isinstance(other, Scan)
            if op.length != other.length:
                self.refuse(node, "goes over the examples of a batch")
            for inner, outer in zip(op.bodies, other.bodies, strict=True):
                inside = _mixed(outer, inner)
                for each in inner:
                    self.check(each, outer, inner, inside)

    def refuse(self, node: Node, why: str) -> NoReturn:
        raise TrainingError(
            f"{self.part.name} cannot be trained by several ranks: %{node.name}, of {node.op.name}, {why}", loc=node.loc
        )

    def shared(self, ref: Ref) -> Ref:
        """A value without an axis of examples, as this part's share of it: those of all parts add up to it."""
        b, new = self.rebuild.builder, self.rebuild.new[ref]
        if ref not in self.mixed:
            return self.times(new, self.share)
        node = self.whole.node(ref.node)
        args, op = self.whole.args(node.name), node.op
        if isinstance(op, Add | Sub):
            return b.add(type(op)(), *map(self.shared, args), loc=node.loc)[0]
        if isinstance(op, Affine):
            return b.add(replace(op, shift=op.shift * self.share), self.shared(args[0]), loc=node.loc)[0]
        if isinstance(op, Mul) and len([arg for arg in args if arg in self.mixed]) == 1:
            one, other = sorted(args, key=lambda arg: arg not in self.mixed)
            return b.add(op, self.shared(one), self.rebuild.new[other], loc=node.loc)[0]
        if isinstance(op, Reshape | Transpose | StopGradient) or (isinstance(op, Sum) and not self.differs(args[0])):
            return b.add(op, self.shared(args[0]), loc=node.loc)[0]
        if isinstance(op, Sum):
            return new
        if isinstance(op, SoftmaxLoss | SigmoidCrossEntropyLoss | EuclideanLoss):
            if isinstance(op, SoftmaxLoss) and op.normalization == "valid" and op.ignore_label is not None:
                return self.counting(node, op, args[1], new)
            return self.times(new, _divisor(op, self.part, args[0]) / _divisor(op, self.whole, args[0]))
        return self.refuse(node, "is no sum and no mean over the examples of a batch")

    def times(self, ref: Ref, factor: float) -> Ref:
        return ref if factor == 1 else self.rebuild.builder.add(Affine(scale=factor), ref)[0]

    def counting(self, node: Node, op: SoftmaxLoss, labels: Ref, loss: Ref) -> Ref:
        """A mean over the labels that are not left out: how many these are only the data tell."""
        if not isinstance(self.part.node(labels.node).op, Input):
            self.refuse(node, "is a mean over labels that are left out, and its labels are no input of the model")
        assert op.ignore_label is not None
        name = f"{node.name}/share"
        self.counted[name] = Counted(labels.node, op.ignore_label)
        (weight,) = self.rebuild.builder.add(Input(()), names=(name,), loc=node.loc)
        return self.rebuild.builder.add(Mul(), loss, weight, loc=node.loc)[0]


def _mixed(whole: Graph, part: Graph) -> set[Ref]:
    """The values that depend on examples."""
    found: set[Ref] = set()
    for node in part:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        own = not part.args(node.name) and any(part.type(ref) != whole.type(ref) for ref in refs)
        if own or not found.isdisjoint(part.args(node.name)):
            found.update(refs)
    return found


def _divisor(op: Op, graph: Graph, x: Ref) -> float:
    """What a loss divides its sum by, to a factor that does not depend on the size of the batch."""
    shape = graph.type(x).shape
    if isinstance(op, SoftmaxLoss):
        sizes = [size for axis, size in enumerate(shape) if axis != op.axis]
        counted = {"batch_size": shape[: op.axis], "none": ()}.get(op.normalization, sizes)
        product = 1
        for size in counted:
            product *= size
        return product
    if isinstance(op, SigmoidCrossEntropyLoss):
        return op.number(shape)
    return shape[0]
