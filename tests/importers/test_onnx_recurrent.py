"""ONNX's recurrent operators: the onnx package's own cases, and all attributes against ONNX Runtime, in real Caffe."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lstmc.importers import RefusedError, from_onnx
from lstmc.ops import Array
from lstmc_caffe.runtime.runner import Runner
from tests.fuzz.onnx_cases import COUNTS, FED, Node, in_onnxruntime
from tests.importers.imported import assert_close, imported

pytestmark = pytest.mark.caffe


@cache
def cases() -> dict[str, Any]:
    """The recurrent cases of the onnx package, by name. Collected once: a second collection gives the first again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own NumPy
        found = import_module("onnx.backend.test.case.node").collect_testcases(None)
    return {c.name: c for c in found if c.model.graph.node[0].op_type in ("LSTM", "GRU", "RNN")}


def test_the_package_has_eighteen_cases() -> None:
    assert len(cases()) == 18


@pytest.mark.parametrize("name", [
    *(f"test_{kind}_{what}" for kind in ("gru", "lstm", "simple_rnn") for what in ("defaults", "with_initial_bias")),
    *(f"test_{kind}_{what}" for kind in ("gru", "lstm", "simple_rnn") for what in ("batchwise", "reverse")),
    *(f"test_{kind}_bidirectional" for kind in ("gru", "lstm", "simple_rnn")),
    *("test_gru_seq_length", "test_rnn_seq_length", "test_lstm_with_peepholes"),
])  # fmt: skip
def test_a_case_of_the_onnx_package_in_caffe(caffe: Runner, name: str) -> None:
    case = cases()[name]
    inputs, outputs = case.data_sets[0]
    names = [told.name for told in case.model.graph.input]
    arrays = dict(zip(names, inputs, strict=True))
    x = arrays.pop("X")
    made = imported(from_onnx(case.model, values=arrays).described)
    wanted = dict(zip([told.name for told in case.model.graph.output], outputs, strict=True))
    assert_close(made.in_caffe(caffe, {"X": x.astype(float)})[0], wanted)


PLAIN = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
WITH_ALPHA = ("LeakyRelu", "Elu", "HardSigmoid", "Affine", "ScaledTanh")
WITH_BETA = ("HardSigmoid", "Affine", "ScaledTanh")
FUNCTIONS = (*PLAIN, *WITH_ALPHA)


@st.composite
def node_cases(draw: Any) -> Node:
    op = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    attributes: dict[str, Any] = {"direction": direction}
    if draw(st.booleans()):
        count = COUNTS[op] * (2 if direction == "bidirectional" else 1)
        names = [draw(st.sampled_from(FUNCTIONS)) for _ in range(count)]
        # what they are given is always said: ONNX Runtime has defaults of its own for some
        attributes["activations"] = names
        for key, having in (("activation_alpha", WITH_ALPHA), ("activation_beta", WITH_BETA)):
            numbers = [draw(st.sampled_from([0.2, 0.5, 0.75])) for name in names if name in having]
            attributes |= {key: numbers} if numbers else {}
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.3, 1.0, 5.0]))
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    possible = ["B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    return Node(
        op, tuple(attributes.items()), draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3)),
        draw(st.integers(1, 4)), frozenset(draw(st.sets(st.sampled_from(possible)))),
        draw(st.sampled_from([7, 14, 22])), draw(st.integers(0, 2**31)),
    )  # fmt: skip


def by_runtime(model: Any, fed: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip([o.name for o in model.graph.output], in_onnxruntime(model, fed), strict=True))


def in_layout(name: str, array: Array) -> Array:
    """An array with the batch first, as layout 1 has it."""
    orders = {"X": (1, 0, 2), "Y": (2, 0, 1, 3)}
    return array if array.ndim < 3 or name in ("W", "R") else array.transpose(orders.get(name, (1, 0, 2)))


seen: Counter[str] = Counter()


@settings(max_examples=max(60, settings.default.max_examples // 3))
@given(node_cases(), st.integers(0, 1))
def test_any_attributes_mean_in_caffe_what_they_mean_in_onnx_runtime(caffe: Runner, case: Node, layout: int) -> None:
    arrays = case.arrays()
    fed = {n: a for n, a in arrays.items() if n in FED}
    wanted = by_runtime(case.model(arrays), fed)
    assume(all(np.isfinite(array).all() for array in wanted.values()))  # its Softplus is infinite from 89 on
    if layout:  # ONNX Runtime refuses it: it is compared with the same model in layout 0
        case = Node(**{**vars(case), "opset": 14})
        arrays = {n: in_layout(n, a) for n, a in arrays.items()}
        wanted = {n: in_layout(n, a) for n, a in wanted.items()}
    seen["tried"] += 1
    try:
        described = from_onnx(case.model(arrays, layout)).described
    except RefusedError as error:
        seen["refused"] += 1
        seen[str(error.refusals[0].why)] += 1
        return
    inputs = {n: arrays[n].astype(float) for n in fed}
    found = imported(described).in_caffe(caffe, inputs)[0]
    assert_close(found, wanted)
    assert seen["refused"] <= max(3, 0.05 * seen["tried"]), seen


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("op", ["RNN", "GRU"])
def test_a_function_is_applied_to_the_whole_sum(op: str, function: str) -> None:
    told: list[tuple[str, Any]] = [("activations", [function] * COUNTS[op])]
    told += [("activation_alpha", [0.2] * COUNTS[op])] if function in WITH_ALPHA else []
    told += [("activation_beta", [0.3] * COUNTS[op])] if function in WITH_BETA else []
    case = Node(op, tuple(told), 3, 2, 2, 3, frozenset({"B"}), 14, 0)
    arrays = case.arrays()
    model = case.model(arrays)
    found = imported(from_onnx(model).described).interpreted({"X": arrays["X"].astype(float)})
    assert_close(found, by_runtime(model, {"X": arrays["X"]}), 1e-6)


def test_a_gru_that_resets_before_the_product_is_imported_as_written_with_a_word_of_warning() -> None:
    for before in (0, 1):
        case = Node("GRU", (("linear_before_reset", before),), 2, 1, 2, 2, frozenset(), 14, 0)
        notes = from_onnx(case.model(case.arrays())).net.notes
        assert [("linear_before_reset = 0" in note) for note in notes] == [True] * (1 - before)


def test_a_function_that_jumps_is_refused() -> None:
    case = Node("RNN", (("activations", ["ThresholdedRelu"]),), 2, 1, 2, 2, frozenset(), 14, 0)
    with pytest.raises(RefusedError) as caught:
        from_onnx(case.model(case.arrays()), name="rnn.onnx")
    assert str(caught.value) == (
        "RefusedError: rnn.onnx cannot be imported: 1 problem\n"
        "  cell (RNN): activations = ThresholdedRelu: it jumps, which no layer of Caffe does; use one of sigmoid, tanh,"
        " relu, softsign, softplus, leakyrelu, elu, hardsigmoid, affine, scaledtanh"
    )


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_lengths_that_are_fixed_are_a_parameter_of_the_model(op: str) -> None:
    case = Node(op, (("direction", "bidirectional"),), 3, 2, 2, 2, frozenset({"sequence_lens"}), 14, 0)
    arrays = case.arrays() | {"sequence_lens": np.array([1, 2], np.int32)}
    model = case.model(arrays)
    made = imported(from_onnx(model, values={"sequence_lens": arrays["sequence_lens"]}).described)
    fed = {"X": arrays["X"], "sequence_lens": arrays["sequence_lens"]}
    assert_close(made.interpreted({"X": arrays["X"].astype(float)}), by_runtime(model, fed), 1e-6)
    with pytest.raises(RefusedError, match=r"sequence_lens = \[1, 4\]: there are 3 steps; check the model"):
        from_onnx(model, values={"sequence_lens": np.array([1, 4])})
    assert from_onnx(model, values={"sequence_lens": np.array([3, 3])}).net.inputs.keys() == {"X"}
