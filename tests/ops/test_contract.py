"""Every op of the core and of the Caffe backend keeps the contract of ``lstmc.ops.Op``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import combinations, zip_longest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.importers.ir import ops as imported
from lstmc.ops import Op, Sample
from lstmc.ops.base import dialects, load_dialect, ops_in
from lstmc.testing import (
    FED,
    SeededDraw,
    check_along,
    check_documented,
    check_domains,
    check_frozen,
    check_gradients,
    check_legal,
    check_op,
    check_over_axis,
    check_precision_of_gradients,
    check_repeats,
    check_text,
    check_types,
    cotangents_of,
    operands_of,
)
from lstmc_caffe.ops import (
    CAFFE_OPS,
    CaffeOp,
)
from tests.draws import HypothesisDraw

# Of every dialect that is installed: what a package brings is held to the same.
ALL = [op for dialect in dialects() for op in load_dialect(dialect).values()]
EVALUATED = [op for op in ALL if not issubclass(op, FED)]
EXAMPLES = settings.default.max_examples  # 25 in `make quick`, which has some thousand of these tests
DRAWN = settings(max_examples=EXAMPLES // (6 if EXAMPLES > 25 else 8))
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
@given(data=st.data(), seed=SEEDS)
def test_the_rule_for_each_axis_is_the_op_of_each_element(kind: type[Op], data: st.DataObject, seed: int) -> None:
    check_along(kind.sample(HypothesisDraw(data.draw)), seed)


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS, size=st.integers(1, 4), front=st.booleans())
def test_the_op_over_a_new_axis_is_the_op_of_each_element(
    kind: type[Op], data: st.DataObject, seed: int, size: int, front: bool
) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    places = [data.draw(st.sampled_from([None, *range(1 if front else t.rank + 1)])) for t in sample.operands]
    check_over_axis(sample, seed, size, places)


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


IMPORTED = ops_in(imported.__name__)


@each(IMPORTED)
def test_an_op_of_imported_nets_keeps_the_contract(kind: type[Op]) -> None:
    check_op(kind, samples=8)


def test_no_two_classes_of_ops_mean_the_same() -> None:
    """Of the same attributes and operands, by their results and gradients; layers of backends mean the core's ops."""
    kinds = [kind for kind in (*EVALUATED, *IMPORTED) if not kind.backend]
    samples = {kind: [kind.sample(SeededDraw(seed)) for seed in range(40)] for kind in kinds}
    by_form: dict[object, dict[type[Op], Sample]] = {}
    for kind, drawn in samples.items():
        for sample in drawn:
            form = (*(getattr(sample.op, field.name) for field in fields(kind)),), sample.operands
            by_form.setdefault(form, {})[kind] = sample
    alike: dict[tuple[type[Op], type[Op]], list[bool]] = {}
    for seed, of_form in enumerate(by_form.values()):
        for a, b in combinations(of_form, 2):
            alike.setdefault((a, b), []).extend(_same_results(of_form[a], of_form[b], seed))
    assert len(alike) > 100
    assert not [f"{a.name}, {b.name}" for (a, b), same in alike.items() if len(same) > 2 and all(same)]


def _same_results(a: Sample, b: Sample, seed: int) -> Iterator[bool]:
    """Yield whether two ops give the same; nothing where both are the identity, as a reshape to the same shape."""
    operands = operands_of(replace(a, low=max(a.low, b.low), high=min(a.high, b.high)), seed)
    if a.op.domains(*a.operands) != b.op.domains(*b.operands):
        yield False
        return
    outs = [one.op.eval(*operands) for one in (a, b)]
    cts = cotangents_of(outs[0], seed)
    same = _close(*outs) and _close(*(one.op.vjp(cts, outs[0], *operands) for one in (a, b)))
    if not (same and _close(outs[0], operands[:1])):
        yield same


def _close(xs: Sequence[Any], ys: Sequence[Any]) -> bool:
    pairs = [*zip_longest(xs, ys)]
    if any((x is None) != (y is None) or np.shape(x) != np.shape(y) for x, y in pairs):
        return False
    return all(x is None or np.allclose(x, y) for x, y in pairs)
