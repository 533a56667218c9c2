"""ONNX's recurrent operators: the onnx package's own cases, and all attributes against ONNX Runtime, in real Caffe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lstmc.importers import RefusedError, from_onnx
from lstmc.importers.checks import evaluate
from lstmc.importers.frontends.onnx_values import CHECK
from lstmc.ops import Array
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import assert_close, imported
from tests.importers.test_onnx_operators import cases
from tests.on_demand.fuzz.onnx_cases import COUNTS, FED, GATES, Node, in_onnxruntime

pytestmark = pytest.mark.caffe


def recurrent() -> dict[str, Any]:
    found = cases("gru", "lstm", "rnn")
    return {name: case for name, case in found.items() if case.model.graph.node[0].op_type in ("LSTM", "GRU", "RNN")}


def test_the_package_has_eighteen_cases() -> None:
    assert len(recurrent()) == 18


@pytest.mark.parametrize("name", [
    *(f"test_{kind}_{what}" for kind in ("gru", "lstm", "simple_rnn") for what in ("defaults", "with_initial_bias")),
    *(f"test_{kind}_{what}" for kind in ("gru", "lstm", "simple_rnn") for what in ("batchwise", "reverse")),
    *(f"test_{kind}_bidirectional" for kind in ("gru", "lstm", "simple_rnn")),
    *("test_gru_seq_length", "test_rnn_seq_length", "test_lstm_with_peepholes"),
])  # fmt: skip
def test_a_case_of_the_onnx_package_in_caffe(caffe: Runner, name: str) -> None:
    case = recurrent()[name]
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


@settings(max_examples=max(40, settings.default.max_examples // 3))
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
    assert_close(evaluate(described, inputs), wanted)
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


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("op", COUNTS)
def test_an_empty_sequence_ends_in_zeros_as_in_onnx_runtime(op: str, constant: bool) -> None:
    given = frozenset({"sequence_lens", "initial_h", *(["initial_c"] if op == "LSTM" else [])})
    case = Node(op, (("direction", "bidirectional"),), 3, 2, 2, 2, given, 14, 0)
    arrays = case.arrays() | {"sequence_lens": np.array([0, 2], np.int32)}
    model = case.model(arrays)
    fed = {name: array for name, array in arrays.items() if name in FED}
    values = {"sequence_lens": fed["sequence_lens"]} if constant else {}
    net = imported(from_onnx(model, values=values).described)
    found = net.interpreted({name: array.astype(float) for name, array in fed.items() if name not in values})
    assert_close(found, by_runtime(model, fed), 1e-6)


@pytest.mark.parametrize("op", COUNTS)
def test_states_of_a_frame_are_found_beside_its_lengths(op: str) -> None:
    states = {"initial_h": "Y_h", **({"initial_c": "Y_c"} if op == "LSTM" else {})}
    case = Node(op, (), 1, 2, 2, 2, frozenset({"sequence_lens", *states}), 14, 0)
    assert from_onnx(case.model(case.arrays())).net.states == states


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


def of_nodes(nodes: list[Any], shape: tuple[Any, ...], lengths: Array | None, weights: dict[str, Array]) -> Any:
    """A model of X and, unless they are constant, lengths L; output Y."""
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)]
    constants = dict(weights)
    if lengths is None:
        inputs.append(helper.make_tensor_value_info("L", TensorProto.INT64, [None]))
    else:
        constants["L"] = lengths
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "case", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def in_two_directions(op: str, batch_first: bool, layer_lengths: bool) -> tuple[list[Any], dict[str, Array]]:
    """The nodes of a layer and one between two reversals, as old exporters write bidirectional layers; the weights."""
    rng, nodes, rows = np.random.default_rng(0), [], 4 * GATES[op]
    axes = {"time_axis": 1, "batch_axis": 0} if batch_first else {}
    weights: dict[str, Array] = {"one": np.array([1])}

    def add(kind: str, *names: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, names[:-1], names[-1:], name=names[-1], **attributes))

    def turned(source: str, result: str) -> None:
        add("Transpose", source, result, perm=[1, 0, 2] if batch_first else [0, 1, 2])

    add("Cast", "L", "L32", to=TensorProto.INT32)
    add("ReverseSequence", "X", "L", "X_reversed", **axes)
    for lane, x in (("f", "X"), ("b", "X_reversed")):
        for name, shape in (("W", (1, rows, 3)), ("R", (1, rows, 4)), ("B", (1, 2 * rows))):
            weights[name + lane] = rng.normal(0, 0.5, shape).astype(np.float32)
        turned(x, f"x_{lane}")
        lengths = "L32" if layer_lengths else ""
        add(op, f"x_{lane}", f"W{lane}", f"R{lane}", f"B{lane}", lengths, f"{op}_{lane}", hidden_size=4)
        add("Squeeze", f"{op}_{lane}", "one", f"squeezed_{lane}")
        turned(f"squeezed_{lane}", f"y_{lane}")
    add("ReverseSequence", "y_b", "L", "y_in_order", **axes)
    add("Concat", "y_f", "y_in_order", "Y", axis=2)
    return nodes, weights


LENGTHS = {"full": (4, 4), "constant": (2, 3), "given": (1, 4)}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_reversed_sequences(caffe: Runner, batch_first: bool, kind: str, count: int) -> None:
    lengths = np.array(LENGTHS[kind][-count:])
    axes = {"time_axis": 1, "batch_axis": 0} if batch_first else {}
    nodes = [helper.make_node("ReverseSequence", ["X", "L"], ["Y"], **axes)]
    for rest in ((), (2,), (2, 3)):
        shape = (count, 4, *rest) if batch_first else (4, count, *rest)
        model = of_nodes(nodes, shape, None if kind == "given" else lengths, {})
        fed = {"X": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
        fed |= {"L": lengths} if kind == "given" else {}
        made = imported(from_onnx(model, shapes={"L": [count]} if kind == "given" else {}).described)
        found = made.in_caffe(caffe, {name: array.astype(float) for name, array in fed.items()})[0]
        assert_close(found, by_runtime(model, fed), 1e-6)


@pytest.mark.parametrize(("op", "count"), [("GRU", 1), ("GRU", 2), ("LSTM", 2)])
@pytest.mark.parametrize("layer_lengths", [False, True])
@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_layer_between_two_reversals_runs_backwards(
    batch_first: bool, kind: str, layer_lengths: bool, op: str, count: int
) -> None:
    lengths = np.array(LENGTHS[kind][-count:])
    nodes, weights = in_two_directions(op, batch_first, layer_lengths)
    shape = (count, 4, 3) if batch_first else (4, count, 3)
    model = of_nodes(nodes, shape, None if kind == "given" else lengths, weights)
    fed = {"X": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    fed |= {"L": lengths} if kind == "given" else {}
    made = imported(from_onnx(model, shapes={"L": [count]} if kind == "given" else {}).described)
    found = made.interpreted({name: array.astype(float) for name, array in fed.items()})
    assert_close(found, by_runtime(model, fed), 1e-6)
    backwards = kind == "full" or layer_lengths  # else it runs on past the ends, over what is not reversed
    assert ("reverse=True" in made.text) == backwards


def test_a_layer_between_two_reversals_keeps_its_length_open() -> None:
    nodes, weights = in_two_directions("GRU", True, True)
    model = of_nodes(nodes, (2, "T", 3), None, weights)
    made = imported(from_onnx(model, shapes={"L": [2]}).described, {"T": 5})
    fed = {"X": np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32), "L": np.array([5, 3])}
    found = made.interpreted({name: array.astype(float) for name, array in fed.items()})
    assert_close(found, by_runtime(model, fed), 1e-6)


def test_a_reversal_that_no_model_has_is_refused() -> None:
    def refused(shape: tuple[int, ...], lengths: Array, **axes: int) -> str:
        node = helper.make_node("ReverseSequence", ["X", "L"], ["Y"], name="turn", **axes)
        with pytest.raises(RefusedError) as caught:
            from_onnx(of_nodes([node], shape, lengths, {}))
        return str(caught.value).partition("turn (ReverseSequence): ")[2]

    assert refused((4, 2, 3), np.array([4, 5])) == "sequence_lens = [4, 5]: there are 4 steps; check the model"
    assert refused((4, 2, 3), np.array([4])) == f"sequence_lens = [1]: 2 lengths are expected; {CHECK}"
    axes = "time_axis, batch_axis = 2, 1 of [4, 2, 3]: they must be 0 and 1, or 1 and 0; transpose the operand"
    assert refused((4, 2, 3), np.array([3, 3]), time_axis=2, batch_axis=1) == axes


def test_sequences_of_a_batch_are_no_frames() -> None:
    """A layer that runs backwards is not streamed along the batch, whose sequences have first states of their own."""
    weights = {"W": (1, 12, 3), "R": (1, 12, 4)}
    arrays = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    node = helper.make_node("GRU", ["x", "W", "R", "", "", "h"], ["", "h_T"], hidden_size=4, direction="reverse")
    inputs: dict[str, list[str | int | None]] = {"x": ["T", "N", 3], "h": [1, "N", 4]}
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("h_T", TensorProto.FLOAT, None)],
        arrays,
    )
    with pytest.raises(RefusedError, match="runs backwards"):
        from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), step=True)
