"""TFLite nets in integers: each integer of a stream is the interpreter's, by every set of kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, linear, maximum, model, relu, sigmoid, split, stack, tanh, uniform
from lstmc.api import Net
from lstmc.errors import BackendError
from lstmc.ir import Ref
from lstmc.ops import Array
from lstmc.verification.differential import check
from lstmc_c import CBackend
from lstmc_tflite import TfliteBackend
from lstmc_tflite.net import read_net
from lstmc_tflite.numbers import Numbers
from lstmc_tflite.runtime import NPUS, Micro, schema, vela_report, wide_floats
from tests.backends.lstmc_tflite.streams import CELLS, KERNELS, WITHOUT_BOUND, RandomStream, Stream
from tests.quick_sample import one_in
from tests.random_models.models import seeded_model

NUMBERS = ("a8w8", "a16w8", "a8w8-s16")


@pytest.mark.parametrize("case", one_in(58, product(CELLS, NUMBERS), 29), ids=" ".join)
def test_every_integer_of_carried_steps_is_the_interpreters(case: tuple[str, str]) -> None:
    name, numbers = case
    if name in WITHOUT_BOUND:
        return
    with np.errstate(all="ignore"):
        limits = Stream(name, batch=1).limits()
    streams = {
        target: Stream(name, batch=1, numbers=Numbers.of(numbers, limits), target=target)
        for target in ("tflite", "tflite-micro")
    }
    for kernels, load in KERNELS.items():
        stream = streams["tflite-micro" if kernels == "tflm" else "tflite"]
        assert stream.wrong(load(stream.content), kernels, 30) == 0, kernels


def test_the_last_bit_of_a_float_function_may_decide_an_integer_of_16_bits() -> None:
    """By the C library a logarithm is 14180.498 units, by the nearest float32 14180.5, which is rounded to 14181."""
    model = seeded_model(7447, wide=True)
    with np.errstate(all="ignore"):
        limits = RandomStream(model).limits()
        stream = RandomStream(model, Numbers.of("a16w8", limits), "tflite-micro")
        assert wide_floats(stream.content, "tflm")
        assert stream.wrong(Micro(stream.content), "tflm", 60) == 0
    streams = RandomStream(model, Numbers.of("a8w8", limits), "tflite-micro")
    assert not wide_floats(streams.content, "tflm")


def test_an_operand_that_changes_its_bits_has_the_range_of_the_value_before_it() -> None:
    """A layer norm of a state: its mean is a sum, written as a product, that is reshaped and seen in 16 bits."""
    model = seeded_model(7183, wide=True)
    with np.errstate(all="ignore"):
        stream = RandomStream(model, Numbers.of("a8w8-s16", RandomStream(model).limits()))
    assert stream.wrong(Micro(stream.content), "tflm", 20) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "numbers", "kernels"),
    [("gru", "a8w8", "xnnpack"), ("lstm", "a8w8-s16", "tflm"), ("rnn", "a16w8", "litert-reference")],
)
def test_every_integer_of_a_thousand_carried_steps_is_the_interpreters(name: str, numbers: str, kernels: str) -> None:
    """``tests.on_demand.fuzz.tflite_streams --cells --steps 1000`` runs the others."""
    limits = Stream(name, batch=1).limits()
    target = "tflite-micro" if kernels == "tflm" else "tflite"
    stream = Stream(name, batch=1, numbers=Numbers.of(numbers, limits), target=target)
    assert stream.wrong(KERNELS[kernels](stream.content), kernels, 1000) == 0


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ranges of a GRU."""
    path = tmp_path_factory.mktemp("ranges") / "ranges.json"
    data = {"x": np.random.default_rng(0).normal(size=(200, 1, 16)).astype(np.float32)}
    path.write_text(json.dumps(gru(TfliteBackend()).ranges(data).as_json()))
    return path


def gru(backend: TfliteBackend | CBackend) -> Net:
    return lstmc.compile("gru", T=20, N=1, D=16, H=32, backend=backend)


@pytest.mark.parametrize("numbers", ["a8w8", "a16w8", "a8w8-s16", "tflm-a8w8", "tflm-cmsis-nn-a16w8"])
def test_verify_compares_to_the_bit_and_finds_a_planted_difference(numbers: str, ranges: Path) -> None:
    net = gru(TfliteBackend().with_options({"numbers": numbers, "ranges": str(ranges)}))
    assert len(net.artifact.files["gru.tflite"]) < 15_100
    for place in ("tflite", "tflite-reference", "tflm"):
        (report,) = net.verify(on=[place]).reports
        assert report.passed
        exact = [each for each in report.differences if each.kind in ("output", "function")]
        assert {each.tolerance for each in exact} == {0.0}
        assert len(exact) == 6
    other = gru(
        TfliteBackend().with_options({"numbers": "a8w8" if numbers == "a16w8" else "a16w8", "ranges": str(ranges)})
    )
    executor = TfliteBackend(numbers=net.backend.numbers).executors()[0]  # type: ignore[attr-defined]
    assert not check(net.compiled, other.artifact, net.weights, executor).passed


def test_cmsis_nn_gets_one_scale_a_matrix_and_biases_of_64_bits(ranges: Path) -> None:
    """Its FULLY_CONNECTED of int16 refuses a scale for each row, and reads each bias as int64."""
    net = gru(TfliteBackend().with_options({"numbers": "tflm-cmsis-nn-a16w8", "ranges": str(ranges)}))
    graph = schema().Model.GetRootAs(net.artifact.files["gru.tflite"]).Subgraphs(0)
    tensors = [graph.Tensors(place) for place in range(graph.TensorsLength())]
    assert {tensor.Quantization().ScaleLength() for tensor in tensors if tensor.Quantization()} == {1}
    assert {tensor.Type() for tensor in tensors} >= {schema().TensorType.INT64, schema().TensorType.INT8}


@pytest.mark.slow
def test_vela_leaves_nothing_to_the_cpu(ranges: Path) -> None:
    for numbers in NUMBERS[::2]:
        backend = TfliteBackend().with_options({"numbers": numbers, "ranges": str(ranges)})
        net = lstmc.compile("gru", T=20, N=1, D=16, H=32, backend=backend, target="ethos-u")
        for npu in NPUS if numbers == "a8w8" else NPUS[:1]:
            report = vela_report(net.artifact.files["gru.tflite"], npu)
            assert report.on_cpu == ()
            assert report.on_npu >= 7
            assert 3_000 < report.cycles < 20_000
    assert str(net.verify(on=["vela"])).count(" cycles") == len(NPUS)
    floats = vela_report(gru(TfliteBackend()).artifact.files["gru.tflite"], NPUS[0])
    assert len(floats.on_cpu) == 16
    with pytest.raises(BackendError, match="Vela leaves a net in float32 to the CPU"):
        gru(TfliteBackend()).verify(on=["vela"])


def test_an_op_without_a_kernel_for_integers_is_in_float32() -> None:
    limits = Stream("min_lstm", batch=1).limits()
    stream = Stream("min_lstm", batch=1, numbers=Numbers.of("a8w8", limits))
    operators = read_net(stream.content).operators
    assert [o.code for o in operators].count("DEQUANTIZE") == 1
    (divided,) = [o for o in operators if o.code == "DIV"]
    assert divided.outputs[0].dtype == "float32"
    with pytest.raises(BackendError, match="Vela leaves it to the CPU") as refused:
        Stream("min_lstm", batch=1, numbers=Numbers.of("a8w8", limits), target="ethos-u")
    assert "lstmc/cells/input_gated.py" in str(refused.value)


def test_numbers_that_are_not_of_tflite_are_refused_with_what_to_do(ranges: Path) -> None:
    with pytest.raises(BackendError, match="integers need the range of each value: ranges=FILE"):
        TfliteBackend().with_options({"numbers": "a8w8"})
    with pytest.raises(BackendError, match="expected float32, a8w8, a16w8, a8w8-s16, fp16, or a device of TFLite"):
        TfliteBackend().with_options({"numbers": "c-a8w8", "ranges": str(ranges)})
    with pytest.raises(BackendError, match="for C in integers"):
        CBackend().with_options({"numbers": "tflm-a8w8", "ranges": str(ranges)})


def test_a_model_without_a_scan_is_refused_in_integers_with_the_way_out() -> None:
    @model
    def flat(x=Input(1, 3), W=Param(4, 3, fill=uniform(-1, 1))):  # type: ignore[no-untyped-def]
        return {"y": tanh(linear(x, W))}

    backend = TfliteBackend(numbers=Numbers.of("a8w8", dict.fromkeys(("x", "linear_W", "y"), (-2.0, 2.0))))
    with pytest.raises(BackendError, match="expected a model with a scan, found none; numbers=float32 or"):
        lstmc.compile(flat, backend=backend)
    for numbers in ("float32", "fp16"):
        lstmc.compile(flat, backend=TfliteBackend().with_options({"numbers": numbers}))


def test_functions_that_tflite_micro_has_in_float32_are_refused_there_with_the_way_out() -> None:
    limits = Stream("gru_d", batch=1).limits()
    content = Stream("gru_d", batch=1, numbers=Numbers.of("a8w8", limits)).content
    assert "EXP" in [o.code for o in read_net(content).operators if o.outputs[0].dtype == "int8"]
    with pytest.raises(BackendError, match="TFLite Micro cannot") as refused:
        KERNELS["tflm"](content)
    assert refused.value.notes == ("target tflite-micro has just what TFLite Micro computes",)
    micro = Stream("gru_d", batch=1, numbers=Numbers.of("a8w8", limits), target="tflite-micro")  # as the error says
    assert micro.wrong(KERNELS["tflm"](micro.content), "tflm", 5) == 0
    assert "EXP" in [o.code for o in read_net(micro.content).operators if o.outputs[0].dtype == "float32"]


@model(states={"h": "h_next"})
def one_step(x=Input(1, 3), h=Input(1, 3), W=Param(3, 3, fill=uniform(-1, 1))):
    after = 0.9 * h + tanh(linear(x, W))
    return {"y": sigmoid(after), "h_next": after}


def in_numbers(source: Any, numbers: str, data: Mapping[str, Array], folder: Path) -> Net:
    """Compile a model that is one step; integers have the ranges of ``data``."""
    path = folder / "ranges.json"
    path.write_text(json.dumps(lstmc.compile(source, backend="tflite").ranges(data).as_json()))
    return lstmc.compile(source, backend=TfliteBackend().with_options({"numbers": numbers, "ranges": str(path)}))


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_model_that_is_one_step_has_integers_to_the_bit(numbers: str, tmp_path: Path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(50, 1, 3)).astype(np.float32)}
    net = in_numbers(one_step, numbers, data, tmp_path)
    inputs = read_net(net.artifact.files[net.artifact.net]).inputs
    assert {name: tensor.dtype for name, tensor in inputs.items()} == {
        "x": "int16" if numbers == "a16w8" else "int8",
        "h": "int8" if numbers == "a8w8" else "int16",
    }
    assert net.verify(on=["tflite", "tflite-reference", "tflm"])


def of_weights(*shape: int) -> Param:
    return Param(*shape, fill=uniform(-2, 2))


@model(states={"s": "s_next"})
def stacked(x=Input(1, 16), s=Input(2, 1, 16), W=of_weights(48, 16), U=of_weights(48, 16)):  # type: ignore[no-untyped-def]
    """An LSTM as published ones are: one state with h and a large c, and gates that saturate."""
    h, c = s[0], s[1]
    i, g, o = split(linear(x, W) + linear(0.25 * h, U), 3, axis=1)
    after = c + sigmoid(i) * tanh(g)
    y = sigmoid(o) * tanh(after)
    return {"y": y, "s_next": stack([y, after])}


def streamed_error(net: Net, data: Mapping[str, Array]) -> float:
    """The mean error of y over a stream, each net with its own states, in LiteRT."""
    exact = lstmc.compile(stacked, backend="tflite")
    with exact.stream(on="interpreter") as wanted, net.stream(on="tflite-cpu") as found:
        pairs = [(wanted({"x": x})["y"], found({"x": x})["y"]) for x in data["x"]]
    return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))


def test_no_numbers_are_spent_where_gates_saturate(tmp_path: Path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(60, 1, 16)).astype(np.float32)}
    net = in_numbers(stacked, "a8w8", data, tmp_path)
    rounding = Numbers.of("a8w8", dict.fromkeys(net.ranges(data).values, (-30.0, 30.0))).rounding(net.compiled)
    assert rounding is not None
    graph, reaches = net.compiled.expanded, dict[str, list[float]]()
    for node in graph:
        if (grid := rounding.grid(Ref(node.name))) is not None:
            reaches.setdefault(node.op.name, []).append(grid.scale * (grid.high - grid.zero))
    assert sorted(reaches["add"]) == pytest.approx([3.12, 6.24, 6.24, 30], rel=0.01)  # g, i, o, and c: a state
    assert sorted(reaches["linear"]) == pytest.approx([30] * 6, rel=0.01)  # 6.24 + 30 is more than was measured


def test_a_sum_of_huge_values_runs_where_its_reader_saturates(tmp_path: Path) -> None:
    @model(states={"h": "h_next"})
    def huge(x=Input(1, 4), h=Input(1, 4)):  # type: ignore[no-untyped-def]
        return {"y": sigmoid(x + tanh(h)), "h_next": 0.5 * h + tanh(x)}

    data = {"x": 1e5 * np.random.default_rng(0).uniform(-1, 1, size=(20, 1, 4)).astype(np.float32)}
    assert in_numbers(huge, "a8w8", data, tmp_path).verify(on=["tflite", "tflm"])


@pytest.mark.parametrize(
    ("sizes", "result"), [((1e4, 1e4), 8.0), ((300, 1), 1.0), ((1e-3, 1e-3), 1.0), ((1e-3, 1), 9.0)]
)
def test_scales_that_xnnpack_leaves_to_litert(sizes: tuple[float, float], result: float) -> None:
    @model(states={"h": "h_next"})
    def far(x=Input(1, 40), h=Input(1, 40)):  # type: ignore[no-untyped-def]
        return {"sum": x + h, "product": x * h, "h_next": tanh(h)}

    limits = dict(zip(("x", "h"), ((-size, size) for size in sizes), strict=True))
    limits |= dict.fromkeys(("sum", "product"), (-result, result)) | {"h_next": (-1.0, 1.0)}
    net = lstmc.compile(far, backend=TfliteBackend(numbers=Numbers.of("a8w8", limits)))
    assert net.verify(on=["tflite", "tflite-reference", "tflm"])


@pytest.mark.parametrize("draw", [11, 12, 18])
def test_operators_of_any_number_of_elements_and_any_scales(draw: int) -> None:
    """Scales that are powers of two make many ties, and have kernels apart."""
    rng = np.random.default_rng([20, draw])
    n = int(rng.integers(2, 80))

    @model(states={"h": "h_next"})
    def elements(x=Input(1, n), h=Input(1, n)):  # type: ignore[no-untyped-def]
        most = maximum(x, h)
        sums = {"sum": x + h, "less": x - h, "plus": most + 0.7, "from": 1.3 - x, "size": abs(h)}
        products = {"product": x * h, "half": 0.3 * most, "square": x * x}
        return {**sums, **products, "most": most, "sigmoid": sigmoid(x), "tanh": tanh(h), "h_next": relu(x)}

    names = [node.name for node in lstmc.compile(elements, backend="tflite").compiled.expanded]
    for numbers in NUMBERS:
        ends = [10 ** rng.uniform(-1, 1, 2) if draw % 2 else [2.0 ** rng.integers(-4, 5)] * 2 for _ in names]
        limits = {name: (-low, high) for name, (low, high) in zip(names, ends, strict=True)}
        net = lstmc.compile(elements, backend=TfliteBackend(numbers=Numbers.of(numbers, limits)))
        assert net.verify(on=["tflite", "tflite-reference", "tflm"]), (numbers, limits)


def test_a_product_for_which_litert_ends_the_process_is_refused_with_the_way_out() -> None:
    limits = {"x": (-1e6, 1e6), "linear_W": (-1.0, 1.0), "h": (-2.0, 2.0), "h_next": (-2.0, 2.0), "y": (0.0, 1.0)}
    limits |= dict.fromkeys(("mul_h", "h/scaled", "scaled_h", "tanh", "affine"), (-1.0, 1.0))
    names = [node.name for node in lstmc.compile(one_step, backend="tflite").compiled.expanded]
    limits = dict.fromkeys(names, (-1.0, 1.0)) | limits
    with pytest.raises(BackendError, match="LiteRT ends the process from 256 on") as refused:
        lstmc.compile(one_step, backend=TfliteBackend(numbers=Numbers.of("a8w8", limits)))
    assert "take a16w8" in str(refused.value)
    net = lstmc.compile(one_step, backend=TfliteBackend(numbers=Numbers.of("a16w8", limits)))
    assert net.verify(on=["tflite", "tflm"])


def test_states_of_16_bits_mend_a_state_of_values_of_several_sizes(tmp_path: Path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(60, 1, 16)).astype(np.float32)}
    exact, errors = lstmc.compile(stacked, backend="tflite"), dict[str, float]()
    for numbers in NUMBERS[::2]:
        errors[numbers] = streamed_error(in_numbers(stacked, numbers, data, tmp_path), data)
        (y,) = exact.verify_numbers(f"litert-{numbers}", data).outputs
        assert y.mean == pytest.approx(errors[numbers], rel=1e-5)  # foretold to the bit
    assert errors["a8w8-s16"] < 0.4 * errors["a8w8"], errors
    advice = exact.verify_numbers("litert-a8w8", data).advice
    assert any(line.startswith("states in 16 bits (a8w8-s16): ") for line in advice), advice
