"""Every op of the core and of the Caffe backend keeps the contract of ``lstmc.ops.Op``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.ir import Builder, op_of_step, op_over_time, over_steps, parse_graph, print_graph
from lstmc.ops import Arg, Array, Arrays, Constant, Input, Leaf, Op, Param, Sample
from lstmc.ops.dialects import dialects, load_dialect
from lstmc.types import TensorType
from lstmc_caffe.ops import (
    CAFFE_OPS,
    CaffeOp,
    DropoutLayer,
    DummyData,
    Feed,
    FilledInput,
    InputLayer,
    RoundingScale,
    ScaleBias,
    layer_ops,
    read_layer,
)
from lstmc_caffe.proto.net import LayerParameter
from tests.draws import HypothesisDraw

# Of every dialect that is installed: what a package brings is held to the same.
ALL = [op for dialect in dialects() for op in load_dialect(dialect).values()]
EVALUATED = [op for op in ALL if not issubclass(op, Input | Param | Arg)]  # the others are fed
DRAWN = settings(max_examples=max(5, settings.default.max_examples // 12))  # 25 by default
SEEDS = st.integers(0, 2**32 - 1)
APART = 1e-5  # of the elements of a sample, ten steps of a finite difference
KINK = 0.01  # operands keep about this far from 0, where relu, abs and elu have no derivative


class FirstDraw:
    """The Draw that always takes the first there is."""

    def integer(self, low: int, high: int) -> int:
        return low

    def choice(self, options: Sequence[Any]) -> Any:
        return options[0]


def each(ops: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", ops, ids=lambda op: op.name)


def operands_of(sample: Sample, seed: int, dtype: type = np.float64) -> list[Array]:
    """Random operands, no two elements of which are so near that a finite difference would pass from one to the other.

    None is near 0 either, where an op has not the domain of its own.
    """
    rng = np.random.default_rng(seed)
    sizes = [prod(t.shape) for t in sample.operands]
    drawn = rng.uniform(sample.low, sample.high, sum(sizes))
    away = np.where(abs(drawn) < KINK, drawn + np.copysign(KINK, drawn), drawn)
    apart = away + APART * away.argsort().argsort()
    parts = np.split(apart, np.cumsum(sizes)[:-1]) if sizes else []
    domains = sample.op.domains(*sample.operands)
    return [
        (x.reshape(t.shape) if values is None else values.draw(rng, t.shape)).astype(dtype)
        for x, t, values in zip(parts, sample.operands, domains, strict=True)
    ]


def cotangents_of(outs: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 1])
    return tuple(rng.uniform(-1, 1, out.shape).astype(out.dtype) for out in outs)


@each(EVALUATED)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_infer_gives_the_types_of_eval(kind: type[Op], dtype: type, data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    outs = sample.op.eval(*operands_of(sample, seed, dtype))
    assert sample.op.infer(*sample.operands) == tuple(TensorType(out.shape) for out in outs)
    if sample.operands:  # without operands there is no precision to keep
        assert {out.dtype for out in outs} == {np.dtype(dtype)}


@each(ALL)
@DRAWN
@given(data=st.data())
def test_samples_are_legal(kind: type[Op], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    assert type(sample.op) is kind
    assert len(sample.op.infer(*sample.operands)) >= 1
    if kind.operands and kind.operands[-1].startswith("*"):
        assert len(sample.operands) >= 1
    else:
        assert len(sample.operands) <= len(kind.operands)


@each([op for op in ALL if issubclass(op, Input | Param | Arg)])
@DRAWN
@given(data=st.data())
def test_what_is_fed_has_the_shape_it_says_and_is_never_evaluated(kind: type[Op], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    assert isinstance(sample.op, Leaf)
    assert sample.op.infer() == (TensorType(sample.op.shape),)
    with pytest.raises(NotImplementedError):
        sample.op.eval()


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_vjp_equals_finite_differences(kind: type[Op], data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    op, operands = sample.op, operands_of(sample, seed)
    outs = op.eval(*operands)
    cotangents = cotangents_of(outs, seed)
    found = op.vjp(cotangents, outs, *operands)
    assert len(found) == len(operands)
    if op.stops_gradient:
        assert found == (None,) * len(operands)
        return
    for slot, gradient in enumerate(found):
        if slot in op.undifferentiated:
            assert gradient is None
            continue
        expected = finite_differences(op, operands, slot, cotangents)
        if gradient is None:
            gradient = np.zeros_like(expected)
        assert gradient.shape == expected.shape
        assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


def finite_differences(op: Op, operands: list[Array], slot: int, cotangents: Arrays, step: float = 1e-6) -> Array:
    """The derivative of sum(cotangents * outputs) by each element of one operand."""
    result = np.zeros_like(operands[slot])
    for index in np.ndindex(*operands[slot].shape):
        sides = []
        for sign in (1, -1):
            moved = [x.copy() for x in operands]
            moved[slot][index] += sign * step
            sides.append(sum(np.vdot(ct, out) for ct, out in zip(cotangents, op.eval(*moved), strict=True)))
        result[index] = (sides[0] - sides[1]) / (2 * step)
    return result


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_float32_gradients_are_float32(kind: type[Op], data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    operands = operands_of(sample, seed, np.float32)
    outs = sample.op.eval(*operands)
    for gradient in sample.op.vjp(cotangents_of(outs, seed), outs, *operands):
        assert gradient is None or gradient.dtype == np.float32


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS)
def test_eval_and_vjp_repeat_themselves_and_change_nothing(kind: type[Op], data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    operands, untouched = operands_of(sample, seed), operands_of(sample, seed)
    outs = sample.op.eval(*operands)
    kept = [out.copy() for out in outs]
    cotangents = cotangents_of(outs, seed)
    first = [None if g is None else g.copy() for g in sample.op.vjp(cotangents, outs, *operands)]
    second = sample.op.vjp(cotangents, outs, *operands)
    for before, after in zip(
        [*untouched, *kept, *kept, *cotangents_of(outs, seed), *first],
        [*operands, *outs, *sample.op.eval(*operands), *cotangents, *second],
        strict=True,
    ):
        assert_array_equal(after, before)


@each(EVALUATED)
@DRAWN
@given(data=st.data(), seed=SEEDS, steps=st.integers(1, 4))
def test_over_time_is_every_step_at_once(kind: type[Op], data: st.DataObject, seed: int, steps: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    mapped = [data.draw(st.booleans()) for _ in sample.operands]
    wide = op_over_time(sample.op, steps, sample.operands, mapped)
    if wide is None or not any(mapped):
        return
    sequences = [over_steps(t, steps) if m else t for t, m in zip(sample.operands, mapped, strict=True)]
    assert op_of_step(wide, sequences, mapped) == sample.op, "of_step is the inverse of over_time"
    each_step = [operands_of(sample, seed + step) for step in range(steps)]
    operands = [
        np.stack([step[slot] for step in each_step]) if m else each_step[0][slot] for slot, m in enumerate(mapped)
    ]
    for step in each_step:
        step[:] = [own if m else same for own, same, m in zip(step, each_step[0], mapped, strict=True)]
    expected = zip(*(sample.op.eval(*step) for step in each_step), strict=True)
    for found, results in zip(wide.eval(*operands), expected, strict=True):
        assert_allclose(found, np.stack(results), rtol=1e-12, atol=1e-12)


@each(ALL)
@DRAWN
@given(data=st.data())
def test_operands_that_are_numbers_of_things_have_no_gradient(kind: type[Op], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    domains = sample.op.domains(*sample.operands)
    assert len(domains) == len(sample.operands)
    assert {slot for slot, values in enumerate(domains) if values is not None} <= set(sample.op.undifferentiated)


@each(ALL)
@DRAWN
@given(data=st.data())
def test_one_node_prints_and_parses_back(kind: type[Op], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    builder = Builder("one")
    operands = [builder.add(Input(t.shape), names=(f"x{i}",))[0] for i, t in enumerate(sample.operands)]
    results = builder.add(sample.op, *operands)
    graph = builder.finish([(f"out{i}", ref) for i, ref in enumerate(results)])
    again = parse_graph(print_graph(graph))
    assert again == graph
    assert print_graph(again) == print_graph(graph)


@each(ALL)
def test_docstring_says_what_it_is(kind: type[Op]) -> None:
    assert kind.__dict__.get("__doc__", "").strip().endswith(".")
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # the one a dataclass makes up


@each(ALL)
def test_is_frozen_and_compares_by_its_fields(kind: type[Op]) -> None:
    op = kind.sample(FirstDraw()).op
    twin = kind(**{field.name: getattr(op, field.name) for field in fields(op)})
    assert twin == op
    assert hash(twin) == hash(op)
    for field in fields(op):
        with pytest.raises(AttributeError):
            setattr(op, field.name, None)


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


def bottoms_of(sample: Sample) -> tuple[TensorType, ...]:
    """The operands that are bottoms, not blobs; a Feed's is the caller's."""
    assert isinstance(sample.op, CaffeOp)
    learned = sample.op.blobs(len(sample.operands))
    return () if isinstance(sample.op, Feed) else sample.operands[: learned.start if learned else None]


# What a layer does not say: what the host feeds it, that the caller may overwrite it, which dropout it is, its blobs.
READ_AS: dict[type[CaffeOp], Callable[[Any], CaffeOp]] = {
    Feed: lambda op: InputLayer(op.shape),
    FilledInput: lambda op: DummyData(op.shape, op.fill.value) if isinstance(op.fill, Constant) else op,
    DropoutLayer: lambda op: DropoutLayer(op.ratio),
    RoundingScale: lambda op: ScaleBias(),
}


@each([op for op in ALL if issubclass(op, CaffeOp)])
@DRAWN
@given(data=st.data())
def test_a_layer_is_read_as_the_op_that_wrote_it(kind: type[CaffeOp], data: st.DataObject) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    op, bottoms = sample.op, bottoms_of(sample)
    assert isinstance(op, CaffeOp)
    types = op.infer(*sample.operands)
    layer, again = (LayerParameter(name="l", type=op.layer_type) for _ in range(2))
    for message in (layer, again):
        message.bottom.extend(f"bottom{number}" for number in range(len(bottoms)))
        message.top.extend(f"top{number}" for number in range(len(types)))
    op.write(layer)
    found = read_layer(LayerParameter.FromString(layer.SerializeToString()), bottoms, layer_ops())
    assert found is not None
    assert found == READ_AS.get(kind, lambda op: op)(op)
    assert found.infer_tops(bottoms) == types
    assert [*bottoms, *found.blob_types(bottoms)] == [*sample.operands] or kind is Feed
    found.write(again)
    assert again == layer, "what was read writes the same"
