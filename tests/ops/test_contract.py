"""Every op of the core and of the Caffe backend keeps the contract of ``lstmc.ops.Op``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.ops import Op
from lstmc.ops.dialects import dialects, load_dialect
from lstmc.testing.ops import (
    FED,
    check_documented,
    check_domains,
    check_frozen,
    check_gradients,
    check_legal,
    check_over_time,
    check_precision_of_gradients,
    check_repeats,
    check_text,
    check_types,
)
from lstmc.testing.random_models import SeededDraw
from lstmc_caffe.ops import (
    CAFFE_OPS,
    CaffeOp,
)
from tests.draws import HypothesisDraw

# Of every dialect that is installed: what a package brings is held to the same.
ALL = [op for dialect in dialects() for op in load_dialect(dialect).values()]
EVALUATED = [op for op in ALL if not issubclass(op, FED)]
DRAWN = settings(max_examples=max(5, settings.default.max_examples // 12))  # 25 by default
SEEDS = st.integers(0, 2**32 - 1)


def each(ops: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", ops, ids=lambda op: op.name)


@each(EVALUATED)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_infer_gives_the_types_of_eval(kind: type[Op], dtype: type, data: st.DataObject, seed: int) -> None:
    check_types(kind.sample(HypothesisDraw(data.draw)), seed, dtype)


@each(ALL)
@DRAWN
@given(data=st.data())
def test_samples_are_legal(kind: type[Op], data: st.DataObject) -> None:
    check_legal(kind, kind.sample(HypothesisDraw(data.draw)))


@each([op for op in ALL if issubclass(op, FED)])
def test_what_is_fed_is_never_evaluated(kind: type[Op]) -> None:
    with pytest.raises(NotImplementedError):
        kind.sample(SeededDraw(0)).op.eval()


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_vjp_equals_finite_differences(kind: type[Op], data: st.DataObject, seed: int) -> None:
    check_gradients(kind.sample(HypothesisDraw(data.draw)), seed)


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_float32_gradients_are_float32(kind: type[Op], data: st.DataObject, seed: int) -> None:
    check_precision_of_gradients(kind.sample(HypothesisDraw(data.draw)), seed)


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_eval_and_vjp_repeat_themselves_and_change_nothing(kind: type[Op], data: st.DataObject, seed: int) -> None:
    check_repeats(kind.sample(HypothesisDraw(data.draw)), seed)


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS, steps=st.integers(1, 4))
def test_over_time_is_every_step_at_once(kind: type[Op], data: st.DataObject, seed: int, steps: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    check_over_time(sample, seed, steps, [data.draw(st.booleans()) for _ in sample.operands])


@each(ALL)
@DRAWN
@given(data=st.data())
def test_operands_that_are_numbers_of_things_have_no_gradient(kind: type[Op], data: st.DataObject) -> None:
    check_domains(kind.sample(HypothesisDraw(data.draw)))


@each(ALL)
@DRAWN
@given(data=st.data())
def test_one_node_prints_and_parses_back(kind: type[Op], data: st.DataObject) -> None:
    check_text(kind.sample(HypothesisDraw(data.draw)))


@each(ALL)
def test_docstring_says_what_it_is(kind: type[Op]) -> None:
    check_documented(kind)


@each(ALL)
def test_is_frozen_and_compares_by_its_fields(kind: type[Op]) -> None:
    check_frozen(kind.sample(SeededDraw(0)).op)


@each(CAFFE_OPS)
def test_caffe_op_is_called_by_its_layer(kind: type[CaffeOp]) -> None:
    own_names = (
        "FilledInput",
        "Feed",
        "MaxPooling",
        "AvePooling",
        "LeakyReLU",
        "StopGradientPower",
        "RoundingPower",
        "RoundingScale",
        "ScaleBias",
        "TransposedInnerProduct",
    )  # several ops are layers of one type
    expected = kind.__name__ if kind.__name__ in own_names else kind.layer_type
    assert kind.name == f"caffe.{expected}"


def test_no_two_ops_share_a_name() -> None:
    names = [op.name for op in ALL]
    assert sorted(names) == sorted(set(names))


@each([op for op in ALL if issubclass(op, CaffeOp)])
@DRAWN
@given(data=st.data())
def test_a_layer_is_read_as_the_op_that_wrote_it(kind: type[CaffeOp], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    sample.op.check(sample.operands)
