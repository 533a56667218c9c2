"""TFLite nets: each computes its model, step after step, in LiteRT and in TFLite Micro."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, conv, dims, linear, model, relu, scan, sigmoid, split, tanh
from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Ref
from lstmc.manifest import Manifest, parse_manifest
from lstmc.numerics.tflite import Requantize
from lstmc.ops import Array, Conv, Elu, Precomputed, Softplus
from lstmc.ops import Input as InputOp
from lstmc.ops import Param as ParamOp
from lstmc.pipeline import compile_graph
from lstmc.testing import SeededDraw, operands_of
from lstmc.verification.conditioning import relative_gap
from lstmc.verification.differential import check
from lstmc.weights import random_weights
from lstmc_tflite import TfliteBackend
from lstmc_tflite.lowerings import LOWERINGS
from lstmc_tflite.net import ALIGNMENT, read_net, schema
from lstmc_tflite.runtime import FLOATS, KERNELS, LiteRT, Micro
from tests.backends.lstmc_tflite.streams import CELLS, Stream, streaming_lstm
from tests.on_demand.fuzz.tflite_models import tried
from tests.quick_sample import one_in

CLOSE = 4e-6  # of a step to the interpreter in float64, in float32
T, N, D, H = dims("T N D H")
BACKEND = TfliteBackend()


LEAST = 8  # steps before float32 itself has lost a stream


@pytest.mark.parametrize("name", one_in(14, CELLS, 7))
def test_every_cell_computes_a_stream_of_carried_steps(name: str) -> None:
    stream = Stream(name)
    nets: dict[str, LiteRT | Micro] = {kernels: LiteRT(stream.content, kernels) for kernels in KERNELS}
    gaps, steps = stream.gaps({**nets, "micro": Micro(stream.content)}, 200)
    own = gaps.pop("float32")
    assert max(gaps.values()) <= max(CLOSE, 6 * own), (gaps, own)
    assert steps >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("place", ["tflite", "tflm"])
def test_a_verified_net_compares_outputs_and_what_is_inside(place: str) -> None:
    report = lstmc.compile("lstm", T=4, N=1, D=3, H=4, backend="tflite").verify(on=[place])
    assert report
    (report,) = report.reports
    assert {each.kind for each in report.differences} >= {"output", "blob"}
    assert len(report.differences) >= (20 if place == "tflite" else 3)


def test_a_wrong_weight_of_the_file_is_a_difference() -> None:
    net = lstmc.compile("gru", T=2, N=1, D=3, H=4, backend="tflite")
    other = lstmc.compile("gru", T=2, N=1, D=3, H=4, backend="tflite", seed=5)
    for place in ("tflite", "tflm"):
        assert net.verify(on=[place])
    mixed = TfliteBackend().emit(other.compiled, {**net.weights, "gru/U": other.weights["gru/U"]})
    for executor in BACKEND.executors()[:3]:
        report = check(net.compiled, mixed, net.weights, executor)
        assert any(not each.passed for each in report.differences)


def sampled(weights: bool) -> list[tuple[Graph, dict[str, Array]]]:
    """Graphs of one op each. What follows an op's first operand is an input, or one of the ``weights``."""
    graphs = []
    for kind in (*LOWERINGS, Softplus, Elu):
        for seed in range(3 if kind not in (Precomputed, Requantize) and (weights or kind is not Conv) else 0):
            sample, inputs, refs = kind.sample(SeededDraw(seed)), dict[str, Array](), list[Ref]()
            b, domains = Builder(kind.name), sample.op.domains(*sample.operands)
            for i, (type_, array) in enumerate(zip(sample.operands, operands_of(sample, seed), strict=True)):
                if weights and i > 0:
                    refs += b.add(ParamOp(type_.shape), names=(f"w{i}",))
                else:
                    refs += b.add(InputOp(type_.shape, None, domains[i]), names=(f"x{i}",))
                    inputs[f"x{i}"] = array
            results = b.add(sample.op, *refs, names=("y",))
            graphs.append((b.finish([(f"y{i}", ref) for i, ref in enumerate(results)]), inputs))
    return graphs


@pytest.mark.slow
@pytest.mark.parametrize("weights", [False, True])
def test_every_op_computes_in_both_runtimes_what_it_means(weights: bool) -> None:
    for graph, inputs in sampled(weights):
        params = random_weights(graph)
        compiled = compile_graph(graph, BACKEND)
        content, manifest = files(compiled, params)
        wanted = forward(graph, inputs, params).outputs
        power = graph.name == "power" and b"y/number" in content  # POW, which TFLite Micro lacks, or DIV
        for runtime in (LiteRT,) if power else (LiteRT, Micro):
            blobs = runtime(content).forward(manifest.fed(inputs), manifest.output_blobs)
            for name, place in manifest.outputs.items():
                assert relative_gap(place.read(blobs), wanted[name]) < 1e-5, (graph, runtime)


def files(compiled: Compiled, params: Mapping[str, Array]) -> tuple[bytes, Manifest]:
    artifact = BACKEND.emit(compiled, params)
    return artifact.files[artifact.net], parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])


@pytest.mark.slow
def test_random_models_compute_in_both_runtimes_what_they_mean(pytestconfig: pytest.Config) -> None:
    seed = int(pytestconfig.option.hypothesis_seed)
    for numbers in ("float32", "a8w8"):
        outcomes, failures = tried([1051, *range(seed, seed + 8)], numbers)  # 1051: a sum whose terms cancel
        assert not failures
        assert outcomes["tflite-cpu: run"] == outcomes["tflite-reference: run"] > 0, outcomes
        assert not [each for each in outcomes if each.startswith("tflite-") and not each.endswith("run")]


def test_a_gate_is_a_product_of_its_own_and_a_state_is_written_once(tmp_path: Path) -> None:
    net = lstmc.compile("gru", T=20, N=1, D=16, H=32, backend="tflite")
    s = schema()
    read = s.Model.GetRootAs(net.artifact.files["gru.tflite"])
    graph = read.Subgraphs(0)
    codes = [read.OperatorCodes(graph.Operators(i).OpcodeIndex()).BuiltinCode() for i in range(graph.OperatorsLength())]
    assert codes.count(s.BuiltinOperator.FULLY_CONNECTED) == 6
    assert len(codes) == 16
    assert s.BuiltinOperator.SPLIT not in codes
    signature = read.SignatureDefs(0)
    assert signature.SignatureKey() == b"step"
    assert [signature.Inputs(i).Name() for i in range(2)] == [b"x", b"gru/h_in"]
    assert [signature.Outputs(i).Name() for i in range(3)] == [b"y", b"h_T", b"gru/h_out"]
    assert len({signature.Outputs(i).TensorIndex() for i in range(3)}) == graph.OutputsLength() == 1
    assert net.artifact.files == lstmc.compile("gru", T=20, N=1, D=16, H=32, backend="tflite").artifact.files


def test_data_of_a_file_are_aligned() -> None:
    content = lstmc.compile("lstm", T=2, N=1, D=3, H=5, backend="tflite").artifact.files["lstm.tflite"]
    read = schema().Model.GetRootAs(content)
    whole = np.frombuffer(content, np.uint8)
    sizes = []
    for i in range(read.BuffersLength()):
        if (size := read.Buffers(i).DataLength()) > 0:
            data = read.Buffers(i).DataAsNumpy()
            start = data.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            assert start % ALIGNMENT == 0
            sizes.append(size)
    assert len(sizes) > 8


def test_a_net_is_run_from_its_files(tmp_path: Path) -> None:
    net = lstmc.compile("gru", T=2, N=1, D=3, H=4, backend="tflite")
    net.save(tmp_path)
    x = np.random.default_rng(0).normal(size=(6, 1, 1, 3)).astype(np.float32)
    with lstmc.load(tmp_path / "gru.tflite").stream() as step, net.stream(on="interpreter") as exact:
        for t in range(6):
            assert relative_gap(step(x=x[t])["y"], exact(x=x[t])["y"]) < CLOSE


def test_what_cannot_be_written_is_refused_at_its_line() -> None:
    @cell
    def computed(x=Input(N, 4, 5, 5), h=State(1, 4, 3, 3)):
        return conv(x, h), {"h": h}

    @model
    def net(X=Input(T, N, 4, 5, 5)):
        y, _ = scan(computed(), X)
        return y

    with pytest.raises(BackendError, match="conv with a computed kernel has no form in TFLite") as refused:
        lstmc.compile(net, T=2, N=1, backend="tflite")
    assert 'return conv(x, h), {"h": h}' in str(refused.value)


def test_a_convolution_of_groups_with_several_channels() -> None:
    @cell
    def grouped(x=Input(N, 4, 5, 5), *, W=Param(6, 2, 3, 3), b=Param(6)):
        return conv(x, W, b, group=2), {}

    @model
    def net(X=Input(T, N, 4, 5, 5)):
        y, _ = scan(grouped(), X)
        return y

    assert lstmc.compile(net, T=2, N=2, backend="tflite").verify(on=["tflite", "tflite-reference", "tflm"])


def test_unequal_pieces_and_a_bias_of_a_gate() -> None:
    @cell
    def uneven(x=Input(N, D), h=State(N, H), *, W=Param(5, D), U=Param(5, H), b=Param(5)):
        u, v = split(linear(x, W, b) + linear(h, U), (3, 2))
        return sigmoid(v), {"h": tanh(u)}

    @model
    def net(X=Input(T, N, 2)):
        y, _ = scan(uneven(H=3), X)
        return y

    assert lstmc.compile(net, T=2, N=2, backend="tflite").verify(on=["tflite", "tflm"])


@model
def slow_average(X=Input(T, N, 3)):
    @cell
    def average(x=Input(N, 3), h=State(N, 3)):
        h = x / (1 + abs(h))
        return h, {"h": h}

    y, _ = scan(average(), X)
    return y


def test_a_target_refuses_an_operator_at_its_line_with_the_way_out() -> None:
    with pytest.raises(BackendError) as refused:
        lstmc.compile(slow_average, T=2, N=1, target="ethos-u")
    text = str(refused.value)
    assert "found DIV: Vela leaves it to the CPU" in text
    assert "h = x / (1 + abs(h))" in text
    assert "target tflite-micro runs it beside the NPU" in text
    assert lstmc.compile(slow_average, T=2, N=1, target="tflite-micro").verify(on=["tflm"])  # as the error says
    with pytest.raises(BackendError, match="expected at most 1, found 2 rows"):
        lstmc.compile("gru", T=2, N=2, D=3, H=4, target="edgetpu")


def test_the_linter_reads_any_file(tmp_path: Path) -> None:
    lstmc.compile(slow_average, T=2, N=1, backend="tflite").save(tmp_path)
    path = tmp_path / "slow_average.tflite"
    assert not BACKEND.lint(path, "tflite").violations
    found = [(each.type, each.found) for each in BACKEND.lint(path, "ethos-u").violations]
    assert ("DIV", "DIV") in found
    assert ("ABS", "float32") in found
    kinds = {layer.type for layer in BACKEND.layers(path.read_bytes())}
    assert kinds == {"ABS", "ADD", "DIV", "MUL"}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BackendError, match="expected a TFLite net"):
        BACKEND.lint(path, "tflite")


def test_a_value_and_a_view_of_it_do_not_share_what_litert_writes_over() -> None:
    @cell
    def viewed(x=Input(N, D), h=State(N * D)):
        s = 1 - relu(x)
        rest = 1 - s.reshape(N * D)
        return tanh(s.reshape(N, 1, D)), {"h": tanh(rest)}

    @model
    def net(X=Input(T, N, 3)):
        y, last = scan(viewed(), X)
        return {"y": y, "h": last["h"]}

    made = lstmc.compile(net, T=2, N=2, backend="tflite")
    content, manifest = files(made.compiled, {})
    inputs = {node: np.random.default_rng(0).normal(size=made.inputs[node]) for node in made.inputs}
    wanted = forward(made.compiled.expanded, inputs, {}).outputs
    for kernels in KERNELS:
        blobs = LiteRT(content, kernels).forward(manifest.fed(inputs), manifest.output_blobs)
        for name, place in manifest.outputs.items():
            assert relative_gap(place.read(blobs), wanted[name]) < CLOSE, (kernels, name)


@pytest.mark.slow
def test_what_the_page_shows() -> None:
    page = Path(__file__).parents[3] / "docs" / "tflite.md"
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.REPORT_NDIFF)
    assert found.attempted >= 5
    assert found.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("numbers", ["float32", "a8w8-s16"])
def test_the_program_in_python_streams_as_the_net_does(numbers: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(9, 1, 3)).astype(np.float32)
    net = streaming_lstm(numbers, x, tmp_path)
    net.save(tmp_path)
    (program, text), *_ = net.example("python").items()
    (tmp_path / program).write_bytes(text)
    lines = "".join(" ".join(map(repr, map(float, step.ravel()))) + "\n" for step in x)
    ended = subprocess.run(
        [sys.executable, tmp_path / program], input=lines, capture_output=True, text=True, check=True
    )
    printed = np.array([line.split() for line in ended.stdout.splitlines()], float)
    with net.stream() as step:
        wanted = [np.concatenate([step(x=each[None])[name].ravel() for name in ("y",)]) for each in x]
    assert np.abs(printed[:, :4] - wanted).max() < 1e-6


def test_the_program_in_cpp_registers_just_the_operators_of_the_net() -> None:
    files = lstmc.compile("gru", T=20, N=1, D=16, H=32, backend="tflite").example("cpp")
    program, data = (files[name].decode() for name in ("gru_stream.cc", "gru_data.h"))
    registered = re.findall(r"resolver\.Add(\w+)\(\)", program)
    assert registered == ["Add", "FullyConnected", "Logistic", "Mul", "Sub", "Tanh"]
    assert f"MicroMutableOpResolver<{len(registered)}>" in program
    (arena,) = map(int, re.findall(r"uint8_t arena\[(\d+)\]", program))
    assert 4_000 < arena < 7_000
    assert "uint8_t kept[128]" in program
    assert "constexpr State states[] = {{1, 0}, {-1, -1}};" in program
    content = bytes(int(byte, 16) for byte in re.findall(r"0x(\w\w)", data))
    assert content == lstmc.compile("gru", T=20, N=1, D=16, H=32, backend="tflite").artifact.files["gru.tflite"]
    with pytest.raises(BackendError, match="expected python or cpp"):
        lstmc.compile("gru", T=20, N=1, D=16, H=32, backend="tflite").example("rust")


def test_weights_in_float16_are_half_of_the_file_and_what_the_interpreter_rounds() -> None:
    half = TfliteBackend().with_options({"numbers": "fp16"})
    net = lstmc.compile("lstm", T=20, N=1, D=32, H=64, backend=half)
    floats = lstmc.compile("lstm", T=20, N=1, D=32, H=64, backend=BACKEND)
    content, whole = (each.artifact.files["lstm.tflite"] for each in (net, floats))
    assert len(content) < 0.6 * len(whole)
    for place in ("tflite", "tflite-reference"):
        (report,) = net.verify(on=[place]).reports
        assert report.passed
        outputs = [each for each in report.differences if each.kind == "output"]
        assert {each.tolerance for each in outputs} == {FLOATS}
    halved = [o for o in read_net(content).operators if o.code == "DEQUANTIZE"]
    assert {o.inputs[0].dtype for o in halved} == {"float16"}
    executor = half.executors()[0]
    assert not check(net.compiled, floats.artifact, net.weights, executor).passed  # weights that were not rounded
    with pytest.raises(BackendError, match="target tflite-micro has no weights in float16: expected target tflite"):
        lstmc.compile("lstm", T=20, N=1, D=32, H=64, backend=half, target="tflite-micro")
