"""The equations of ops on the generated pages: each is of the op's own operands, and one that MathML can be made of."""

from __future__ import annotations

import re

import pytest

from docs.op_equations import EQUATIONS, equation
from lstmc.ir import Scan
from lstmc.ops import CORE, Op, Sum
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS, InnerProduct

OPS = (*CORE, Scan, *CAFFE_OPS, *HOST_OPS)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_an_equation_names_every_operand(op: type[Op]) -> None:
    text = re.sub(r"\\[a-z]+", " ", equation(op).replace(r"\_", "_"))
    names = [name.removeprefix("*") for name in op.operands]
    assert [name for name in names if not re.search(rf"(?<![A-Za-z]){name}(?![A-Za-z])", text)] == []


@pytest.mark.parametrize("op", EQUATIONS, ids=lambda op: op.name)
def test_braces_and_environments_are_closed(op: type[Op]) -> None:
    text = EQUATIONS[op]
    assert text.count("{") == text.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)
    assert text.count(r"\left") == text.count(r"\right")


def test_a_layer_that_is_an_op_of_the_core_has_its_equation() -> None:
    assert equation(InnerProduct) == r"y_{i,\, o} = \sum_k w_{o,\, k}\, x_{i,\, k} + b_o"
    assert equation(Sum) == r"y_{i,\, j} = \sum_k x_{i,\, k,\, j}"
    assert set(EQUATIONS) <= set(OPS)
