"""Layers on matrices, as a target allows them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref, is_weight
from lstmc.ops import Op, Reshape
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import viewed
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class RowLayers:
    """Makes layers for one target; what it does not allow is refused with the rule's own reason."""

    target: Target

    def value(self, b: Builder, ref: Ref) -> Ref:
        """A value that layers can have as a bottom (rule 6)."""
        if not is_weight(b, ref):
            return ref
        node, shape = b.node(ref.node), b.type(ref).shape
        if len(shape) == 2:
            (ones,) = b.add(caffe.DummyData(shape, 1.0), names=(f"{node.name}/ones",))
            return b.add(caffe.Scale(axis=0, num_axes=2, learned=True), ones, ref, names=(f"{node.name}/value",))[0]
        size = prod(shape)
        blob = ref if len(shape) == 1 else b.add(Reshape((size,)), ref, names=(f"{node.name}/flat",))[0]
        scaled = self.ones_times(b, (1, size), blob, f"{node.name}/value")
        return viewed(b, scaled, shape, (f"{node.name}/value",))

    def ones_times(self, b: Builder, matrix: tuple[int, int], blob: Ref, name: str) -> Ref:
        """A matrix whose every row is a parameter: Scale of ones."""
        (ones,) = b.add(caffe.DummyData(matrix, 1.0), names=(f"{name}/ones",))
        return b.add(caffe.Scale(axis=1, num_axes=1, learned=True), ones, blob, names=(name,))[0]

    def layer(self, b: Builder, node: Node, op: Op, *args: Ref) -> Ref:
        """A layer of one top under the node's name, if the target has its type."""
        assert isinstance(op, caffe.CaffeOp)
        self.check_type(op.layer_type, node)
        return b.add(op, *args, names=node.names, loc=node.loc)[0]

    def check_type(self, layer_type: str, node: Node) -> None:
        """Raise unless layers of this type may be written."""
        target = self.target
        if target.allows(layer_type):
            return
        rule = next((r for r in target.rules_for(layer_type) if r.forbidden), None)
        reason, source = (rule.reason, rule.source) if rule else (target.layers_reason, target.layers_source)
        raise BackendError(
            f"target {target.name} has no {layer_type} layer, which {node.op.name} needs",
            loc=node.loc,
            notes=(reason, f"documented in: {source}"),
        )

    def check_concat(self, node: Node, axis: int) -> None:
        """Raise unless blobs may be joined along ``axis``."""
        for rule in self.target.rules_for("Concat"):
            if rule.field == "concat_param.axis" and axis not in rule.one_of:
                raise BackendError(
                    f"target {self.target.name} has no Concat on axis {axis}, which {node.op.name} needs",
                    loc=node.loc,
                    notes=(rule.reason, f"documented in: {rule.source}"),
                )
