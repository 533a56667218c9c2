"""Layers with blobs of fixed numbers, in the places of layers that a target does not have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from lstmc.ir import Graph, Node, Rebuild, Ref
from lstmc.ops import Array, Op, Param, Values
from lstmc.passes import Pass, PassResult, Refs, result
from lstmc_caffe import ops as caffe
from lstmc_caffe.targets.lint import lint_op
from lstmc_caffe.targets.target import Target


def stood_for(op: Op, target: Target) -> bool:
    """Whether a target does not take a layer, and the pass ``fixed_blobs`` will write it by others in the end."""
    match op:
        case caffe.PowerLayer():
            return not target.allows("Power") and op.power == 1 and target.allows("Scale")
        case caffe.InnerProduct(bias=False):
            return bool(lint_op(op, [], [], target)) and not lint_op(replace(op, bias=True), [], [], target)
        case caffe.Scale(learned=True, axis=1, num_axes=1):
            return not target.allows("Scale") and target.allows("InnerProduct") and target.allows("Eltwise")
    return False


@dataclass(frozen=True)
class FixedBlobs(Pass):
    """Write layers that a target does not have by such as have blobs of fixed numbers, on matrices.

    1. Power: scale x + shift    => Scale whose blob is all scale; with another that is all shift, if there is one
    2. InnerProduct without bias => one with a bias of zeros
    3. Scale by a blob           => Eltwise PROD of x and InnerProduct of zeros whose bias is that blob

    (A blob that is not finite makes the third NaN as a whole, as it makes everything after it.)
    """

    name = "fixed_blobs"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        wanted = {node.name for node in graph if isinstance(node.op, caffe.CaffeOp) and stood_for(node.op, self.target)}
        if not wanted:
            return PassResult(graph, False)
        writer = _Writer(graph, self.target)
        return result(graph, writer.run(wanted), writer.counts)


@dataclass
class _Writer:
    graph: Graph
    target: Target
    counts: Counter[str] = field(default_factory=Counter)
    fixed: dict[tuple[tuple[int, ...], float], Ref] = field(default_factory=dict)

    def run(self, wanted: set[str]) -> Graph:
        self.rebuild = Rebuild(self.graph)
        self.b = self.rebuild.builder
        for node in self.graph:
            if node.name in wanted:
                self.rebuild.put(node, self._written(node, self.rebuild.args(node)))
            else:
                self.rebuild.copy(node)
        return self.rebuild.finish()

    def _written(self, node: Node, args: Refs) -> Refs:
        op = node.op
        columns = self.b.type(args[0]).shape[1:]
        if isinstance(op, caffe.PowerLayer):
            self.counts["power_to_scale"] += 1
            scale = self._numbers(node, "scale", columns, op.scale)
            if not op.shift:
                return self.b.copy(node, (args[0], scale), caffe.Scale(1, 1, True))
            shift = self._numbers(node, "shift", columns, op.shift)
            return self.b.copy(node, (args[0], scale, shift), caffe.ScaleBias())
        if isinstance(op, caffe.InnerProduct):
            self.counts["bias"] += 1
            zeros = self._numbers(node, "zeros", (op.num_output,), 0.0)
            return self.b.copy(node, (*args, zeros), replace(op, bias=True))
        assert isinstance(op, caffe.Scale)
        self.counts["scale_to_product"] += 1
        weights = self._numbers(node, "zeros", columns * 2, 0.0)
        product = caffe.InnerProduct(1, columns[0], True)
        value = self.b.add(
            product, args[0], weights, args[1], names=(f"{node.name}/value",), loc=node.loc, steps=(node.step,)
        )
        return self.b.copy(node, (args[0], value[0]), caffe.Eltwise("PROD"))

    def _numbers(self, node: Node, name: str, shape: tuple[int, ...], number: float) -> Ref:
        """A fixed blob of one number; one for all layers that need it."""
        if (shape, number) not in self.fixed:
            array: Array = np.full(shape, number, np.float32).astype(np.float64)
            op = Param(shape, Values.of(array), 0.0, 0.0)
            self.fixed[shape, number] = self.b.add(op, names=(f"{node.name}/{name}",))[0]
        return self.fixed[shape, number]
