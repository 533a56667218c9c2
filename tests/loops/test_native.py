"""Generated layers in this process: outputs and all gradients, other T and N, products without a BLAS, faults."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import Cell, Input, Param, State, cell, dims, dropout, linear, model, scan, sigmoid, sum, tanh, xavier
from lstmc.cells import gru, lstm
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.interp import backward, forward
from lstmc.ir import Graph, Scan
from lstmc.loops.layer import GeneratedScan, GenerateLoops
from lstmc.loops.memory import Product, header
from lstmc.loops.native import FLAGS, cpp_compiler
from lstmc.passes import Dead
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc.verification.native import NativeExecutor, with_native_loops
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from tests.cells.scanned import cell_graph
from tests.loops import small_scans
from tests.random_models.models import seeded_model

pytestmark = pytest.mark.caffe  # g++ is there where Caffe is
BACKEND = CaffeBackend()
T, N, D, H = dims("T N D H")


def assert_right(graph: Graph) -> None:
    compiled, weights = compile_graph(graph, BACKEND, "caffe-fused"), initial_weights(graph)
    report = check(compiled, BACKEND.emit(compiled, weights), weights, NativeExecutor(), seed=1)
    assert report.passed, [d for d in report.differences if not d.passed]


@model
def everything(X=Input(T, N, 3), C=Input(T, N), L=Input(N), h0=Input(N, 4), c0=Param(4, fill=xavier())):
    """Three scans: states that are fed, learned and zero; both directions, cont, lengths, and no sequence at all."""
    y, last = scan(lstm(H=4), X, init={"h": h0, "c": c0}, cont=C)
    z, _ = scan(gru(H=3), y, reverse=True, lengths=L, name="back")
    w, _ = scan(gru(H=3), length=T, static={"x": last["c"]}, name="decoder")
    return {"y": y, "z": z, "w": w, "c": last["c"]}


@pytest.mark.parametrize(
    "made",
    [
        everything,
        small_scans.square,
        small_scans.two_products,
        small_scans.memory,
        small_scans.largest,
        small_scans.pooling,
        small_scans.contraction,
    ],
    ids=lambda made: made.name,
)
def test_outputs_and_all_gradients(made: lstmc.Model) -> None:
    assert_right(made.graph(T=5, N=3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm_peephole", "slstm", "attention_lstm", "min_gru"])
def test_cells_of_the_library(name: str) -> None:
    assert_right(cell_graph(name, (4, 3), reverse=name == "slstm"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_models(seed: int) -> None:
    assert_right(seeded_model(seed).graph())


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (1, 70), (7, 3), (7, 40), (60, 33)])
def test_products_of_all_sizes_need_no_blas(rows: int, width: int) -> None:
    """One row or several, fewer columns than a register has, and so many rows that packing pays."""
    assert_right(CellModel(gru).graph(T=3, N=rows, D=width, H=width + 2))


@cell
def of_products(
    x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=xavier()), V=Param(H, D, fill=xavier()), b=Param(H)
):
    """Two products that are not one, as only one has a bias."""
    h = linear(x, W) + sigmoid(linear(x, V, b)) * h
    return h, {"h": h}


@cell
def of_products_and_more(
    x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=xavier()), V=Param(H, D, fill=xavier()), b=Param(H)
):
    h = linear(x, W) + sigmoid(linear(x, V, b)) * h + sum(tanh(x + h[:, :1]), axis=-1, keepdims=True)
    return h, {"h": h}


@pytest.mark.parametrize(
    ("made", "rows", "width"), [(of_products, 1, 3), (of_products, 20, 64), (of_products_and_more, 20, 40)]
)
def test_products_that_give_one_gradient_are_added_up_after_all_steps(made: Cell, rows: int, width: int) -> None:
    """Few rows and so many that packing pays; columns that are no whole panels; the first adds to what steps wrote."""
    graph = CellModel(made).graph(T=4, N=rows, D=width, H=5)
    generated = Dead().run(GenerateLoops().run(graph).graph).graph
    (plan,) = (node.op.plan() for node in generated if isinstance(node.op, GeneratedScan))
    products = [work for work in plan.backward if isinstance(work, Product)]
    adds = [(work.when, work.y.array.kind, work.add) for work in products]
    assert adds == [("after", "bottom_diff", made is of_products_and_more), ("after", "bottom_diff", True)]
    weights, rng = initial_weights(graph), np.random.default_rng(0)
    x = {"x": rng.normal(size=(4, rows, width))}
    d_y = {"y": rng.normal(size=(4, rows, 5))}
    wanted = backward(forward(graph, x, weights), d_y)
    found = backward(forward(with_native_loops(generated), x, weights, np.float32), d_y)
    assert np.abs(found.inputs["x"] - wanted.inputs["x"]).max() < 1e-5 * np.abs(wanted.inputs["x"]).max()


def test_a_net_runs_and_streams() -> None:
    sizes = {"N": 2, "D": 3, "H": 4}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 3))
    net = lstmc.compile("gru", T=3, **sizes, target="caffe-fused")
    wanted = net.run(x=x, on="interpreter")["y"]
    np.testing.assert_allclose(net.run(x=x, on="native")["y"], wanted, rtol=1e-5, atol=1e-6)
    one = lstmc.compile("gru", T=3, **sizes, target="caffe-fused", step=True, weights=net.weights)
    with one.stream(on="native") as step:
        steps = [step(x=x[t : t + 1])["y"][0] for t in range(3)]
    np.testing.assert_allclose(np.stack(steps), wanted, rtol=1e-5, atol=1e-6)


def test_a_net_without_generated_layers_is_refused() -> None:
    net = lstmc.compile("rnn", T=2, N=1, D=3, H=3)
    with pytest.raises(BackendError) as refused:
        net.verify(on="native")
    assert refused.value.message == (
        "native runs generated layers: expected a net that has some, found one whose scans are all unrolled"
    )
    assert refused.value.notes == ("choose a target with generated layers, as caffe-fused",)


@cell
def dropped(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=xavier()), U=Param(H, H, fill=xavier())):
    h = tanh(linear(dropout(x, 0.5), W) + linear(dropout(h, 0.25), U))
    return h, {"h": h}


def test_core_scans_become_generated_ones_without_dropouts() -> None:
    @model
    def net(X=Input(T, N, 3)):
        return {"y": scan(dropped(H=2), X)[0]}

    graph = net.graph(T=4, N=2)
    generated = Dead().run(GenerateLoops().run(graph).graph).graph
    (node,) = (node for node in generated if isinstance(node.op, Scan))
    assert isinstance(node.op, GeneratedScan)
    assert node.op.initial == (0.0,)
    ratios = sorted(other.op.ratio for other in generated if other.op.name == "dropout")
    assert ratios == [0.25, 0.5]
    x, weights = np.random.default_rng(0).normal(size=(4, 2, 3)), initial_weights(graph)
    wanted = forward(graph, {"X": x}, weights).outputs["y"]
    np.testing.assert_array_equal(forward(generated, {"X": x}, weights).outputs["y"], wanted)
    np.testing.assert_allclose(
        forward(with_native_loops(generated), {"X": x}, weights, np.float32).outputs["y"], wanted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("flags", [(), ("-ffp-contract=off",)])  # as on a processor without fused products and sums
def test_functions_are_right_to_a_few_units_in_the_last_place(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """From where exp is denormal to where it is infinite; zero, infinities and NaN too. A sigmoid is at least 1e-38."""
    wanted = {
        "exp_": np.exp,
        "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
        "tanh_": np.tanh,
        "softplus": lambda x: np.logaddexp(x, 0),
    }
    each = (
        'extern "C" void {0}_of(int n, const float* x, float* y) {{ for (int i = 0; i < n; ++i) y[i] = {0}(x[i]); }}\n'
    )
    code = header("elements.h") + "".join(each.format(name) for name in wanted)
    (tmp_path / "probe.cpp").write_text(code, encoding="utf-8")
    cpp_compiler("").run((*FLAGS, *flags, "-shared", "probe.cpp", "-o", "probe.so"), tmp_path, "compiling a probe")
    probe = ctypes.CDLL(str(tmp_path / "probe.so"))
    x = np.concatenate([np.linspace(-87, 88, 100_003), [0, np.inf, -np.inf, np.nan]]).astype(np.float32)
    for name, function in wanted.items():
        y = np.empty_like(x)
        getattr(probe, f"{name}_of")(len(x), x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
        with np.errstate(all="ignore"):
            exact = function(x.astype(np.float64))
        np.testing.assert_allclose(y, exact, rtol=4e-7, atol=1e-38, err_msg=name)
        if name == "tanh_":
            np.testing.assert_array_equal(y[abs(x) > 8.11], np.sign(x[abs(x) > 8.11]))
