"""Every list of passes of the backend, written out.

MODEL     what is decided once for all steps, on core ops
LEGAL     what has no form in ONNX is refused; scans that are ONNX's own layers are found
EXPANDED  the steps of the others, or loops

A form is another net of the same numbers: ``lstm-op`` has ONNX's LSTM, GRU and RNN alone, ``scan`` a Scan for each
scan, ``unrolled`` every step in plain operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lstmc.errors import BackendError, LstmcError
from lstmc.ir import Builder, Graph, Node, Scan, Stage
from lstmc.ops import Add, Arg, Input, Linear, Param
from lstmc.passes import (
    Cse,
    Dead,
    Expand,
    FuseHorizontal,
    FuseLinears,
    Hoist,
    Pass,
    PassResult,
    Refs,
    Simplify,
    Sink,
    in_bodies,
    result,
    rewrite,
)
from lstmc.pipeline import MODEL_PASSES
from lstmc_onnx.layers.find import FindLayers
from lstmc_onnx.lowerings import lowering_of

LEAVES = (Input, Param, Arg)


@dataclass(frozen=True)
class CheckForms(Pass):
    """Reject losses, scores, and ops without a lowering."""

    name = "check_forms"
    after = Stage.LEGAL

    def requires(self, graph: Graph) -> None:
        _check(graph)

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph, False)


def _check(graph: Graph) -> None:
    for node in graph:
        if isinstance(node.op, Scan):
            for body in node.op.bodies:
                _check(body)
        elif node.op.for_training:
            raise BackendError(
                f"{node.op.name} is for training, and ONNX nets are not trained: expected the model as it is deployed,"
                " without losses and scores",
                loc=node.loc,
            )
        elif not isinstance(node.op, LEAVES):
            try:
                lowering_of(node.op)
            except LstmcError as error:
                raise error.located(node.loc) from None


@dataclass(frozen=True)
class BiasApart(Pass):
    """Write products that are MatMul in ONNX without their bias: each value of the file is one of the graph.

    1. linear(x, W, b) along another axis than 1 => linear(x, W) + b
    """

    name = "bias_apart"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, _biases_apart(graph, counts), counts)


def _biases_apart(graph: Graph, counts: Counter[str]) -> Graph:
    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan):
            return b.copy(node, args, in_bodies(node.op, lambda body: _biases_apart(body, counts)))
        if type(node.op) is not Linear or node.op.axis == 1 or len(args) == 2:
            return None
        counts["bias_apart"] += 1
        (product,) = b.add(node.op, *args[:2], names=(f"{node.name}/product",), loc=node.loc)
        return b.add(Add(), product, args[2], names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _several(scan: Scan) -> bool:
    return scan.length > 1


def _every(scan: Scan) -> bool:
    return True


ROLLED: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
    *(Simplify(), Cse(), Dead()),
)
# Each scan as a layer where it is one, else as a loop; one step is no loop.
CHOSEN: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), Hoist(), CheckForms(), FindLayers()),
    *(*ROLLED, Expand(loops=_several), Dead(), BiasApart()),
)
FORMS: Mapping[str, tuple[Pass, ...]] = {
    "lstm-op": (
        *(Simplify(), Cse(), Dead(), Hoist(), CheckForms(), FindLayers(all=True)),
        *(*ROLLED, Expand(), Dead(), BiasApart()),
    ),
    "scan": (*ROLLED, CheckForms(), Expand(loops=_every), Dead(), BiasApart()),
    "unrolled": (*MODEL_PASSES, CheckForms(), Expand(), Dead(), BiasApart()),
}
