"""What low precision makes of a net: against ONNX Runtime's own quantiser, and by what must be so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import lstmc
from lstmc import Input, Param, State, cells, dims, exp, linear, maximum, tanh, xavier
from lstmc.api.low_precision import StreamedModel
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.files.output import write_files
from lstmc.interp import forward
from lstmc.ir import Graph, Ref
from lstmc.numerics import effects
from lstmc.numerics.calibration import PROGRAM, calibration_for, run_quantised
from lstmc.numerics.device import Grid, device_names, device_of, read_device
from lstmc.numerics.effects import NumbersReport
from lstmc.numerics.rounding import DeviceRounding, layer_type, short, short_affine, to_format

T, D, H = 80, 6, 8
N = dims("N")


@pytest.fixture(autouse=True)
def _few_steps_for_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "CAUSE_STEPS", 1)


def correlated(steps: int, seed: int = 0) -> np.ndarray:
    """A stream [T, 1, D] of a process that remembers: x' = 0.9 x + noise."""
    rng = np.random.default_rng(seed)
    x, state = np.zeros((steps, 1, D), np.float32), rng.standard_normal((1, D))
    for t in range(steps):
        state = 0.9 * state + np.sqrt(1 - 0.81) * rng.standard_normal((1, D))
        x[t] = state
    return x


@cache
def shapes_of(cell: str) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in lstmc.compile(cell, T=1, N=1, D=D, H=H).weights.items()}


def net(cell: str = "gru_reset_after", slow: float = 0.0, **options: object) -> lstmc.Net:
    rng = np.random.default_rng(5)
    weights = {name: rng.standard_normal(shape) / np.sqrt(shape[-1]) for name, shape in shapes_of(cell).items()}
    if slow:
        weights[f"{cell}/b_x"][H : 2 * H] += slow
    return lstmc.compile(cell, T=1, N=1, D=D, H=H, weights=weights, **options)  # type: ignore[arg-type]


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_grid_has_zero_and_is_its_own(symmetric: bool) -> None:
    grid = Grid.of((-0.3, 1.7), "int8", read_device("int8"), symmetric)
    x = np.linspace(-1, 2, 1001)
    stored = grid.rounded(x)
    assert (grid.rounded(stored) == stored).all()
    assert (grid.rounded(np.zeros(1)) == 0).all()
    assert len(np.unique(stored)) <= 256
    inside = (x > -0.3) & (x < 1.7)
    assert np.abs(stored - x)[inside].max() <= grid.scale * 0.5000001
    assert grid.clipped(x) == np.count_nonzero(np.abs(stored - x) > grid.scale / 2 * 1.0001)


def test_floating_point_of_16_bits_is_that_of_torch() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 1e3
    assert (to_format(x, "bf16") == torch.tensor(x).to(torch.bfloat16).to(torch.float32).numpy()).all()
    assert (to_format(x, "fp16") == torch.tensor(x).to(torch.float16).to(torch.float32).numpy()).all()


def test_a_short_multiplier_is_a_leak() -> None:
    assert short(1 / 255, 7) == 1 / 256
    assert short(1.0, 7) == 1.0
    assert short(0.75, 7) == 0.75
    assert short(0.999, 7) == 1.0  # not 127 / 128: 127 is not taken
    assert short(300.3, 7, 0) == 300
    factors, biases = short_affine(np.array([-1.0, 0.3]), np.array([1.0, 0.1]), 1 / 255, 0.0039, 7)
    assert list(factors) == [-64 / 2**6, 77 / 2**8]  # each with a shift of its own
    assert biases == pytest.approx([1 / 0.0039, 0.1 / 0.0039], abs=0.01)


@pytest.mark.parametrize("name", device_names())
def test_a_device_has_its_rules_with_their_sources(name: str) -> None:
    device = read_device(name)
    assert device.name == name
    assert device.about
    assert all(rule.text and rule.source for rule in device.rules)
    assert device.rules


@pytest.mark.parametrize("name", ["int8", "a8w8", "a16w8", "rknn-int8", "tpu-mlir-int8", "onnxruntime-a8w8"])
def test_every_value_is_on_its_grid(name: str) -> None:
    device = read_device(name)
    options = {"target": device.target or "flat", "form": device.form, "step": True}
    compiled = net("lstm", **options)
    ranges = compiled.ranges({"x": correlated(T)})
    graph = compiled.compiled.expanded
    named = {graph.value_name(ref): ref for ref in forward(graph, inputs(compiled), compiled.weights).values}
    limits = {named[each.name]: (each.least, each.greatest) for each in ranges if each.name in named}
    rounding = DeviceRounding(device, graph, limits)
    run = forward(graph, inputs(compiled), compiled.weights, rounding=rounding)
    assert len(rounding.sites) > 10
    for ref in rounding.sites:
        grid = rounding.grid(ref)
        assert grid is not None, graph.value_name(ref)
        integers = run.values[ref] / grid.scale
        assert np.abs(integers - np.rint(integers)).max() < 1e-3
        assert np.abs(integers).max() <= 2 ** (16 if "a16" in name else 8)


def test_products_that_only_a_sum_reads_have_its_scale() -> None:
    """As in TPU-MLIR: the cell of an LSTM is a sum of two products; that of a GRU is none, and adds n."""
    device = read_device("tpu-mlir-int8")
    for cell, joined in (("lstm", {"c", "mul_f_c_prev", "mul_i_g"}), ("gru", {"h"})):
        compiled = net(cell, target=device.target, step=True)
        graph = compiled.compiled.expanded
        run = forward(graph, inputs(compiled), compiled.weights)
        limits = {ref: (float(array.min()), float(array.max())) for ref, array in run.values.items()}
        rounding = DeviceRounding(device, graph, limits)
        total = next(ref for ref in limits if graph.value_name(ref) in ("lstm/t000/c", "gru/t000/h"))
        scales = {graph.value_name(ref): grid.scale for ref in limits if (grid := rounding.grid(ref)) is not None}
        alike = {name.rpartition("/")[2] for name, scale in scales.items() if scale == scales[graph.value_name(total)]}
        assert joined <= alike
        assert not any(name.startswith("mul") for name in alike - joined)


def deployed(name: str) -> tuple[Graph, dict[str, Ref]]:
    """The graph of a cell's step for TPU-MLIR, and its values by name."""
    graph = net(name, target="tpu-mlir", step=True).compiled.expanded
    return graph, {graph.value_name(ref): ref for node in graph for ref in [Ref(node.name)]}


@pytest.mark.parametrize(("least", "format"), [(1 / 63, "int8"), (1 / 65, "fp16")])
def test_a_sum_of_ranges_far_apart_is_in_fp16(least: float, format: str) -> None:
    """As in TPU-MLIR, where it also reads the net's inputs, as the state of a GRU, before they are rounded."""
    graph, named = deployed("gru")
    limits = dict.fromkeys(named.values(), (-1.0, 1.0)) | {named["gru/t000/mul_z_h_prev"]: (-least, least)}
    rounding = DeviceRounding(read_device("tpu-mlir-int8"), graph, limits)
    assert rounding.format_of(named["gru/t000/h"]) == format
    assert (rounding.grid(named["gru/t000/h"]) is None) == (format == "fp16")
    sums = graph.node(named["gru/t000/h"].node)
    terms = [np.full((1, H), each) for each in (0.30001, 0.001)]
    (total,) = rounding.results(graph, sums, terms, sums.op.eval(*terms))
    assert (np.abs(total - 0.30101) < 2e-4).all() == (format == "fp16")


def test_a_part_has_the_range_of_the_whole_or_its_own() -> None:
    """In RKNN the pieces of a Slice have ranges of their own, and what it cuts that of all; in others they share it."""
    compiled = net("gru", target="rknn", step=True)
    graph = compiled.compiled.expanded
    cut = next(node for node in graph if node.name.endswith("x_z_r"))
    whole, pieces = graph.args(cut.name)[0], [Ref(cut.name, 0), Ref(cut.name, 1)]
    limits = {whole: (-9.0, 9.0), pieces[0]: (-1.0, 2.0), pieces[1]: (-4.0, 1.0)}
    for name, spans in (("rknn-int8", [6, 3, 5]), ("a8w8", [18, 18, 18])):
        rounding = DeviceRounding(read_device(name), graph, limits)
        grids = [rounding.grid(ref) for ref in (whole, *pieces)]
        assert [grid.scale * 255 for grid in grids if grid is not None] == pytest.approx(spans)


def test_a_constant_for_tpu_mlir_is_no_product_with_0() -> None:
    """Which it computes wrongly in int8; what is added still hides the product."""
    compiled = lstmc.compile("gru_blocks", T=1, N=1, D=4, G=2, V=2, target="tpu-mlir", step=True)
    run = forward(compiled.compiled.expanded, inputs(compiled), compiled.weights)
    named = {compiled.compiled.expanded.value_name(ref): array for ref, array in run.values.items()}
    (name,) = (name for name in named if name.endswith("/ones"))
    assert (named[name] == 1).all()
    assert 0 < named[f"{name}/scale"].max() < 1e-20


def test_scales_of_tpu_mlir_that_follow_each_other_are_one() -> None:
    @lstmc.cell
    def chain(x=Input(N, D), h=State(N, D), *, a=Param(D, fill=lstmc.uniform(0.5, 1))):  # type: ignore[no-untyped-def]
        return h, {"h": 1 - (0.3 + tanh(x + h) * a) * a}

    written = lstmc.compile(chain, T=1, N=1, target="tpu-mlir")
    report = written.verify_numbers("tpu-mlir-int8", {"x": correlated(9)})
    scales = [node.name for node in written.compiled.expanded if layer_type(node.op) == "Scale"]
    assert len(scales) > 1
    assert {each.name for each in report.guilty} & {*scales} == {"chain/t000/h"}


@pytest.mark.parametrize(("per", "kept"), [("row", 24), ("slice", 2), ("tensor", 1)])
def test_a_matrix_has_a_scale_for_each_row_or_piece_or_one(tmp_path: Path, per: str, kept: int) -> None:
    """W_h of a GRU, whose product a Slice cuts into r and z, and n."""
    device = read_device(written(tmp_path, f'base = "int8"\n[weights]\nper = "{per}"\n'))
    compiled = net(target="tpu-mlir", step=True)
    graph = compiled.compiled.expanded
    rounding = DeviceRounding(device, graph, {})
    product = next(node for node in graph if node.name.endswith("linear_W_h"))
    matrix = forward(graph, inputs(compiled), compiled.weights).values[graph.args(product.name)[1]]
    integers, steps = rounding.integers(matrix, product)
    assert len(np.unique(np.broadcast_to(steps, matrix.shape))) == kept
    assert np.abs(integers * steps - matrix).max() <= steps.max() / 2 * 1.0001


def inputs(compiled: lstmc.Net) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(shape) * 0.3 for name, shape in compiled.inputs.items()}


def test_numbers_of_no_loss_have_no_error(tmp_path: Path) -> None:
    path = written(tmp_path, 'base = "int8"\n[values]\nformat = "float"\n[weights]\nformat = "float"\n')
    report = net(target="flat").verify_numbers(path, {"x": correlated(9)})
    assert [each.largest for each in report.outputs] == [0.0, 0.0]
    assert not any(report.outputs[0].other_choices)
    assert not report.states[0].stalled


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "slow"),
    [(8, 4.0), (16, 0.0), *(pytest.param(*pair, marks=pytest.mark.exhaustive) for pair in ((8, 0.0), (16, 4.0)))],
)
def test_the_error_is_that_of_onnx_runtime(tmp_path: Path, bits: int, slow: float) -> None:
    compiled = net(slow=slow, target="onnx", form="unrolled", step=True)
    data, test = correlated(T, 1), correlated(T, 2)
    streamed = StreamedModel.from_data(
        compiled.source,
        compiled.backend,
        replace(compiled.options, target=compiled.target),
        compiled.weights,
        {"x": data},
    )
    write_files(tmp_path, streamed.calibration(calibration_for("onnxruntime"), T))
    subprocess.run([sys.executable, tmp_path / "quantize.py", "--bits", str(bits)], check=True, capture_output=True)
    (written_net,) = (path.name for path in tmp_path.glob("*.quantized.onnx"))
    names = [written_net.replace(".quantized", ""), written_net]
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(tmp_path / written_net).graph.node}
    sessions = [onnxruntime.InferenceSession(str(tmp_path / name)) for name in names]
    (state,) = compiled.compiled.states or ()
    states = [np.zeros((1, H), np.float32)] * 2
    errors, others = [], []
    for row in test:
        results = []
        for which, session in enumerate(sessions):
            y, states[which] = session.run(["y", state.after], {"x": row[None], state.before: states[which]})
            results.append(y)
        errors.append(np.abs(results[0] - results[1]).mean())
        others.append(float(results[0].argmax() != results[1].argmax()))
    report = compiled.verify_numbers(f"a{bits}w8", {"x": test}, calibration={"x": data}, reader="onnxruntime")
    assert report.device.name == f"onnxruntime-a{bits}w8"
    assert report.reader[0].error.mean == pytest.approx(np.mean(errors), rel=1e-3)
    assert report.reader[0].error.by_step == pytest.approx(errors, rel=1e-2, abs=1e-6)
    assert list(report.reader[0].error.other_choices) == others
    assert np.mean(report.outputs[0].other_choices) == pytest.approx(np.mean(others), abs=3 / T)
    assert report.reader[0].values <= 2**bits
    predicted = report.outputs[0].mean
    assert 1 / 1.2 < predicted / np.mean(errors) < 1.2
    assert report.reader[0].ratio == pytest.approx(predicted / np.mean(errors), rel=1e-2)


@pytest.mark.slow
def test_the_prediction_has_the_ranges_of_the_quantisers_own_steps() -> None:
    data = np.concatenate([correlated(T, seed) for seed in range(40)], axis=1)  # of more steps than it takes
    data[:, 1] *= 10
    report = net(target="onnx", form="unrolled", step=True).verify_numbers(
        "a8w8", {"x": correlated(T, 50)}, calibration={"x": data}, reader="onnxruntime"
    )
    assert 1 / 1.2 < report.reader[0].ratio < 1.2


@lstmc.cell
def odd(x=Input(N, D), m=State(N, H), *, W=Param(H, D, fill=xavier()), a=Param(H)):
    """A maximum and a sum that only what moves elements reads, and a function of parameters."""
    z = linear(x, W)
    m = maximum(0.8731 * m, z)
    total = tanh((exp(z - m) * z).sum(axis=1, keepdims=True))
    return exp(a) * z * total, {"m": m}


@pytest.mark.slow
def test_the_rules_of_onnx_runtime_beside_products() -> None:
    """What moves elements rounds nothing; functions of parameters are rounded."""
    compiled = lstmc.compile(CellModel(odd), target="onnx", form="unrolled", step=True, N=1)
    weights = {
        name: array + 0.3 * np.random.default_rng(1).standard_normal(array.shape)
        for name, array in compiled.weights.items()
    }
    compiled = lstmc.compile(CellModel(odd), target="onnx", form="unrolled", step=True, N=1, weights=weights)
    data, calibration = ({"x": correlated(40, seed)} for seed in (2, 1))
    report = compiled.verify_numbers("a8w8", data, calibration=calibration, reader="onnxruntime")
    assert report.reader[0].ratio == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("numbers", "reader", "text"),
    [
        ("int8", "rkn", "argument reader: no quantiser is known for it: did you mean rknn"),
        ("bf16", "rknn", "its quantiser does not make bf16: expected one of rknn-fp16, rknn-int16"),
        ("tpu-mlir-int8", "rknn", "its quantiser does not make tpu-mlir-int8: expected one of rknn-fp16"),
    ],
)
def test_numbers_that_a_reader_does_not_make(numbers: str, reader: str, text: str) -> None:
    with pytest.raises(BackendError) as caught:
        device_of(numbers, reader)
    assert text.removeprefix("argument reader") in str(caught.value)


def test_general_numbers_are_a_quantisers_own_form(tmp_path: Path) -> None:
    assert device_of("int8", "rknn").name == "rknn-int8"
    own = written(tmp_path, 'base = "rknn-int8"\n[values]\nheadroom = 0.25\n')
    assert device_of(own, "rknn").values.headroom == 0.25


def test_a_quantiser_that_fails_says_what_it_printed() -> None:
    with pytest.raises(BackendError) as caught:
        run_quantised(
            {PROGRAM: b"print('one')\nraise SystemExit('no such layer')"},
            (Path(sys.executable), {}),
            (),
            {},
            "the tool",
        )
    assert (caught.value.message, caught.value.notes) == (
        "the tool does not quantise or run the net",
        ("one", "no such layer"),
    )


def test_a_slow_state_stalls_in_8_bits_and_advice_mends_it() -> None:
    data = {"x": correlated(T)}
    slow, fast = (net(slow=each, target="flat").verify_numbers("int8", data) for each in (5.0, 0.0))
    assert slow.states[0].stalled > 0.2 > fast.states[0].stalled
    assert slow.states[0].format == "int8"
    assert any(line.startswith("state gru_reset_after/h stalls: ") for line in slow.advice)
    assert slow.outputs[0].by_step[-1] > 2 * slow.outputs[0].by_step[1]
    assert "values in 16 bits" in slow.advice[0]


def test_the_guilty_value_is_the_one_that_is_coarse(tmp_path: Path) -> None:
    path = written(tmp_path, 'base = "int16"\n[values]\nwritten = ["TanH"]\nformat = "int8"\n')
    report = net(target="flat").verify_numbers(path, {"x": correlated(T)})
    assert (report.guilty[0].name, report.guilty[0].kind) == ("gru_reset_after/t000/n", "value")
    assert report.guilty[0].mends > 0.9


@pytest.mark.parametrize("cell", ["gru_reset_after", "lstm"])  # c of an LSTM is read too: its state is a copy
def test_a_state_has_a_format_of_its_own(tmp_path: Path, cell: str) -> None:
    path = written(tmp_path, 'base = "rknn-int8"\n[state]\nformat = "int16"\n')
    compiled, data = net(cell, target="rknn"), {"x": correlated(T)}
    coarse, report = (compiled.verify_numbers(numbers, data) for numbers in ("rknn-int8", path))
    assert report.device.values.format == "int8"
    for state, other in zip(report.states, coarse.states, strict=True):
        assert state.format == "int16"
        assert state.distance < other.distance / 100
        assert state.stalled < other.stalled / 2


def test_what_a_relu_takes_away_is_not_outside_of_its_range() -> None:
    report = net("indrnn", target="rknn").verify_numbers("rknn-int8", {"x": correlated(T)})
    assert all(share < 0.01 for share in report.clipped.values())


def test_sums_that_overflow_are_reported(tmp_path: Path) -> None:
    path = written(tmp_path, 'base = "int16"\naccumulator = 32\n')
    report = net(target="flat").verify_numbers(path, {"x": correlated(T)})
    assert "gru_reset_after/linear_W_x" in report.overflows
    assert any("may overflow: its sums need" in line for line in report.advice)
    assert not net(target="flat").verify_numbers("int8", {"x": correlated(9)}).overflows


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[values]\nformat = 'int9'\n", "values.format: expected "),
        ("[value]\nformat = 'int8'\n", "value"),
        ("base = 'MINE'\n", "its base is itself"),
        ("base = 'x'\n", "unknown numbers 'x'"),
        ("values = \n", "not TOML"),
    ],
)
def test_a_description_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text.replace("MINE", str(tmp_path / "mine.toml")))
    with pytest.raises(BackendError) as caught:
        read_device(path)
    assert told in str(caught.value)


def test_the_command(lstmc: Callable[..., object], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=correlated(20))
    ended = lstmc(*["verify", "--cell", "gru", "-D", "H=4", "--numbers", "rknn-int8", "--data", "x.npz", "--json"])
    assert ended.code == 0, ended.err  # type: ignore[attr-defined]
    told = json.loads(ended.out)  # type: ignore[attr-defined]
    assert [row["output"] for row in told["errors"]] == ["y", "h_T"]
    assert len(told["by_step"]["y"]) == 20
    assert {(row["value"], row["what"]) for row in told["guilty"]} >= {("gru/linear_W_x", "weights"), ("x", "value")}
    alone = lstmc("verify", "--cell", "gru", "--numbers", "int8")
    assert alone.code == 2  # type: ignore[attr-defined]
    assert "expected --data FILE too" in alone.err  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["indrnn", "ugrnn"])
def test_other_cells_are_simulated_in_8_bits(name: str) -> None:
    sizes = {dim: 1 if dim == "N" else 4 for dim in getattr(cells, name).dims}
    cell = lstmc.compile(name, T=1, **sizes, target="flat")
    x = np.random.default_rng(0).standard_normal((10, 1, sizes["D"]))
    report = cell.verify_numbers("int8", {"x": x})
    assert isinstance(report, NumbersReport)
    assert 0 < report.error < 0.5
