"""Every op that has a form in ONNX computes there what it means, in old and new sets of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Scan
from lstmc.ops import CORE, Arg, Array, Input, Op, Param, Pointwise, Sample
from lstmc.pipeline import compile_graph
from lstmc.testing import SeededDraw, operands_of
from lstmc.types import OpenSize, TensorType
from lstmc_onnx import OnnxBackend
from lstmc_onnx.artifact import write_model
from lstmc_onnx.lowerings import OLDEST, check_operator, lowerings, ones_left_out
from lstmc_onnx.runtime import load
from tests.cells.scanned import cell_graph, drawn
from tests.quick_sample import one_in

OPSETS = range(OLDEST, onnx.defs.onnx_opset_version() + 1)
SAMPLES = 6


@dataclass(frozen=True)
class Cube(Pointwise):
    """x ** 3, an op that no table has."""

    name = "test.cube"

    def f(self, x: Array) -> Array:
        return x**3

    def df(self, y: Array, x: Array) -> Array:
        return 3 * x**2


def graph_of(*samples: Sample) -> Graph:
    """A graph of ops, each on inputs of its own."""
    b = Builder("samples")
    outputs = []
    for number, sample in enumerate(samples):
        args = [b.add(Input(t.shape), names=(f"x{number}_{i}",))[0] for i, t in enumerate(sample.operands)]
        made = b.add(sample.op, *args, names=[f"{number}/{i}" for i in range(len(sample.op.infer(*sample.operands)))])
        outputs += [(f"y{number}_{i}", ref) for i, ref in enumerate(made)]
    return b.finish(outputs)


def assert_computed(samples: Sequence[Sample], opset: int, seed: int) -> None:
    """The graph of these ops is valid ONNX, and ONNX Runtime computes what they mean."""
    given = {
        f"x{number}_{i}": array
        for number, sample in enumerate(samples)
        for i, array in enumerate(operands_of(sample, seed, np.float32))
    }
    assert_runs(graph_of(*samples), given, {}, opset)


def assert_runs(graph: Graph, given: Mapping[str, Array], weights: Mapping[str, Array], opset: int) -> None:
    """The graph is valid ONNX of that opset, and ONNX Runtime computes what it means."""
    wanted = forward(graph, given, weights).outputs
    model = write_model(graph, weights, opset).proto
    onnx.checker.check_model(model, full_check=True)
    found = load(model.SerializeToString(), threads=1).forward(given, wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("kind", [*lowerings], ids=lambda op: op.name)
def test_every_form_computes_what_its_op_means(kind: type[Op]) -> None:
    draw = SeededDraw(1)
    for number in range(SAMPLES):
        assert_computed([kind.sample(draw)], 17, number)


@pytest.mark.parametrize("opset", one_in(4, OPSETS))
def test_every_form_is_one_in_every_set_of_operators(opset: int) -> None:
    draw = SeededDraw(opset)
    assert_computed([kind.sample(draw) for kind in lowerings], opset, opset)


@pytest.fixture(scope="module")
def loop() -> Graph:
    """A scan that is none of ONNX's layers, from the last step to the first."""
    return compile_graph(cell_graph("janet", (3, 2), reverse=True), OnnxBackend()).expanded


@pytest.mark.parametrize("opset", OPSETS)
def test_a_loop_is_one_in_every_set_of_operators(opset: int, loop: Graph) -> None:
    values = drawn("janet", loop)
    assert any(isinstance(node.op, Scan) for node in loop)
    assert_runs(loop, values.inputs, values.weights, opset)


T, N = OpenSize("T"), OpenSize("N")


def test_an_op_without_a_form_is_said_and_what_it_takes() -> None:
    graph = graph_of(Sample(Cube(), (TensorType((2,)),)))
    with pytest.raises(BackendError) as caught:
        compile_graph(graph, OnnxBackend())
    assert caught.value.message == (
        "test.cube has no lowering to ONNX: a package can bring one by an entry point in lstmc_onnx.lowerings"
    )


@pytest.mark.parametrize(
    ("longer", "shorter", "axes"),
    [
        ([T, 1, N, 5], [T, N, 5], [1]),
        ([1, 1], [], [0, 1]),
        ([T * 2, N * 3], [N * 3, T * 2], None),  # products of dimensions, in another order
        ([N, 5], [5], None),  # 1 as it was compiled, and open
        ([2], [2], []),
    ],
)
def test_axes_of_1_that_come_or_go(longer: list[int], shorter: list[int], axes: list[int] | None) -> None:
    assert ones_left_out(longer, shorter) == axes


def test_every_op_of_the_core_has_a_form_but_for_losses_and_scores() -> None:
    assert {op.name for op in CORE if not op.for_training} - {op.name for op in lowerings} == {
        op.name for op in (Input, Param, Arg)
    }


def test_an_operator_that_an_opset_does_not_have_is_said_with_the_one_that_does() -> None:
    with pytest.raises(BackendError) as caught:
        check_operator("Gelu", 17)
    assert caught.value.message == "opset 17 has no operator Gelu: expected opset 20 or newer"
    check_operator("Gelu", 20)
    with pytest.raises(BackendError, match="ONNX has no operator Gate"):
        check_operator("Gate", 17)
