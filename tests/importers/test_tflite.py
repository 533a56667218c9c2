"""TFLite files read: each operator and each recurrent form computes what LiteRT does; others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

import lstmc
import lstmc_tflite.net
from lstmc.importers import RefusedError, SourceError, import_file
from lstmc.importers.checks import evaluate
from lstmc.importers.frontends.tflite_graph import FLOAT_NET, HANDLERS, UNREAD, WHILE
from lstmc.importers.importer import TFLITE
from lstmc.importers.read.tflite_file import TfliteFile
from lstmc.importers.sources import ImportOptions
from lstmc.ops import Array
from lstmc_tflite.net import Net, file_bytes, schema
from lstmc_tflite.runtime import LiteRT
from tests.backends.lstmc_tflite.streams import CELLS, Stream
from tests.backends.lstmc_tflite.test_tflite import BACKEND, compile_graph, files, random_weights, sampled
from tests.importers.remedies import remedies
from tests.quick_sample import one_in

DATA = Path(__file__).parent / "tflite"  # made by make.py there
CLOSE = 2e-6
REMEDIES = (WHILE[1], UNREAD[1], FLOAT_NET)  # below a net is refused with each, and the net that it asks for is read


def equal(path: Path, close: float = CLOSE) -> Any:
    """Read a file, compare it with LiteRT on random inputs, and return the net that was read."""
    source = TFLITE.read(path, ImportOptions())
    net, rng = source.described, np.random.default_rng(0)
    inputs = {name: rng.uniform(0.1, 1, shape).astype("f") for name, shape in net.inputs.items()}
    assert source.runtime is not None
    wanted, found = source.runtime.run(inputs), evaluate(net, inputs)
    assert {*wanted} == {*found} == {*net.outputs}
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max() <= close * max(1, np.abs(array).max()), name
    return source


def written(net: Net, path: Path, variables: Mapping[str, int] = {}, change: Any = None) -> Path:
    """Write a net, some tensors of it as variables; ``change`` changes the model's object."""
    s, content = schema(), file_bytes(net)
    model = s.ModelT.InitFromPackedBuf(content)
    for tensor in model.subgraphs[0].tensors:
        tensor.isVariable = tensor.name.decode() in variables
    if change is not None:
        change(model)
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


# They round a number of steps to a whole one: one of float32 is another step.
COUNTING = ("clockwork", "phased_lstm")


def random(*shape: int) -> Array:
    return np.random.default_rng(3).normal(0, 0.5, shape).astype("f")


# operator -> shapes of its inputs (lists are constant integers, arrays constant numbers), the result's, options
IMAGE = (1, 6, 5, 2)
ONES: dict[str, tuple[tuple[Any, ...], tuple[int, ...], dict[str, Any]]] = {
    **{op: (((2, 3),), (2, 3), {}) for op in ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOG")},
    **{op: (((2, 3),), (2, 3), {}) for op in ("LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT")},
    **{op: (((2, 3),), (2, 3), {}) for op in ("SIGN", "SIN", "SQRT", "SQUARE", "TANH", "LOG_SOFTMAX")},
    **{op: (((2, 3), (1, 3)), (2, 3), {}) for op in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")},
    **{op: (((2, 3), [1]), (2,), {"keepDims": False}) for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")},
    "REDUCE_PROD": (((2, 3), [0, 1]), (1, 1), {"keepDims": True}),
    "ADD_N": (((2, 3), (2, 3), (2, 3)), (2, 3), {}),
    "AVERAGE_POOL_2D": ((IMAGE,), (1, 3, 3, 2), {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2}),
    "BATCH_MATMUL": (((2, 3, 4), (2, 5, 4)), (2, 3, 5), {"adjY": True}),
    "BROADCAST_TO": (((1, 3), [2, 3]), (2, 3), {}),
    "CONCATENATION": (((2, 3), (2, 1)), (2, 4), {"axis": 1}),
    "CONV_2D": (
        (IMAGE, random(4, 3, 2, 2), random(4)),
        (1, 3, 5, 4),
        {"strideH": 2, "strideW": 1, "fusedActivationFunction": 1},
    ),
    "DEPTHWISE_CONV_2D": (
        (IMAGE, random(1, 3, 2, 4), random(4)),
        (1, 4, 4, 4),
        {"padding": 1, "strideH": 1, "strideW": 1, "depthMultiplier": 2},
    ),
    "EXPAND_DIMS": (((2, 3), [1]), (2, 1, 3), {}),
    "FULLY_CONNECTED": (((2, 3), random(4, 3), random(4)), (2, 4), {"fusedActivationFunction": 3}),
    "GATHER": (((2, 3), [2, 0]), (2, 2), {"axis": 1}),
    "GELU": (((2, 3),), (2, 3), {"approximate": False}),
    "L2_NORMALIZATION": (((2, 3),), (2, 3), {}),
    "LEAKY_RELU": (((2, 3),), (2, 3), {"alpha": 0.3}),
    "MAX_POOL_2D": (
        (IMAGE,),
        (1, 2, 2, 2),
        {"padding": 1, "filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2},
    ),
    "PACK": (((2, 3), (2, 3)), (2, 2, 3), {"axis": 1, "valuesCount": 2}),
    "PAD": (((2, 3), [[0, 1], [2, 0]]), (3, 5), {}),
    "PADV2": (((2, 3), [[0, 1], [2, 0]], np.float32(0.25)), (3, 5), {}),
    "POW": (((2, 3), np.float32(1.5)), (2, 3), {}),
    "PRELU": (((2, 3), random(3)), (2, 3), {}),
    "RESHAPE": (((2, 3), [3, 2]), (3, 2), {"newShape": [3, 2]}),
    "REVERSE_V2": (((2, 3), [1]), (2, 3), {}),
    "SLICE": (((2, 3), [0, 1], [2, -1]), (2, 2), {}),
    "SOFTMAX": (((2, 3),), (2, 3), {"beta": 2.0}),
    "SQUARED_DIFFERENCE": (((2, 3), (2, 3)), (2, 3), {}),
    "SQUEEZE": (((2, 1, 3),), (2, 3), {"squeezeDims": [1]}),
    "STRIDED_SLICE": (
        ((4, 5, 3), [0, -1, 2], [0, 0, 0], [2, 1, -1]),
        (2, 3),
        {"beginMask": 1, "endMask": 5, "shrinkAxisMask": 2},
    ),
    "TILE": (((2, 3), [1, 2]), (2, 6), {}),
    "TRANSPOSE": (((2, 3), [1, 0]), (3, 2), {}),
    "TRANSPOSE_CONV": (([1, 7, 6, 3], random(3, 3, 2, 4), (1, 4, 3, 4)), (1, 7, 6, 3), {"strideH": 2, "strideW": 2}),
}


# The schema's names of options that the writer does not need
OPTIONS = {
    **dict.fromkeys(("CEIL", "ELU", "FLOOR", "PRELU", "RELU6", "RELU_N1_TO_1", "ROUND"), ""),
    **dict.fromkeys(("MEAN", "REDUCE_MIN", "REDUCE_PROD"), "Reducer"),
    "BATCH_MATMUL": "BatchMatMul",
    "L2_NORMALIZATION": "L2Norm",
    "MINIMUM": "MaximumMinimum",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN",
    "EMBEDDING_LOOKUP": "",
    "ARG_MAX": "ArgMax",
    "SELECT": "Select",
    "SELECT_V2": "SelectV2",
    "WHILE": "While",
    "SHAPE": "Shape",
}


@pytest.fixture(autouse=True)
def all_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstmc_tflite.net, "OPTIONS", {**lstmc_tflite.net.OPTIONS, **OPTIONS})


# Other forms of them
FORMS_OF_ONE: tuple[tuple[str, tuple[Any, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("SQUEEZE", ((1, 2, 1, 3),), (2, 3), {"squeezeDims": []}),
    ("SQUEEZE", ((1, 2, 1, 3),), (2, 3), {}),
    ("RESHAPE", ((1, 1), []), (), {"newShape": []}),
    ("SUM", ((2, 3), []), (2, 3), {"keepDims": False}),
    ("STRIDED_SLICE", ((4, 3), [1, 0], [0, 0], [1, 1]), (3,), {"beginMask": 3, "endMask": 3, "shrinkAxisMask": 1}),
    ("STRIDED_SLICE", ((4, 6), [3, 5], [0, 0], [-1, -2]), (3, 3), {}),
    ("STRIDED_SLICE", ((4, 6), [1, -4], [4, -1], [2, 1]), (2, 3), {}),
    ("STRIDED_SLICE", ((4, 6), [2, 2], [3, 3], [-1, -2]), (4, 3), {"beginMask": 3, "endMask": 3}),
    ("STRIDED_SLICE", ((4, 6), [-1, 1], [0, 3], [1, 1]), (2,), {"shrinkAxisMask": 1}),
    *(
        ("FULLY_CONNECTED", ((2, 5, 3), random(4, 3), *bias), (2, 5, 4) if keep else (10, 4), {"keepNumDims": keep})
        for keep in (False, True)
        for bias in ((), (random(4),))
    ),
    ("FULLY_CONNECTED", ((2, 3), random(4, 3)), (2, 4), {"keepNumDims": True}),
    *(
        (op, ((2, 3, 4), axes), shape, {"keepDims": keep})
        for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
        for axes, keep, shape in (([0, 2], False, (3,)), ([-2], True, (2, 1, 4)), ([1], False, (2, 4)))
    ),
    *(("ADD", ((2, 3), (2, 3)), (2, 3), {"fusedActivationFunction": kind}) for kind in (1, 2, 3)),
    ("CONCATENATION", ((2, 3), (2, 1), (2, 2)), (2, 6), {"axis": -1}),
    ("AVERAGE_POOL_2D", (IMAGE,), (1, 3, 5, 2), {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 1}),
    ("MAX_POOL_2D", (IMAGE,), (1, 2, 3, 2), {"filterHeight": 4, "filterWidth": 2, "strideH": 3, "strideW": 2}),
    *(
        ("CONV_2D", (IMAGE, random(4, 3, 2, 2), random(4)), (1, *shape, 4), {"strideH": 1, "strideW": 1, **more})
        for shape, more in (
            ((6, 5), {"dilationHFactor": 2, "dilationWFactor": 1}),
            ((2, 3), {"dilationHFactor": 2, "dilationWFactor": 2, "padding": 1}),
            ((4, 4), {"padding": 1}),
        )
    ),
    (
        "DEPTHWISE_CONV_2D",
        (IMAGE, random(1, 3, 2, 2), random(2)),
        (1, 3, 3, 2),
        {"strideH": 2, "strideW": 2, "depthMultiplier": 1},
    ),
    ("BATCH_MATMUL", ((2, 4, 3), (2, 4, 5)), (2, 3, 5), {"adjX": True}),
    ("BATCH_MATMUL", ((2, 3, 4), (2, 4, 5)), (2, 3, 5), {}),
    ("GATHER", ((2, 3), [1, 1, 0]), (3, 3), {"axis": 0}),
    ("PACK", ((2, 3), (2, 3)), (2, 2, 3), {"axis": 0, "valuesCount": 2}),
    ("PACK", ((2, 3), (2, 3)), (2, 3, 2), {"axis": 2, "valuesCount": 2}),
    ("SLICE", ((3, 4, 5), [1, 0, 2], [1, -1, 3]), (1, 4, 3), {}),
    ("EXPAND_DIMS", ((2, 3), [0]), (1, 2, 3), {}),
    ("EXPAND_DIMS", ((2, 3), [-1]), (2, 3, 1), {}),
    ("TILE", ((2, 1, 3), [2, 3, 1]), (4, 3, 3), {}),
    ("TRANSPOSE", ((2, 3, 4), [2, 0, 1]), (4, 2, 3), {}),
    ("PAD", ((2, 3, 1), [[1, 2], [0, 1], [0, 0]]), (5, 4, 1), {}),
    ("REVERSE_V2", ((2, 3, 2), [0]), (2, 3, 2), {}),
    ("SOFTMAX", ((2, 3, 4),), (2, 3, 4), {"beta": 1.0}),
    ("L2_NORMALIZATION", ((2, 3, 4),), (2, 3, 4), {}),
    ("PRELU", ((1, 4, 5, 2), random(1, 1, 2)), (1, 4, 5, 2), {}),
    ("GELU", ((2, 3),), (2, 3), {"approximate": True}),
)


@pytest.mark.parametrize("code", ONES)
def test_an_operator_computes_what_litert_does(code: str, tmp_path: Path) -> None:
    one(code, *ONES[code], tmp_path)


@pytest.mark.parametrize("form", FORMS_OF_ONE, ids=str)
def test_a_form_of_an_operator_computes_what_litert_does(form: tuple[Any, ...], tmp_path: Path) -> None:
    one(*form, tmp_path)


def one(code: str, given: Any, shape: tuple[int, ...], options: dict[str, Any], folder: Path) -> None:
    """Compare a net of one operator with LiteRT."""
    net = Net("one")
    operands = []
    for place, part in enumerate(given):
        if isinstance(part, tuple):
            net.inputs[f"x{place}"] = net.tensor(f"x{place}", part)
        constant = (
            net.index(part)
            if isinstance(part, list)
            else net.constant(f"w{place}", part)
            if not isinstance(part, tuple)
            else None
        )
        operands.append(net.inputs[f"x{place}"] if constant is None else constant)
    if code == "TRANSPOSE_CONV":
        options = {**options, "padding": 0}
    net.outputs["y"] = net.add(code, operands, shape, "y", **options)
    equal(written(net, folder / "one.tflite"))


def test_every_operator_that_is_read_is_tried() -> None:
    elsewhere = """ARG_MAX CAST DEQUANTIZE EMBEDDING_LOOKUP EQUAL FILL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND
    LOGICAL_NOT LOGICAL_OR SELECT SELECT_V2 SHAPE SPLIT SPLIT_V UNPACK UNIDIRECTIONAL_SEQUENCE_LSTM
    UNIDIRECTIONAL_SEQUENCE_RNN"""
    assert {*ONES} | {*elsewhere.split()} == {*HANDLERS}


def test_values_that_are_chosen_cut_and_counted(tmp_path: Path) -> None:
    net = Net("several")
    x = net.inputs["x"] = net.tensor("x", (2, 4))
    a, b = net.split("SPLIT", [net.index(1), x], [(2, 2)] * 2, ["a", "b"], numSplits=2)
    c, d = net.split("SPLIT_V", [x, net.index([1, -1]), net.index(1)], [(2, 1), (2, 3)], ["c", "d"], numSplits=2)
    e, f = net.split("UNPACK", [x], [(4,)] * 2, ["e", "f"], num=2, axis=0)
    masks = []
    for code in ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"):
        masks.append(net.add(code, [a, b], (2, 2), code.lower()))
        masks[-1].dtype = "bool"
    both = net.add("LOGICAL_AND", [net.add("LOGICAL_OR", masks[:2], (2, 2), "or"), masks[3]], (2, 2), "and")
    no = net.add("LOGICAL_NOT", [both], (2, 2), "not")
    for operator in net.operators[-3:]:
        operator.outputs[0].dtype = "bool"
    chosen = net.add("SELECT_V2", [no, a, b], (2, 2), "chosen")
    other = net.add("SELECT", [masks[4], chosen, a], (2, 2), "other")
    most = net.add("ARG_MAX", [d, net.index(1)], (2,), "most", outputType=schema().TensorType.INT32)
    most.dtype = "int32"
    row = net.add("EMBEDDING_LOOKUP", [most, net.constant("table", random(3, 2))], (2, 2), "row")
    counted = net.add("CAST", [most], (2,), "cast", inDataType=2, outDataType=0)
    size = net.add("SHAPE", [a], (2,), "size", outType=schema().TensorType.INT32)
    size.dtype = "int32"
    filled = net.add("FILL", [size, net.constant("value", np.float32(0.5))], (2, 2), "filled")
    net.outputs = {"y": net.add("ADD", [other, row], (2, 2), "y"), "c": c, "ef": net.add("SUB", [e, f], (4,), "ef")}
    net.outputs |= {"n": counted, "z": net.add("MUL", [filled, other], (2, 2), "z")}
    equal(written(net, tmp_path / "several.tflite"))


FORMS = {  # of the fused LSTM
    "plain": {},
    "clipped": {"cellClip": 0.2},
    "coupled": {},
    "peepholes": {"cellClip": 0.5},
    "projected": {"projClip": 0.05},
    "by_time": {"timeMajor": True},
    "relu": {"fusedActivationFunction": 1},
}


def fused_lstm(form: str, steps: int, path: Path, **more: Any) -> Path:
    net, rng, (size, cells) = Net("lstm"), np.random.default_rng(5), (3, 4)
    units = 2 if form == "projected" else cells

    def weights(*shape: int) -> Any:
        return net.constant("w", rng.normal(0, 0.7, shape))

    none = net.tensor("none", ())
    ins, recurrent = ([weights(cells, width) for _ in range(4)] for width in (size, units))
    peepholes = [weights(cells) if form == "peepholes" else none for _ in range(3)]
    biases = [weights(cells) for _ in range(4)]
    project = [weights(units, cells), weights(units)] if form == "projected" else [none, none]
    states = [net.tensor("h", (1, units)), net.tensor("c", (1, cells))]
    if form == "coupled":
        ins[0] = recurrent[0] = biases[0] = none
    shape = (steps, 1) if form == "by_time" else (1, steps)
    net.inputs["x"] = net.tensor("x", (*shape, size))
    operands = [net.inputs["x"], *ins, *recurrent, *peepholes, *biases, *project, *states]
    options = {"fusedActivationFunction": 4, **FORMS[form], **more}
    net.outputs["y"] = net.add("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, (*shape, units), "y", **options)

    def without(model: Any) -> None:
        graph = model.subgraphs[0]
        places = {tensor.name: place for place, tensor in enumerate(graph.tensors)}
        (operator,) = graph.operators
        operator.inputs = np.where(operator.inputs == places[b"none"], -1, operator.inputs).astype(np.int32)

    return written(net, path, {"h": units, "c": cells}, without)


@pytest.mark.parametrize("form", FORMS)
def test_a_fused_lstm(form: str, tmp_path: Path) -> None:
    equal(fused_lstm(form, 6, tmp_path / "lstm.tflite"))


def test_a_fused_lstm_streams_as_the_file_does(tmp_path: Path) -> None:
    """LiteRT keeps the states of the file from call to call: calls of one step are the stream."""
    whole, one = fused_lstm("clipped", 30, tmp_path / "whole.tflite"), fused_lstm("clipped", 1, tmp_path / "one.tflite")
    runtime = LiteRT(one.read_bytes(), "litert-optimised")
    net = lstmc.convert(whole, tmp_path / "net", backend="c", step=True, on=["interpreter"]).net
    frames = np.random.default_rng(0).normal(size=(30, 1, 1, 3)).astype("f")
    with net.stream() as step:
        for frame in frames:
            wanted = runtime.forward({"x": frame}, ["y"])["y"]
            (found,) = step(x=frame).values()
            assert np.abs(found.ravel() - wanted.ravel()).max() <= CLOSE


def test_a_fused_lstm_without_an_activation_is_refused(tmp_path: Path) -> None:
    """LiteRT then reads memory that it did not write."""
    (told,) = refusals(fused_lstm("plain", 3, tmp_path / "lstm.tflite", fusedActivationFunction=0))
    assert told.startswith("y (UNIDIRECTIONAL_SEQUENCE_LSTM): activation = 0: it is not supported; ")


def test_a_fused_rnn(tmp_path: Path) -> None:
    net = Net("rnn")
    net.inputs["x"] = net.tensor("x", (2, 6, 3))
    weights = [net.constant("w", random(*shape)) for shape in ((4, 3), (4, 4), (4,))]
    operands = [net.inputs["x"], *weights, net.tensor("h", (2, 4))]
    options = {"fusedActivationFunction": 4}
    net.outputs["y"] = net.add("UNIDIRECTIONAL_SEQUENCE_RNN", operands, (2, 6, 4), "y", **options)
    equal(written(net, tmp_path / "rnn.tflite", {"h": 4}))


@pytest.mark.parametrize("name", one_in(14, [name for name in CELLS if name not in COUNTING], 3))
def test_a_written_cell_is_read_and_computes_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(Stream(name).content)
    equal(tmp_path / "net.tflite", 1e-5)


@pytest.mark.slow
def test_every_op_that_is_written_is_read(tmp_path: Path) -> None:
    refused = {}
    for graph, _ in [*sampled(True), *sampled(False)]:
        content, _ = files(compile_graph(graph, BACKEND), random_weights(graph))
        (tmp_path / "net.tflite").write_bytes(content)
        try:
            equal(tmp_path / "net.tflite", 1e-5)
        except RefusedError as error:
            refused[graph.name] = error.refusals[0].why
    assert refused == {}


def test_a_net_of_one_step_becomes_a_step_again(tmp_path: Path) -> None:
    first = lstmc.compile("lstm", T=4, N=1, D=3, H=4, backend="tflite")
    first.save(tmp_path)
    back = lstmc.convert(tmp_path / "lstm.tflite", tmp_path / "back", backend="c", on=["interpreter"])
    assert back.passed
    assert back.source is not None
    assert back.source.runtime == "LiteRT"
    assert back.model.net.states == {"lstm_h_in": "lstm_h_out", "lstm_c_in": "lstm_c_out"}
    frames = np.random.default_rng(0).normal(size=(40, 1, 3)).astype("f")
    with first.stream() as one, back.net.stream() as other:
        for frame in frames:
            found, wanted = other(x=frame)["y"], one(x=frame[None])["y"]
            assert np.abs(found - wanted).max() <= CLOSE


@pytest.mark.parametrize("name", ["gru_unrolled", "gru_half", "lstm_fused", "step"])
def test_a_file_of_tensorflow(name: str) -> None:
    source = equal(DATA / f"{name}.tflite")
    assert not source.described.notes


def test_a_frame_of_tensorflow_streams_with_the_states_that_are_proved(tmp_path: Path) -> None:
    path = DATA / "step.tflite"
    done = lstmc.convert(path, tmp_path, backend="c", on=["interpreter"], states={"h": "h_out"})
    assert done.model.net.states == {"past": "past_out", "h": "h_out"}
    runtime, states = (
        LiteRT(path.read_bytes(), "litert-optimised"),
        {"past": np.zeros((1, 2, 3)), "h": np.zeros((1, 4))},
    )
    file = TfliteFile(path)
    inputs, outputs = ({name: file.tensors[at].name for name, at in end.items()} for end in (file.inputs, file.outputs))
    with done.net.stream() as step:
        for frame in np.random.default_rng(0).normal(size=(50, 1, 3)).astype("f"):
            fed = {inputs[name]: array for name, array in {"x": frame, **states}.items()}
            wanted = runtime.forward(fed, outputs.values())
            states = {name: wanted[outputs[f"{name}_out"]] for name in states}
            assert np.abs(step(x=frame)["y"] - wanted[outputs["y"]]).max() <= CLOSE


def test_a_fused_layer_of_keras_streams_by_steps(tmp_path: Path) -> None:
    path = DATA / "lstm_fused.tflite"
    done = lstmc.convert(path, tmp_path, backend="c", step=True, on=["interpreter"])
    assert done.passed
    assert done.source is not None
    assert done.source.runtime == "LiteRT"
    assert lstmc.inspect(path).parts[0].units == (4,)


def called(model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Give a model a signature of these names."""
    s, graph = schema(), model.subgraphs[0]
    model.signatureDefs = [s.SignatureDefT(signatureKey=b"serving_default", inputs=[], outputs=[])]
    for names, places, end in ((inputs, graph.inputs, "inputs"), (outputs, graph.outputs, "outputs")):
        maps = [s.TensorMapT(name=name, tensorIndex=int(at)) for name, at in zip(names, places, strict=True)]
        setattr(model.signatureDefs[0], end, maps)


@pytest.mark.parametrize(("given", "made"), [("h", "h"), ("h.", "/h")])
def test_a_state_and_its_next_value_may_have_one_name(given: str, made: str, tmp_path: Path) -> None:
    net = Net("step")
    x, h = (net.inputs.setdefault(name, net.tensor(name, (1, 3))) for name in ("x", "state"))
    mixed = net.add("ADD", [x, net.add("MUL", [h, net.constant("w", random(3))], (1, 3), "wh")], (1, 3), "mixed")
    net.outputs = {"y": net.add("NEG", [mixed], (1, 3), "y"), "next": net.add("TANH", [mixed], (1, 3), "next")}
    path = written(net, tmp_path / "step.tflite", change=lambda model: called(model, ("x", given), ("y", made)))
    output = {"h": "h_out"}.get(made, made)
    assert {*equal(path).described.called.values()} == {"x", given, "y", output}
    done = lstmc.convert(path, tmp_path / "net", backend="c", on=["interpreter"], states={given: output})
    assert done.passed
    assert len(done.model.net.states) == 1


def refusals(path: Path) -> list[str]:
    with pytest.raises(RefusedError) as refused:
        import_file(path)
    return [str(one) for one in refused.value.refusals]


def test_a_loop_is_refused_with_the_way_out() -> None:
    (told,) = refusals(DATA / "gru_while.tflite")
    assert told == (
        "functional_3_1/gru_3_1/while (WHILE): operator = WHILE: a loop with a body of its own is not read; convert the"
        " model that it was made from (.keras, .h5, .pt2, .onnx), or export it with unrolled steps (unroll=True of"
        " Keras's layers)"
    )


def test_all_operators_that_are_not_read_are_named(tmp_path: Path) -> None:
    net = Net("unread")
    x = net.inputs["x"] = net.tensor("x", (2, 3))
    y = net.add("FLOOR", [net.add("RELU", [x], (2, 3), "a")], (2, 3), "b")
    net.outputs["y"] = net.add("CEIL", [y], (2, 3), "y")

    def change(model: Any) -> None:
        codes = schema().BuiltinOperator
        for code, other in zip(model.operatorCodes, (codes.RELU, codes.LSH_PROJECTION, codes.CUSTOM), strict=True):
            code.builtinCode, code.deprecatedBuiltinCode = other, min(other, 127)
        model.operatorCodes[2].customCode = b"FlexErf"

    told = refusals(written(net, tmp_path / "net.tflite", change=change))
    assert [one.partition(":")[0] for one in told] == ["b (LSH_PROJECTION)", "y (FlexErf)"]


def test_what_litert_or_the_reader_leaves_out_is_refused(tmp_path: Path) -> None:
    def told(code: str, dtype: str = "float32", change: Any = None, **options: Any) -> str:
        net = Net("one")
        x = net.inputs["x"] = net.tensor("x", (2, 3))
        made = net.add(code, [x, net.constant("w", random(3))][: 1 if code == "CAST" else 2], (2, 3), "made", **options)
        made.dtype = dtype
        net.outputs["y"] = net.add("CAST", [made], (2, 3), "y")
        return refusals(written(net, tmp_path / "one.tflite", change=change))[0]

    def of_4_bits(model: Any) -> None:
        (weight,) = (tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"w")
        weight.type = schema().TensorType.INT4

    def shown(model: Any) -> None:
        of_4_bits(model)
        model.subgraphs[0].outputs = model.subgraphs[0].operators[0].inputs[1:]

    def later(model: Any) -> None:
        model.operatorCodes[0].builtinCode = 5000

    assert told("CAST", "uint8").startswith("made (CAST): elements = UINT8: it is not supported; ")
    assert told("CAST", "float16").startswith("made (CAST): elements = FLOAT16: it is not supported; ")
    assert told("MUL", fusedActivationFunction=4).startswith("made (MUL): activation = 4: it is not supported; ")
    assert told("MUL", change=of_4_bits).startswith("made (MUL): elements = INT4 of w: it is not supported; ")
    assert told("MUL", change=shown).startswith("made (MUL): elements = INT4 of w: it is not supported; ")
    assert told("MUL", change=later).startswith("made (operator 5000): operator = operator 5000: it is not supported; ")


def weighed(path: Path, values: bool, weights: bool) -> Path:
    """A product whose weights, or also its values, are integers of 8 bits."""
    net, s = Net("whole"), schema()
    net.inputs["x"] = net.tensor("x", (1, 3))
    constant = net.constant("w", np.round(random(4, 3) * 50))
    net.outputs["y"] = net.add("FULLY_CONNECTED", [net.inputs["x"], constant], (1, 4), "y")

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if (tensor.name == b"w" and weights) or (tensor.name == b"y" and values):
                tensor.type, tensor.quantization.scale = s.TensorType.INT8, np.float32([0.01])
                tensor.quantization.zeroPoint = np.int64([0])
            if tensor.name == b"w" and weights:
                data = model.buffers[tensor.buffer]
                data.data = data.data.view(np.float32).astype(np.int8).view(np.uint8)

    return written(net, path, change=change)


def test_integers_of_weights_are_numbers_and_of_values_are_refused(tmp_path: Path) -> None:
    source = TFLITE.read(weighed(tmp_path / "w.tflite", False, True), ImportOptions())
    (weight,) = (one for one in source.described.params.values() if one.shape == (4, 3))
    assert np.allclose(weight.make(), np.round(random(4, 3) * 50) * np.float32(0.01))
    assert "rounds to 8 bits" in source.described.notes[0]
    assert source.runtime is not None
    assert "rounds to 8 bits" in str(source.runtime.unavailable())
    (told,) = refusals(weighed(tmp_path / "v.tflite", True, True))
    assert told.startswith(
        "FULLY_CONNECTED: 1 operators of 8 or 16 bits: the net computes in integers; convert the float"
    )


def broken(change: Any, path: Path) -> str:
    net = Net("broken")
    net.inputs["x"] = net.tensor("x", (1, 3))
    net.outputs["y"] = net.add("ADD", [net.inputs["x"], net.constant("w", random(1, 3))], (1, 3), "y")
    with pytest.raises(SourceError) as refused:
        import_file(written(net, path, change=change))
    return refused.value.message


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    def graph(change: Any) -> str:
        return broken(lambda model: change(model, model.subgraphs[0]), tmp_path / "net.tflite")

    def missing(model: Any, _: Any) -> None:
        model.buffers[1].data = None

    def short(model: Any, _: Any) -> None:
        model.buffers[1].data = model.buffers[1].data[:-4]

    def elsewhere(model: Any, graph: Any) -> None:
        graph.operators[0].inputs = np.int32([0, 7])

    def huge(model: Any, graph: Any) -> None:
        graph.tensors[1].shape = np.int32([2**30, 3])

    def none(model: Any, graph: Any) -> None:
        graph.operators[0].inputs = np.int32([0, -1])

    def overlapping(model: Any, graph: Any) -> None:
        model.buffers[1].data = np.zeros(400_000, np.uint8)
        for tensor in graph.tensors:
            tensor.shape = np.int32([100_000])
        graph.tensors[1:2] = [graph.tensors[1]] * 40

    def without_options(_: Any, graph: Any) -> None:
        graph.operators[0].builtinOptions = None

    def empty(model: Any, _: Any) -> None:
        model.subgraphs = []

    head = "net.tflite: not a TFLite file, or a damaged one: "
    assert graph(missing) == "net.tflite: y reads w, which nothing before it makes"
    assert graph(short) == f"{head}tensor w of FLOAT32[1, 3] has 8 bytes"
    assert graph(elsewhere) == f"{head}operator 0 has tensors that the file does not have"
    assert graph(huge) == "net.tflite: tensor w has no usable shape: [1073741824, 3]"
    assert graph(none) == f"{head}ADD at y has no operand 1"
    assert graph(without_options) == f"{head}ADD at y has not the options of its kind"
    assert graph(overlapping) == f"{head}its constants have more bytes than the file"
    assert graph(empty) == f"{head}it has no graph"
    for content in (b"\x1c\0\0\0TFL3", (DATA / "step.tflite").read_bytes()[:600]):
        (tmp_path / "cut.tflite").write_bytes(content)
        with pytest.raises(SourceError, match=r"cut\.tflite: not a TFLite file, or a damaged one: "):
            import_file(tmp_path / "cut.tflite")


def test_random_damage_is_refused_or_read(tmp_path: Path) -> None:
    content, rng, path = (DATA / "step.tflite").read_bytes(), np.random.default_rng(4), tmp_path / "net.tflite"
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(8, len(content), 3):
            damaged[place] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        path.write_bytes(damaged)
        try:
            import_file(path)
        except lstmc.LstmcError as error:
            outcomes.add(type(error).__name__)
        else:
            outcomes.add("read")
    assert outcomes >= {"SourceError", "RefusedError", "read"}


def test_every_remedy_is_known_and_helps(tmp_path: Path) -> None:
    assert remedies("frontends/tflite_", "read/tflite_") == {*REMEDIES}
    assert refusals(DATA / "gru_while.tflite")[0].endswith(WHILE[1])
    import_file(DATA / "gru_unrolled.tflite")  # the same layer, unrolled
    assert refusals(weighed(tmp_path / "whole.tflite", True, True))[0].endswith(FLOAT_NET)
    import_file(weighed(tmp_path / "float.tflite", False, False))
