"""Models as modules of PyTorch: outputs and gradients in both forms, free sizes, copies, training, and faults."""

from __future__ import annotations

import copy
import ctypes
import io
import os
import pickle
import re
import threading
from contextlib import contextmanager, nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import ninja
import numpy as np
import pytest
import torch
from platformdirs import user_cache_path
from torch.utils.file_baton import FileBaton

import lstmc
import lstmc_torch
import lstmc_torch.backend
import lstmc_torch.loop
from lstmc import (
    Input,
    Param,
    State,
    cell,
    const,
    dims,
    dropout,
    linear,
    model,
    scan,
    step_index,
    tanh,
    uniform,
    xavier,
)
from lstmc.cells import gru
from lstmc.dsl import CellModel
from lstmc.errors import BackendError, DataError, DimError, WeightsError
from lstmc.files.output import write_files
from lstmc.ir import Graph, Scan
from lstmc.loops import native
from lstmc.loops.layer import GeneratedScan
from lstmc.ops import Abs
from lstmc.pipeline import compile_graph
from lstmc.types import TensorType
from lstmc.verification.differential import check
from lstmc.weights import initial_weights
from lstmc_torch import TorchBackend
from lstmc_torch.loop import loop
from lstmc_torch.program import Call, lowered
from tests.backends.lstmc_torch.test_operators import negated, penalised
from tests.cells.scanned import cell_graph
from tests.loops.test_native import everything
from tests.random_models.models import seeded_model

pytestmark = pytest.mark.caffe  # g++ is there where Caffe is
torch.set_num_threads(1)  # others wait in loops, which costs most on a busy machine
BACKEND = TorchBackend()
(BUILT,) = (executor for executor in BACKEND.executors() if executor.form == "built")
T, N, D, H = dims("T N D H")
SIZES = {"D": 3, "H": 4}
SMALL = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def small() -> lstmc_torch.Module:
    return lstmc_torch.module("gru", seed=0, **SIZES)


def assert_right(graph: Graph) -> None:
    compiled, weights = compile_graph(graph, BACKEND), initial_weights(graph)
    artifact = BACKEND.emit(compiled, weights)
    for executor in set(BACKEND.executors()) - {BUILT}:  # which takes long
        report = check(compiled, artifact, weights, executor, seed=1)
        assert report.passed, (executor.name, [d for d in report.differences if not d.passed])


def test_outputs_and_all_gradients_in_both_forms() -> None:
    assert_right(everything.graph(T=5, N=3))


@cell
def averaging(x=Input(N, D), m=State(N, D)):
    """A mean so far. Its step counts for itself, in a loop without operands."""
    m = m + (x - m) / (step_index() + 1)
    return m, {"m": m}


def test_a_loop_without_operands() -> None:
    assert_right(CellModel(averaging).graph(T=3, N=2, D=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["slstm", "attention_lstm", "conv_lstm", "ntm", "rwkv7", "phased_lstm", "mamba", "gru_d", "luong"]
)
def test_cells_of_the_library(name: str) -> None:
    assert_right(cell_graph(name, (4, 3), reverse=name == "slstm"))


@pytest.mark.parametrize("name", ["bahdanau", "luong", "mamba"])
def test_rows_that_are_the_second_axis_of_a_memory_are_found(name: str) -> None:
    """As in the memory [S, N, E] of attention; and where a parameter has as many rows as the batch."""
    graph = compile_graph(cell_graph(name, (4, 3)), BACKEND).expanded
    scans = [node.op for node in graph if isinstance(node.op, Scan)]
    assert [scan.plan().rows.fixed for scan in scans if isinstance(scan, GeneratedScan)] == [False] * len(scans)


@model
def written(X=Input(T, N, 3), C=Input(T, N), L=Input(N), h0=Input(N, 4), c0=Param(4, fill=xavier())):
    """Everything, and a loop without operands."""
    return {**everything.function(X, C, L, h0, c0), "mean": scan(averaging(), X)[0]}


def loaded(path: Path) -> Any:
    """Return a written file as a module."""
    spec = spec_from_file_location("written", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_killed_build_does_not_stop_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's lock is a file, which a killed process leaves behind: the next build would wait for it for ever."""
    for name, content in lstmc.compile("gru", T=3, N=2, **SIZES, backend="torch").files.items():
        (tmp_path / name).write_bytes(b"#error planted" if name.endswith(".cpp") else content)
    module, root = loaded(tmp_path / "gru_torch.py"), tmp_path / "extensions"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(root))
    monkeypatch.setenv("PATH", os.pathsep.join([ninja.BIN_DIR, os.environ["PATH"]]))
    monkeypatch.setattr(FileBaton, "wait", lambda self: pytest.fail(f"waits for {self.lock_file_path}"))
    library = re.search(r"torch\.ops\.(lstmc_\w+)", (tmp_path / "gru_torch.py").read_text())[1]  # type: ignore[index]
    lock = root / library / "lock"
    write_files(lock.parent, {lock.name: b""})
    with pytest.raises(RuntimeError, match="#error planted"):
        module.Net().build()
    assert not lock.exists()


@pytest.mark.walk
def test_a_written_file_with_its_layers_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Built by PyTorch's own builder in half a minute, once: what is the same stays in the cache."""
    compiled = lstmc.compile(written, T=5, N=3, backend="torch")
    folder = user_cache_path("lstmc") / "written-torch"
    for name, content in compiled.files.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            write_files(folder, {name: content})
    module = loaded(folder / "written_torch.py")
    # as where the environment is active
    monkeypatch.setenv("PATH", os.pathsep.join([ninja.BIN_DIR, os.environ["PATH"]]))
    plain, built = module.Net(), module.Net().build()
    for net in (plain, built):
        net.load_state_dict(torch.load(folder / "written_torch.pt"))

    def results(net: Any) -> list[torch.Tensor]:
        outputs = net(*inputs)
        leaves = [*inputs, *(p for p in net.parameters() if p.requires_grad)]
        total = sum((value.cos().sum() for value in outputs.values()), torch.zeros(()))
        found = torch.autograd.grad(total, leaves, allow_unused=True)
        return [*outputs.values(), *(torch.zeros(()) if g is None else g for g in found)]

    rng = np.random.default_rng(0)
    for steps, rows in ((5, 3), (7, 2)):  # T and N are free
        arrays = {
            "X": rng.normal(size=(steps, rows, 3)),
            "C": rng.integers(0, 2, (steps, rows)),
            "L": rng.integers(1, steps + 1, rows),
            "h0": rng.normal(size=(rows, 4)),
        }
        inputs = [torch.tensor(arrays[name], dtype=torch.float32, requires_grad=True) for name in compiled.inputs]
        for one, other in zip(results(built), results(plain), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(built(*inputs), plain(*inputs))
    assert copy.deepcopy(built).native
    double = copy.deepcopy(built).double()  # runs in the plain form
    double(*(x.double() for x in inputs))
    text = compiled.files["written_torch.py"].decode()
    assert_checked(built, plain, dict(zip(compiled.inputs, [x.detach() for x in inputs], strict=True)), text)
    report = check(compile_graph(written.graph(T=5, N=3), BACKEND), compiled.artifact, compiled.weights, BUILT)
    assert report.passed
    assert report.place == "torch-built (written_torch.py, written_torch.pt, written_torch.layers.cpp)"


def assert_checked(built: Any, plain: Any, by_name: dict[str, torch.Tensor], text: str) -> None:
    """What the operators of a written file convert, refuse, and leave to PyTorch."""
    for one, other in zip(*(penalised(net, *by_name.values()) for net in (built, plain)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    def run(net: Any, **others: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = net(*{**by_name, **others}.values())["y"]
        return found

    mask, x = by_name["C"], by_name["X"]
    for kind in (torch.int64, torch.uint8, torch.bool):
        torch.testing.assert_close(run(built, C=mask.to(kind)), run(plain), **SMALL)
    torch.testing.assert_close(run(built, X=negated(x)), run(plain, X=negated(x).clone()), **SMALL)
    for wrong in (x[..., :2], torch.cat([x, x], 1), torch.cat([x, x], 2)):
        with pytest.raises(RuntimeError, match="expected the shape"):
            run(built, X=wrong)
    with pytest.raises(RuntimeError, match="expected the shape"):
        run(built, L=by_name["L"][:1])
    operators = getattr(torch.ops, re.search(r"torch\.ops\.(lstmc_\w+)", text)[1])  # type: ignore[index]
    kind_of_loop = re.search(r"'(Fused_\w+)'", text)[1]  # type: ignore[index]
    for bottoms, said in (([], "inputs, found 0"), ([x] * 9, "inputs, found 9"), ([x.to_sparse()], "inputs")):
        with pytest.raises(RuntimeError, match=said):
            operators.loop(kind_of_loop, 7, 2, bottoms, [])
    with pytest.raises(RuntimeError, match="there is no layer Other"):
        operators.loop("Other", 7, 2, [x], [])


def test_what_verify_says_where_native_code_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lstmc.compile("gru", T=3, N=2, **SIZES, backend="torch")
    monkeypatch.setattr(native, "PROGRAM", "no-such-compiler")
    monkeypatch.setattr(lstmc_torch.backend, "PROGRAM", "no-such-compiler")
    with pytest.warns(UserWarning, match="gru runs step by step in PyTorch"):
        found = net.verify()
    assert found.passed
    first, _, by_module, by_steps = str(found).splitlines()
    assert first == "torch-built: not run: build() of a written module needs no-such-compiler"
    assert by_module.startswith("torch-cpu (step by step, as its native code could not be made): all ")
    assert by_steps.startswith("torch-steps (gru_torch.py, gru_torch.pt): all ")
    with pytest.raises(BackendError, match="torch-built cannot be used here"):
        net.verify(on="torch-built")


def test_what_verify_says_of_a_model_without_loops() -> None:
    @model
    def lined(X=Input(T, N, 3)):
        return {"y": tanh(X)}

    found = lstmc.compile(lined, T=3, N=2, backend="torch").verify()
    assert found.passed
    said, files = "step by step, as it has no loops", "lined_torch.py, lined_torch.pt"
    assert [report.place for report in found.reports[1:]] == [
        f"torch-cpu ({said})", f"torch-built ({said}, {files})", f"torch-steps ({files})",
    ]  # fmt: skip


def test_a_written_net_is_run_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = lstmc.compile("gru", T=5, N=2, **SIZES, backend="torch")
    assert sorted(path.name for path in net.save(tmp_path)) == [
        *("gru_torch.layers.cpp", "gru_torch.manifest.json", "gru_torch.pt", "gru_torch.py")
    ]
    x = np.random.default_rng(0).normal(size=(9, 1, 3)).astype(np.float32)  # T and N are free
    written = lstmc.load(tmp_path / "gru_torch.py")
    wanted = lstmc.compile("gru", T=9, N=1, **SIZES).run(x=x, on="interpreter")
    for name, value in written.run(x=x).items():
        np.testing.assert_allclose(value, wanted[name], **SMALL)
    module = lstmc_torch.module("gru", **SIZES)  # whatever was trained in PyTorch, under the same names
    torch.save(module.state_dict(), tmp_path / "gru_torch.pt")
    found = written.run(x=x)["y"]
    np.testing.assert_allclose(found, module(torch.from_numpy(x))["y"].detach().numpy(), **SMALL)
    for backend, target in (("caffe", "flat"), ("caffe", "opencv"), ("onnx", None), ("c", None)):
        options: dict[str, Any] = {"backend": backend, "target": target, "weights": tmp_path / "gru_torch.pt"}
        other = lstmc.compile("gru", T=9, N=1, **SIZES, **options)
        assert other.verify(on="interpreter").passed
        assert all(np.array_equal(other.weights[name], array) for name, array in module.lstmc_weights().items())
    monkeypatch.setattr(native, "PROGRAM", "no-such-compiler")
    with pytest.warns(UserWarning, match="gru_torch runs step by step in PyTorch"):
        np.testing.assert_allclose(written.run(x=x)["y"], found, **SMALL)
    with pytest.raises(BackendError, match="lstmc runs modules of PyTorch on the CPU alone"):
        TorchBackend().run(tmp_path / "gru_torch.py", {"x": x}, None, True)
    (tmp_path / "gru_torch.pt").write_bytes(b"no zip")
    with pytest.raises(BackendError, match=r"gru_torch.pt: expected a state dict that torch.save wrote"):
        written.run(x=x)
    torch.save([1], tmp_path / "gru_torch.pt")
    with pytest.raises(BackendError, match=r"gru_torch.pt: expected a state dict, of tensors by name, found list"):
        written.run(x=x)
    (tmp_path / "gru_torch.py").write_text("x = 1")
    with pytest.raises(BackendError, match=r"gru_torch.py: expected a module that lstmc wrote for PyTorch"):
        written.run(x=x)


def test_one_step_streams(tmp_path: Path) -> None:
    lstmc.compile("gru", N=1, **SIZES, backend="torch", step=True).save(tmp_path)
    x = np.random.default_rng(0).normal(size=(4, 1, 3)).astype(np.float32)
    wanted = lstmc.compile("gru", T=4, N=1, **SIZES).run(x=x, on="interpreter")["y"]
    with lstmc.load(tmp_path / "gru_torch.py").stream() as stream:
        found = [stream(x=step[None])["y"] for step in x]
    np.testing.assert_allclose(np.stack(found).reshape(wanted.shape), wanted, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_models(seed: int) -> None:
    assert_right(seeded_model(seed).graph())


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("steps", "rows"), [(5, 2), (1, 1), (9, 70)])
def test_t_and_n_are_free(steps: int, rows: int, native: bool) -> None:
    net = lstmc_torch.module("gru", native=native, seed=1, **SIZES)
    x = np.random.default_rng(0).normal(size=(steps, rows, 3)).astype(np.float32)
    wanted = lstmc.compile("gru", T=steps, N=rows, **SIZES, weights=net.lstmc_weights()).run(x=x, on="interpreter")
    found = net(torch.from_numpy(x))
    assert list(found) == ["y", "h_T"]
    for name, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), wanted[name], **SMALL)


def test_the_batch_first_and_inputs_by_name(small: lstmc_torch.Module) -> None:
    x = torch.randn(5, 2, 3)
    other = lstmc_torch.module("gru", batch_first=True, weights=small.lstmc_weights(), **SIZES)
    torch.testing.assert_close(other(x=x.transpose(0, 1))["y"], small(x)["y"].transpose(0, 1))
    torch.testing.assert_close(other(x.transpose(0, 1))["h_T"], small(x)["h_T"])


def gradients(net: lstmc_torch.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = net(x)["y"]
    return list(torch.autograd.grad((y * torch.cos(y)).sum(), [x, *net.parameters()]))


def test_both_forms_have_the_same_gradients_and_float64_passes_gradcheck(small: lstmc_torch.Module) -> None:
    plain = lstmc_torch.module("gru", native=False, weights=small.lstmc_weights(), **SIZES)
    x = torch.randn(4, 2, 3, requires_grad=True)
    for one, other in zip(gradients(small, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(one, other, **SMALL)
    double = copy.deepcopy(small).double()
    assert torch.autograd.gradcheck(lambda x: tuple(double(x).values()), (x.double().detach().requires_grad_(),))


def test_a_parameter_with_two_names() -> None:
    net, x = lstmc_torch.module("lstm", D=4, H=4, seed=0), torch.randn(5, 2, 4)
    net.register_parameter("lstm/W_h", net.get_parameter("lstm/W_x"))
    other = lstmc_torch.module("lstm", D=4, H=4, weights=net.lstmc_weights())
    for each in (net, other):
        each(x)["y"].sum().backward()
    gradients = {name: value.grad for name, value in other.named_parameters()}
    torch.testing.assert_close(net.get_parameter("lstm/W_x").grad, gradients["lstm/W_x"] + gradients["lstm/W_h"])


@pytest.mark.parametrize("change", ["type", "layout"])
def test_parameters_whose_memory_changes_between_the_passes(change: str) -> None:
    gradients = []
    for changed in (False, True):
        net = lstmc_torch.module("lstm", D=4, H=5, seed=0)
        y = net(torch.ones(5, 2, 4))["y"]
        if changed and change == "type":
            net.double()
        elif changed:
            for p in net.parameters():
                p.data = p.data.T.contiguous().T if p.dim() == 2 else p.data
        y.square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*gradients, check_dtype=False)


def test_the_operator_keeps_the_contract_of_torch_library(small: lstmc_torch.Module) -> None:
    (kind,) = (word for word in small.spec.program.text.split("'") if word.startswith("Fused_"))
    x, weights = torch.randn(4, 2, 3, requires_grad=True), list(small.parameters())
    # not test_aot_dispatch, which compares workspaces too, whose numbers are any: see test_no_graph_break
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    found = torch.library.opcheck(loop, (kind, 4, 2, [x], weights), test_utils=checks)
    assert set(found.values()) == {"SUCCESS"}


def test_no_graph_break_in_torch_compile(small: lstmc_torch.Module) -> None:
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    x = torch.randn(6, 2, 3, requires_grad=True)
    torch.testing.assert_close(compiled(x)["y"], small(x)["y"])
    (found,) = torch.autograd.grad(compiled(x)["y"].sum(), x)
    (wanted,) = torch.autograd.grad(small(x)["y"].sum(), x)
    torch.testing.assert_close(found, wanted)


def test_copies_pickles_and_saved_ones(small: lstmc_torch.Module) -> None:
    x = torch.randn(3, 2, 3)
    wanted = small(x)["y"]
    stored = io.BytesIO()
    torch.save(small, stored)
    stored.seek(0)
    others = (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), torch.load(stored, weights_only=False))
    for other in others:
        assert torch.equal(other(x)["y"], wanted)
    fresh = lstmc_torch.module("gru", **SIZES)
    assert not torch.equal(fresh(x)["y"], wanted)
    fresh.load_state_dict(small.state_dict())
    assert torch.equal(fresh(x)["y"], wanted)


def test_two_threads_compute_what_one_does() -> None:
    net = lstmc_torch.module("lstm", D=70, H=65, seed=0)
    x = torch.randn(3, 40, 70, requires_grad=True)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(gradients(net, x))
    torch.set_num_threads(1)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_threads_and_no_grad(small: lstmc_torch.Module) -> None:
    x = torch.randn(40, 3, 3, requires_grad=True)
    nets = (small, copy.deepcopy(small), lstmc_torch.module("lstm", seed=0, **SIZES))
    wanted = [gradients(net, x) for net in nets]
    found: list[list[list[torch.Tensor]]] = [[], [], []]

    def run(at: int) -> None:
        with torch.no_grad():
            assert torch.equal(nets[at](x)["y"], nets[at](x)["y"])
        found[at] += [gradients(nets[at], x) for _ in range(20)]

    threads = [threading.Thread(target=run, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_one, expected in zip(found, wanted, strict=True):
        assert len(of_one) == 20
        assert all(torch.equal(g, w) for each in of_one for g, w in zip(each, expected, strict=True))


def test_autocast_computes_in_the_type_of_the_parameters(small: lstmc_torch.Module) -> None:
    x = torch.randn(3, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = small(x.bfloat16())["y"]
    torch.testing.assert_close(found, small(x.bfloat16().float())["y"])


def test_a_pass_outside_autocast_enters_none(small: lstmc_torch.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", None)
    assert small(torch.randn(3, 2, 3))["y"].dtype == torch.float32


@pytest.mark.parametrize("how", ["device", "dtype"])
def test_memory_of_a_pass_is_of_float32_on_the_cpu_whatever_pytorch_creates(
    small: lstmc_torch.Module, how: str
) -> None:
    x = torch.randn(3, 2, 3, requires_grad=True)
    expected = gradients(small, x)
    if how == "dtype":
        torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta") if how == "device" else nullcontext():
            found = gradients(small, x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@cell
def dropped(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=xavier()), U=Param(H, H, fill=xavier(), lr_mult=2)):
    h = tanh(linear(x, W) + linear(dropout(h, 0.5), U))
    return h, {"h": h}


@model
def noisy(
    X=Input(T, N, 3), noise=Input(T, N, 3, fill=uniform(-1, 1)), *,
    table=Param(3, fill=xavier(), lr_mult=0, decay_mult=0), V=Param(2, 4, fill=xavier(), decay_mult=0),
):  # fmt: skip
    y, last = scan(dropped(H=4), dropout(X, 0.25) * table + 0.0 * noise * const([1.0, 2.0, 3.0]))
    return {"y": linear(y, V), "h": last["h"]}


@pytest.mark.parametrize("native", [True, False])
def test_dropouts_multipliers_and_fills(native: bool) -> None:
    net = lstmc_torch.module(noisy, native=native, seed=0)
    x = torch.ones(50, 8, 3)
    torch.manual_seed(1)
    first = net(x)["y"]
    torch.manual_seed(1)
    assert torch.equal(net(x)["y"], first)
    assert not torch.equal(net(x)["y"], first)
    net.eval()
    assert torch.equal(net(x)["y"], net(x)["y"])
    trained = {name: p.requires_grad for name, p in net.named_parameters()}
    assert trained == {"table": False, "V": True, "dropped/W": True, "dropped/U": True}
    groups = net.groups(lr=0.1, weight_decay=0.01)
    assert {(g["lr"], g["weight_decay"], len(g["params"])) for g in groups} == {
        (0.1, 0.0, 1), (0.1, 0.01, 1), (0.2, 0.01, 1),
    }  # fmt: skip
    torch.optim.SGD(groups)


@model
def carrying(X=Input(T, 2, 3)):
    return {"y": scan(gru(H=4), X, carry=True)[0]}


@pytest.mark.parametrize("native", [True, False])
def test_carried_states_go_on(native: bool) -> None:
    net = lstmc_torch.module(carrying, native=native, seed=0)
    x = torch.randn(6, 2, 3)
    whole = net(x)["y"]
    net.reset()
    parts = torch.cat([net(x[:2])["y"], net(x[2:])["y"]])
    torch.testing.assert_close(parts, whole)


@model
def valid(X=Input(T, N, 3), lengths=Input(N)):
    y, _ = scan(gru(H=4), X, lengths=lengths)
    return {"y": y, "last": lstmc.last_valid(y, lengths)}


@pytest.mark.parametrize("native", [True, False])
def test_steps_of_sequences_with_lengths_are_free(native: bool) -> None:
    net = lstmc_torch.module(valid, native=native, seed=0)
    for steps, rows in ((4, 3), (7, 2)):
        arrays = {"X": np.random.default_rng(0).normal(size=(steps, rows, 3)), "lengths": np.arange(1, rows + 1)}
        wanted = lstmc.compile(valid, T=steps, N=rows, weights=net.lstmc_weights()).run(**arrays, on="interpreter")
        found = net(**{name: torch.as_tensor(array) for name, array in arrays.items()})
        for name, value in found.items():
            np.testing.assert_allclose(value.detach().numpy(), wanted[name], **SMALL)


def test_what_is_trained_here_compiles_for_other_targets(small: lstmc_torch.Module, tmp_path: Path) -> None:
    net = copy.deepcopy(small)
    optimizer = torch.optim.Adam(net.groups(lr=0.01))
    x = torch.randn(5, 2, 3)
    losses = []
    for _ in range(8):
        loss = (net(x)["y"] - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    flat = lstmc.compile("gru", T=5, N=2, **SIZES, target="flat", weights=net.lstmc_weights())
    assert flat.verify(on="interpreter")
    wanted = net(x)["y"].detach().numpy()
    np.testing.assert_allclose(flat.run(x=x.numpy(), on="interpreter")["y"], wanted, **SMALL)
    other = copy.deepcopy(small)
    other.load_lstmc(flat.weights)
    torch.testing.assert_close(other(x)["y"], net(x)["y"])
    with pytest.raises(WeightsError) as refused:
        other.load_lstmc({"gru/W": np.zeros(3), "gru/b": np.zeros(3)})
    assert refused.value.notes[:3] == ("extra: gru/W: did you mean gru/W_x?", "missing: gru/W_x [12, 3]", ANY)


class _Any:
    def __eq__(self, other: object) -> bool:
        return True


ANY: Any = _Any()


def test_inputs_that_do_not_fit(small: lstmc_torch.Module) -> None:
    with pytest.raises(DataError) as refused:
        small(torch.zeros(3, 2, 4), X=torch.zeros(1))
    assert refused.value.message == "the inputs do not fit gru"
    assert refused.value.notes == ("extra: X: did you mean x?", "wrong shape: x must be [T, N, 3], found [3, 2, 4]")
    with pytest.raises(DataError) as refused:
        small()
    assert refused.value.notes == ("missing: x [T, N, 3]",)


def test_without_a_compiler_it_runs_step_by_step_and_says_so_once(
    small: lstmc_torch.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    with pytest.warns(UserWarning, match=r"gru runs step by step in PyTorch: .*g\+\+ was not found") as said:
        net = lstmc_torch.module("gru", weights=small.lstmc_weights(), **SIZES)
    assert len(said) == 1
    x = torch.randn(3, 2, 3)
    torch.testing.assert_close(net(x)["y"], small(x)["y"])


def test_a_size_that_changes_the_net_is_asked_for() -> None:
    @model
    def averaged(X=Input(T, N, 3)):
        return {"y": lstmc.mean(X, 0)}

    @model
    def tiled(X=Input(1, N, 3)):
        return {"y": lstmc.tile(X, (N, 1, 1))}

    with pytest.raises(DimError) as refused:
        lstmc_torch.module(averaged)
    assert refused.value.message == "averaged is another net at each T: give its size, as in module(..., T=20)"
    assert lstmc_torch.module(averaged, T=2)(torch.ones(2, 2, 3))["y"].shape == (2, 3)
    assert lstmc_torch.module(tiled)(torch.ones(1, 5, 3))["y"].shape == (5, 5, 3)


def test_losses_are_outputs_where_they_are_named() -> None:
    @model
    def lossy(X=Input(T, N), L=Input(T)):
        return {"loss": lstmc.softmax_loss(X, L), "y": X}

    assert list(lstmc_torch.module(lossy)(X=torch.ones(2, 3))) == ["y"]
    loss = lstmc_torch.module(lossy, outputs=["loss"])(X=torch.ones(2, 3), L=torch.tensor([0, 2]))["loss"]
    assert loss.item() == pytest.approx(np.log(3))


class Strange(Abs):
    name = "strange"


def test_an_op_without_a_form_is_refused() -> None:
    call = Call(Strange(), ("x",), (TensorType((2,)),), str)
    with pytest.raises(BackendError) as refused:
        lowered(call)
    assert refused.value.message == "strange has no form in PyTorch"


def test_tensors_of_a_gpu_run_by_the_loops_in_cuda(
    small: lstmc_torch.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for what PyTorch has with a GPU alone: memory, the handle of cuBLAS, and nvcc, by g++."""
    nvcc = tmp_path / "nvcc"
    cuda = Path(__file__).parents[2] / "on_demand" / "fuzz" / "cuda"
    own = 'for a; do shift; case "$a" in -ccbin|*g++) ;; *) set -- "$@" "${a#-Xcompiler=}" ;; esac; done'
    nvcc.write_text(f'#!/bin/sh\n{own}\nexec g++ -x c++ -I {cuda} "$@"\n', encoding="utf-8")
    ctypes.CDLL("libopenblas.so.0", ctypes.RTLD_GLOBAL)
    nvcc.chmod(0o700)
    handle = contextmanager(lambda tensor: iter([1]))
    for name, stand_in in (("_cuda", lambda: (str(nvcc), ())), ("_on_gpu", lambda tensor: True), ("_blas", handle)):
        monkeypatch.setattr(lstmc_torch.loop, name, stand_in)
    spec = small.spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    on_gpu = lstmc_torch.module("gru", weights=small.lstmc_weights(), **SIZES)
    assert lstmc_torch.loop.load_or_warn(on_gpu.spec.program.cu, spec.name, gpu=True)
    x = torch.randn(5, 2, 3, requires_grad=True)
    found = results_of(on_gpu, x)
    monkeypatch.undo()
    for one, other in zip(found, results_of(small, x), strict=True):
        torch.testing.assert_close(one, other, **SMALL)


def results_of(net: lstmc_torch.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs, and the gradients of the input and all parameters."""
    outputs = list(net(x).values())
    total = sum((value.cos().sum() for value in outputs), torch.zeros(()))
    return [*outputs, *torch.autograd.grad(total, [x, *net.parameters()])]


def test_parameters_have_names_of_methods() -> None:
    """``double`` and ``train`` are methods of every module, ``native`` and ``add`` belong to the written one."""

    @model
    def double(X=Input(2, 3), *, double=Param(3, 3), train=Param(3, 3), native=Param(3), add=Param(3)):
        return tanh(linear(linear(X, double), train, native) + add * const(np.arange(3)))

    assert lstmc.compile(double, target="torch").verify(on=["torch-cpu", "torch-steps"])
    made = lstmc_torch.module(double)
    assert set(made.state_dict()) >= {"double", "train", "native", "add"}
    again = copy.deepcopy(made).double()
    assert all(value.dtype == torch.float64 for value in again.parameters())
