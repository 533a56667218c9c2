"""Every op that has a form in ONNX computes there what it means, in old and new sets of operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph
from lstmc.ops import CORE, Arg, Input, Op, Param
from lstmc.types import TensorType
from lstmc_onnx.forms.table import forms
from lstmc_onnx.run.session import load
from lstmc_onnx.write.graph import write_model
from lstmc_onnx.writer import check_operator
from tests.draws import SeededDraw
from tests.ops.test_contract import operands_of

OPSETS = (13, 17, 18, 21, onnx.defs.onnx_opset_version())
SAMPLES = 6


def single(op: Op, operands: tuple[TensorType, ...]) -> Graph:
    """A graph of one op on inputs."""
    b = Builder("single")
    args = [b.add(Input(t.shape), names=(f"x{i}",))[0] for i, t in enumerate(operands)]
    made = b.add(op, *args)
    return b.finish([(f"y{i}", ref) for i, ref in enumerate(made)])


@pytest.mark.parametrize("kind", forms(), ids=lambda op: op.name)
def test_every_form_computes_what_its_op_means(kind: type[Op]) -> None:
    draw = SeededDraw(1)
    for number in range(SAMPLES):
        sample = kind.sample(draw)
        arrays = operands_of(sample, number, np.float32)
        graph = single(sample.op, sample.operands)
        given = {f"x{i}": array for i, array in enumerate(arrays)}
        wanted = forward(graph, given).outputs
        model = write_model(graph, {}, OPSETS[number % len(OPSETS)]).proto
        onnx.checker.check_model(model, full_check=True)
        found = load(model.SerializeToString(), threads=1).forward(given, wanted)
        for name, array in wanted.items():
            assert found[name].shape == array.shape
            np.testing.assert_allclose(found[name], array, rtol=2e-6, atol=2e-6, err_msg=f"{sample}")


def test_every_op_of_the_core_has_a_form_but_for_losses_and_scores() -> None:
    assert {op.name for op in CORE if not op.for_training} - {op.name for op in forms()} == {
        op.name for op in (Input, Param, Arg)
    }


def test_an_operator_that_an_opset_does_not_have_is_said_with_the_one_that_does() -> None:
    with pytest.raises(BackendError) as caught:
        check_operator("Gelu", 17)
    assert caught.value.message == "opset 17 has no operator Gelu: expected opset 20 or newer"
    check_operator("Gelu", 20)
    with pytest.raises(BackendError, match="ONNX has no operator Gate"):
        check_operator("Gate", 17)
