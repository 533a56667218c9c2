"""The two graphs of one model: the training graph and the deployed graph. For training by several processes the loss is
scaled, so that the losses of all parts of a batch add up to the loss of the whole batch. With fixed masks Dropout is
deterministic, so one iteration can be computed twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import NoReturn

from lstmc import ops
from lstmc.errors import BackendError, PassError, TrainingError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, depending, differentiable_outputs, renewed
from lstmc.ops import Op, Pointwise
from lstmc.passes.base import Refs, rewrite, with_bodies
from lstmc.passes.simplify import without_dead

__all__ = ["LOSS", "Counted", "Share", "deploy_graph", "fixed_masks", "has_loss", "mask_name", "needed_by_training"]
__all__ += ["share_of_loss", "trained_loss", "training_graph", "training_inputs", "without", "without_losses"]


def without(graph: Graph, kind: type[Op]) -> Graph:
    """Return the graph, and the bodies of its scans, with each op of this class replaced by its operand."""
    graph = with_bodies(graph, lambda body: without(body, kind))
    return rewrite(graph, lambda b, node, args: args if isinstance(node.op, kind) else None)


LOSS = "loss"  # the output that training minimizes


def deploy_graph(graph: Graph) -> Graph:
    """Return the deployed model: :func:`without_losses`, and without dropouts."""
    return without(without_losses(graph), ops.Dropout)


def without_losses(graph: Graph) -> Graph:
    """Return the model without losses and scores, and without what only they need; other inputs stay.

    1. an output that depends on a loss or a score => nothing; if there is a ``loss``, every output of one number counts
       as a score
    2. an input that only such outputs depend on (labels) => nothing

    Raises :class:`PassError` if nothing remains.
    """
    training = _for_training(graph)
    kept = [output for output in graph.outputs if output not in training]
    if all(output.carried_to for output in kept):
        found = f"{graph.name} returns nothing but {', '.join(o.name for o in training)}, which only training needs"
        raise PassError(f"{found}: return its other outputs too, such as scores")
    return _part(graph, kept, training) if training else graph


def training_inputs(graph: Graph, deployed: Graph) -> tuple[str, ...]:
    """Return the inputs of a model that its deployed graph does not have: labels."""
    return tuple(node.name for node in graph if isinstance(node.op, ops.Input) and node.name not in deployed)


def training_graph(graph: Graph) -> Graph:
    """Return the training model: losses, scores, and the nodes that they need. Training minimizes ``loss``.

    1. an output other than losses and scores     => nothing, unless an input takes it in the next batch
    2. an input that only such outputs depend on => nothing

    Raises :class:`PassError` for a model without a scalar output called ``loss``.
    """
    training = _for_training(graph)
    if LOSS not in [output.name for output in training]:
        expected = f"expected an output called {LOSS} that is one number, such as softmax_loss(scores, labels)"
        found = ", ".join(f"{o.name} {graph.type(o.ref)}" for o in graph.outputs)
        raise PassError(f"{graph.name} cannot be trained: {expected}, found {found}")
    kept = [output for output in graph.outputs if output in training or output.carried_to]
    return _part(graph, kept, [output for output in graph.outputs if output not in kept])


def trained_loss(graph: Graph) -> Ref:
    """Return the loss of a training graph. Raises :class:`BackendError` if no parameter can reduce it."""
    loss = next(output.ref for output in graph.outputs if output.name == LOSS)
    reason = ""
    if LOSS not in differentiable_outputs(graph):
        reason = f"its {LOSS} has no gradient, as a score such as accuracy has none"
    elif not any(isinstance(graph.node(name).op, ops.Param) for name in graph.needed([loss])):
        reason = f"no parameter goes into its {LOSS}"
    if reason:
        raise BackendError(f"{graph.name} cannot be trained: {reason}", loc=graph.node(loss.node).loc)
    return loss


def needed_by_training(graph: Graph) -> set[str]:
    """Return the nodes that the loss and the states of the next batch need in a training graph; scores need more."""
    return graph.needed([output.ref for output in graph.outputs if output.name == LOSS or output.carried_to])


def has_loss(graph: Graph) -> bool:
    """Return whether a model can be trained."""
    return LOSS in [output.name for output in _for_training(graph)]


def _for_training(graph: Graph) -> list[Output]:
    """Return the losses and scores; if an output is called ``loss``, every output of one number is a score."""
    refs = depending(graph, lambda node: node.op.for_training)
    numbers = {o.ref for o in graph.outputs if graph.type(o.ref).shape == ()}
    if any(o.name == LOSS and o.ref in numbers for o in graph.outputs):
        refs |= numbers
    return [o for o in graph.outputs if o.ref in refs]


def _part(graph: Graph, kept: list[Output], dropped: list[Output]) -> Graph:
    """Return the graph with the outputs ``kept`` only, without the inputs that only the outputs ``dropped`` need."""
    live = without_dead(graph.returning([output.name for output in kept]), Counter())
    needed, unneeded = live.needed(), graph.needed([output.ref for output in dropped])
    rebuild = Rebuild(live)
    for node in live:
        if node.name in needed or node.name not in unneeded:
            rebuild.copy(node)
    return rebuild.finish()


@dataclass(frozen=True)
class Counted:
    """The labels over which a loss is averaged: the values of the input ``labels`` that are not ``ignored``."""

    labels: str
    ignored: int


@dataclass(frozen=True)
class Share:
    """The training graph of a part of a batch. ``counted`` maps inputs, each of which must be fed the part's share of
    some counted labels, to these labels."""

    graph: Graph
    counted: Mapping[str, Counted]


def share_of_loss(whole: Graph, part: Graph, share: float) -> Share:
    """Return the training graph of a part of the batch. ``whole`` and ``part`` are one model with two batch sizes.

    1. a mean over examples, as in losses => times the part's share of the averaged elements
    2. a sum over examples => unchanged
    3. a value without examples => times ``share``, the part's share of all examples
    4. an output that is only reported         => nothing: it is a score of the whole batch

    Raises :class:`TrainingError` if examples are mixed in another way: the parts would depend on each other.
    """
    return _Sharing(whole, part, share).run()


class _Sharing:
    """Builds the training graph of a part of a batch from the model for the ``whole`` batch and for the ``part``. A
    value that has an axis of examples has different types in the two models; ``mixed`` values depend on examples."""

    def __init__(self, whole: Graph, part: Graph, share: float) -> None:
        self.whole, self.part, self.share = whole, part, share
        self.counted: dict[str, Counted] = {}
        kept = [output.name for output in part.outputs if output.name == LOSS or output.carried_to]
        self.rebuild = Rebuild(part.returning(kept))
        self.mixed = _mixed_values(whole, part)

    def run(self) -> Share:
        """Return the part's training graph. Raises :class:`TrainingError` if an op mixes the examples of a batch."""
        if [node.name for node in self.whole] != [node.name for node in self.part]:
            reason = "it is another model for another batch"
            raise TrainingError(f"{self.part.name} cannot be trained by several ranks: {reason}")
        graph = self.rebuild.graph
        needed = graph.needed()
        for node in graph:
            if node.name in needed:
                self.check(node, self.whole, self.part, self.mixed)
            op = self.whole.node(node.name).op
            own = op if isinstance(op, Pointwise) else None  # it may divide by the whole size before a sum
            self.rebuild.put(node, self.rebuild.builder.copy(node, self.rebuild.args(node), own))
        for output in graph.outputs:
            if output.carried_to and output.ref in self.mixed and not self.differs(output.ref):
                self.refuse(graph.node(output.ref.node), "is carried to the next batch, and is of all examples")
        loss = next(output.ref for output in graph.outputs if output.name == LOSS)
        outputs = {output.name: output for output in renewed(graph.outputs, self.rebuild.new)}
        outputs[LOSS] = outputs[LOSS]._replace(ref=self.shared(loss))
        return Share(self.rebuild.builder.finish(outputs.values()), self.counted)

    def differs(self, ref: Ref) -> bool:
        """Return whether a value has an axis of examples."""
        return self.part.type(ref) != self.whole.type(ref)

    def check(self, node: Node, whole: Graph, part: Graph, mixed: set[Ref]) -> None:
        """Raise TrainingError if a node with an axis of examples mixes them; ``mixed`` values depend on examples."""
        refs = node.refs
        rows = [ref for ref in refs if part.type(ref) != whole.type(ref)]
        args = part.args(node.name)
        if not rows:
            return
        if any(ref in mixed and part.type(ref) == whole.type(ref) for ref in args):
            self.refuse(node, "gives each example something of the others")
        op, types = node.op, [part.type(ref) for ref in args]
        if isinstance(op, Scan):
            other = whole.node(node.name).op
            assert isinstance(other, Scan)
            if op.length != other.length:
                self.refuse(node, "goes over the examples of a batch")
            for inner, outer in zip(op.bodies, other.bodies, strict=True):
                inside = _mixed_values(outer, inner)
                for each in inner:
                    self.check(each, outer, inner, inside)
        for slot, ref in enumerate(args):
            for axis, sizes in enumerate(zip(part.type(ref).shape, whole.type(ref).shape, strict=True)):
                along = None if len({*sizes}) == 1 else op.along(slot, axis, *types)
                if along is not None and along.op is None:
                    self.refuse(node, "mixes the examples of a batch")
        for ref in rows:
            if sum(a != b for a, b in zip(part.type(ref).shape, whole.type(ref).shape, strict=True)) > 1:
                self.refuse(node, "pairs the examples of a batch with one another")

    def refuse(self, node: Node, why: str) -> NoReturn:
        found = f"%{node.name}, of {node.op.name}, {why}"
        raise TrainingError(f"{self.part.name} cannot be trained by several ranks: {found}", loc=node.loc)

    def shared(self, ref: Ref) -> Ref:
        """Return a part's share of a value without an axis of examples: the shares of all parts add up to the value."""
        b, new = self.rebuild.builder, self.rebuild.new[ref]
        if ref not in self.mixed:
            return self.times(new, self.share)
        node = self.whole.node(ref.node)
        args, op = self.whole.args(node.name), node.op
        if isinstance(op, ops.Add | ops.Sub):
            return b.add(type(op)(), *map(self.shared, args), loc=node.loc)[0]
        if isinstance(op, ops.Affine):
            return b.add(replace(op, shift=op.shift * self.share), self.shared(args[0]), loc=node.loc)[0]
        if isinstance(op, ops.Mul) and len([arg for arg in args if arg in self.mixed]) == 1:
            one, other = sorted(args, key=lambda arg: arg not in self.mixed)
            return b.add(op, self.shared(one), self.rebuild.new[other], loc=node.loc)[0]
        if isinstance(op, ops.Reshape | ops.Transpose | ops.StopGradient) or (
            isinstance(op, ops.Sum) and not self.differs(args[0])
        ):
            return b.add(op, self.shared(args[0]), loc=node.loc)[0]
        if isinstance(op, ops.Sum):
            return new
        if isinstance(op, ops.SoftmaxLoss | ops.SigmoidCrossEntropyLoss | ops.EuclideanLoss):
            if isinstance(op, ops.SoftmaxLoss) and op.normalization == "valid" and op.ignore_label is not None:
                return self.counting(node, op, args[1], new)
            return self.times(new, _divisor(op, self.part, args[0]) / _divisor(op, self.whole, args[0]))
        return self.refuse(node, "is no sum and no mean over the examples of a batch")

    def times(self, ref: Ref, factor: float) -> Ref:
        return ref if factor == 1 else self.rebuild.builder.add(ops.Affine(scale=factor), ref)[0]

    def counting(self, node: Node, op: ops.SoftmaxLoss, labels: Ref, loss: Ref) -> Ref:
        """Return ``loss``, a mean over counted labels, times a weight: a new input, as the labels determine it."""
        if not isinstance(self.part.node(labels.node).op, ops.Input):
            self.refuse(node, "is a mean over labels that are left out, and its labels are no input of the model")
        assert op.ignore_label is not None
        name = f"{node.name}/share"
        self.counted[name] = Counted(labels.node, op.ignore_label)
        (weight,) = self.rebuild.builder.add(ops.Input(()), names=(name,), loc=node.loc)
        return self.rebuild.builder.add(ops.Mul(), loss, weight, loc=node.loc)[0]


def _mixed_values(whole: Graph, part: Graph) -> set[Ref]:
    """Return the values that depend on a leaf whose type differs between the whole batch and its part."""
    mixed: set[Ref] = set()
    for node in part:
        own = not part.args(node.name) and any(part.type(ref) != whole.type(ref) for ref in node.refs)
        if own or not mixed.isdisjoint(part.args(node.name)):
            mixed.update(node.refs)
    return mixed


def _divisor(op: Op, graph: Graph, x: Ref) -> float:
    """Return the divisor of a loss's sum, up to a factor that does not depend on the size of the batch."""
    shape = graph.type(x).shape
    if isinstance(op, ops.SoftmaxLoss):
        sizes = [size for axis, size in enumerate(shape) if axis != op.axis]
        return prod({"batch_size": shape[: op.axis], "none": ()}.get(op.normalization, sizes))
    if isinstance(op, ops.SigmoidCrossEntropyLoss):
        return op.number(shape)
    return shape[0]


def mask_name(dropout: str) -> str:
    return f"{dropout}/mask"


def fixed_masks(graph: Graph, feed: type[ops.Input] = ops.Input, product: Op = ops.Mul()) -> Graph:
    """Return an expanded graph whose dropouts are products with masks that are fed; a backend passes its own ops.

    1. dropout(x), called NAME => x * mask, where mask is an input called :func:`mask_name` of x's shape: 0, or 1 / (1 -
       ratio)

    Refused: a scan with a dropout in its body, because each of its steps has its own mask.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan) and any(isinstance(n.op, ops.Dropout) for body in node.op.bodies for n in body):
            reason = "expected an expanded graph, found a scan with a dropout"
            raise PassError(f"fixed masks of {graph.name}: {reason}", loc=node.loc)
        if not isinstance(node.op, ops.Dropout):
            return None
        mask = b.add(feed(node.types[0].shape), names=(mask_name(node.name),), loc=node.loc)
        return b.add(product, *args, *mask, names=node.names, loc=node.loc)

    return rewrite(graph, visit)
