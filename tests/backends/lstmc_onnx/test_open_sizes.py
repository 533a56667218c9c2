"""One net for every T and N, where the model allows it; the options of the backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstmc as library
from lstmc.backend import load_cell
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.manifest import parse_manifest, read_manifest
from lstmc.ops import Input
from lstmc_onnx import OnnxBackend
from tests.backends.lstmc_onnx.test_models import CELLS
from tests.cells.scanned import RANGES, SIZES
from tests.cli.conftest import LSTMC, lstmc
from tests.quick_sample import one_in

__all__ = ["lstmc"]
CLOCKED = ("clockwork", "retnet")  # count their steps, which is a loop over no sequence
HEAD = "from lstmc import *\nfrom lstmc.cells import lstm\n\nT, N = dims('T N')\n\n@model\n"


def compiled(cell: Any, T: int, N: int, **more: Any) -> library.Net:
    sizes = {dim: SIZES[dim] for dim in cell.dims if dim in SIZES} if hasattr(cell, "dims") else {}
    return library.compile(cell, backend="onnx", sizes={**sizes, "T": T, "N": N}, **more)


def assert_runs_at(net: library.Net, at: library.Net, ranges: dict[str, Any]) -> None:
    """A net, written at other sizes, computes what the model means at these."""
    rng = np.random.default_rng(0)
    given = {n: ranges.get(n, np.asarray)(rng.normal(size=s)).astype(np.float32) for n, s in at.inputs.items()}
    for node in at.compiled.model:
        if isinstance(node.op, Input) and node.op.fill is not None:
            given[node.name] = node.op.fill.draw(rng, node.op.shape).astype(np.float32)
    wanted = forward(at.compiled.model, given, net.weights).outputs
    found = net.run(given)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.shape == wanted[name].shape
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", one_in(6, CELLS, tested=2))
def test_one_net_of_a_cell_is_for_every_number_of_steps_and_sequences(name: str) -> None:
    """Of a loop of ONNX whatever the cell: half of the cells, and random models, show that no op fixes a size."""
    cell = load_cell(name)
    net = compiled(cell, 3, 2)
    steps = name not in CLOCKED
    assert net.artifact.notes[-1] == f"dynamic axes: {'T, N' if steps else 'N'}"
    assert_runs_at(net, compiled(cell, 6 if steps else 3, 5), RANGES.get(name, {}))


def test_an_unrolled_net_is_for_every_number_of_sequences() -> None:
    cell = load_cell("lstm")
    net = compiled(cell, 3, 2, form="unrolled")
    assert net.artifact.notes == ("dynamic axes: N",)
    assert_runs_at(net, compiled(cell, 3, 7), {})


def model(body: str, inputs: str = "X=Input(T, N, 3)") -> Any:
    words: dict[str, Any] = {}
    path = Path("m.py").resolve()
    path.write_text(HEAD + f"def net({inputs}):\n    {body}\n")
    exec(compile(path.read_text(), str(path), "exec"), words)
    return words["net"]


@pytest.mark.parametrize(
    ("body", "inputs", "notes"),
    [
        # the number of steps is in a number of the net: 1 / T
        ("y, _ = scan(lstm(H=2), X)\n    return mean(y, 0)", "X=Input(T, N, 3)", "dynamic axes: N"),
        ("y, _ = scan(lstm(H=2), X, lengths=L)\n    return y", "X=Input(T, N, 3), L=Input(N)", "dynamic axes: T, N"),
        ('return einsum("ij,tnj,kj->tnik", A, X, B)', "X=Input(T, N, 3), A=Param(2, 3), B=Param(4, 3)",
         "dynamic axes: T, N"),
        ("return reshape(X, T * N, 3) + 1", "X=Input(T, N, 3)", "dynamic axes: T, N"),
        ("return linear(X, W)", "X=Input(T, N), W=Param(4, N)", "dynamic axes: T"),
        ("y, _ = scan(lstm(H=2), X)\n    return reshape(y, N, T, 2)", "X=Input(T, N, 3)", "dynamic axes: T, N"),
        ("return max_pool(X, 2, stride=2)", "X=Input(N, 1, T, 4)", "dynamic axes: N"),
        # shapes of T - 1, in a reshape and of an output
        ("return reshape(conv(X, W), N, T - 1, 6)", "X=Input(N, 1, T, 4), W=Param(2, 1, 2, 2)", "dynamic axes: T, N"),
        ("return conv(X, W)", "X=Input(N, 1, T, 4), W=Param(2, 1, 2, 2)", "dynamic axes: T, N"),
        # numbers and branches by T % 2, T // 2 * 2 - T
        ("return X + X.shape[0] % 2", "X=Input(T, N, 3)", "dynamic axes: N"),
        ("return X if X.shape[0] % 2 else X + 1", "X=Input(T, N, 3)", "dynamic axes: N"),
        ("return X if X.shape[0] & 1 else X + 1", "X=Input(T, N, 3)", "dynamic axes: N"),
        ("return X + (X.shape[0] // 2 * 2 - X.shape[0])", "X=Input(T, N, 3)", "dynamic axes: N"),
        ("return X + 4 * X.shape[0] % 2 + 1", "X=Input(T, N, 3)", "dynamic axes: T, N"),
        # two sizes of a shape that are computed
        ("return reshape(conv(X, W), 2 * N, T - 1, 3)", "X=Input(N, 1, T, 4), W=Param(2, 1, 2, 2)", "dynamic axes: T"),
    ],
)  # fmt: skip
def test_what_is_open_is_what_the_net_does_not_depend_on(
    body: str, inputs: str, notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = model(body, inputs)
    net = library.compile(made, backend="onnx", T=3, N=2)
    assert net.artifact.notes[-1] == notes
    sizes = {"T": 5 if "T" in notes else 3, "N": 4 if "N" in notes else 2}
    assert_runs_at(net, library.compile(made, backend="onnx", **sizes), {"L": lambda drawn: np.clip(drawn, 0, 3) // 1})


def test_what_is_filled_along_several_dimensions_is_not_open() -> None:
    """Chunks begin with zeros of N * H elements, of which no input has an axis; ONNX Runtime did not load the net."""
    net = library.compile("min_gru", backend="onnx", time="chunks", T=7, N=2, D=2, H=2)
    assert not any("axes" in note for note in net.artifact.notes)
    assert_runs_at(net, net, {})


@pytest.mark.parametrize(("form", "T"), [(None, 1), ("unrolled", 1), ("unrolled", 3)])
def test_a_mean_of_everything_is_a_number_of_each_step(
    form: str | None, T: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = "@cell\ndef c(x=Input(2, 3)):\n    return tanh(mean(x) * 0.5 - x), {}\n"
    path = Path("scalar.py")
    path.write_text(
        f"from lstmc import *\n\n{cell}\n@model\ndef net(X=Input(1, 2, 3)):\n    return scan(c(), tanh(X))[0]\n"
    )
    net = library.compile(path, backend="onnx")
    assert_runs_at(net, net, {})


def test_a_written_net_runs_at_the_sizes_of_its_inputs(tmp_path: Path, lstmc: LSTMC) -> None:
    made = model("y, _ = scan(lstm(H=2), X, lengths=L)\n    return y", "X=Input(T, N, 3), L=Input(N)")
    library.compile(made, backend="onnx", T=3, N=2).save(tmp_path)
    described = read_manifest(tmp_path / "net.manifest.json")
    assert parse_manifest(described.text().encode()).text() == described.text()
    assert (described.inputs["X"].place.open, described.inputs["L"].most) == (("T", "N", None), "T")
    x = np.random.default_rng(0).normal(size=(7, 4, 3)).astype(np.float32)
    np.savez("x.npz", X=x, L=np.array([7, 0, 3, 5]))
    ended = lstmc("run", "net.onnx", "--inputs", "x.npz", "-o", "y.npz")
    assert ended.code == 0, ended.err
    with np.load("y.npz") as found:
        assert found["y"].shape == (7, 4, 2)
        assert not found["y"][3:, 2].any()
        assert found["y"][:3, 2].all()
    np.savez("x.npz", X=x, L=np.array([8, 0]))
    ended = lstmc("run", "net.onnx", "--inputs", "x.npz")
    assert (ended.code, ended.err) == (
        2, "DataError: the inputs do not fit net.onnx\n  wrong shape: L must be [4], found [2]\n"
    )  # fmt: skip
    np.savez("x.npz", X=x, L=np.array([8, 0, 1, 1]))
    ended = lstmc("run", "net.onnx", "--inputs", "x.npz")
    assert "L must be integers from 0 to 7" in ended.err, ended.err
    np.savez("x.npz", X=np.zeros((0, 4, 3)), L=np.zeros(4))
    ended = lstmc("run", "net.onnx", "--inputs", "x.npz")
    assert "wrong shape: X must be [3, 4, 3], found [0, 4, 3]" in ended.err


def opsets(net: library.Net) -> int:
    return int(onnx.load_model_from_string(net.files[net.artifact.net]).opset_import[0].version)


def test_the_opset_is_an_option_of_the_backend(lstmc: LSTMC) -> None:
    sizes = {"T": 2, "N": 1, "D": 3, "H": 2}
    assert opsets(library.compile("gru", backend="onnx", **sizes)) == 17
    newest = onnx.defs.onnx_opset_version()
    for opset in (13, newest):
        net = library.compile("gru", backend=OnnxBackend(opset=opset), **sizes)
        assert opsets(net) == opset
        assert net.verify(on=["onnx-cpu"])
    for opset in (12, newest + 1):
        with pytest.raises(BackendError) as caught:
            library.compile("gru", backend=OnnxBackend(opset=opset), **sizes)
        assert caught.value.message == (
            f"opset {opset}: expected 13 to {newest}, the newest that onnx {onnx.__version__} knows"
        )
    given = [text for name, size in sizes.items() for text in ("-D", f"{name}={size}")]
    ended = lstmc("compile", "--cell", "gru", *given, "--backend", "onnx", "-O", "opset=19", "-O", "open=N")
    assert ended.code == 0
    assert "gru: GRU\ndynamic axes: N\n" in ended.out
    assert onnx.load("gru.onnx").opset_import[0].version == 19
    ended = lstmc("convert", "gru.onnx", "--backend", "onnx", "-O", "opset=18", "-D", "N=1", "-o", "again")
    assert ended.code == 0, ended.err
    assert onnx.load("again/net.onnx").opset_import[0].version == 18


@pytest.mark.parametrize("command", ["compile", "verify", "show", "report"])
@pytest.mark.parametrize(
    ("backend", "option", "message"),
    [
        ("onnx", "opset", "-O takes NAME=VALUE, for backend onnx with one of opset, open, found 'opset'"),
        ("onnx", "version=3", "-O takes NAME=VALUE, for backend onnx with one of opset, open, found 'version=3'"),
        ("onnx", "opset=new", "opset=new: expected an integer"),
        ("torch", "opset=13", "backend torch has no options of its own: expected no -O, found 'opset=13'"),
    ],
)
def test_options_that_there_are_not(command: str, backend: str, option: str, message: str, lstmc: LSTMC) -> None:
    ended = lstmc(command, "--cell", "gru", "--backend", backend, "-O", option)
    assert (ended.code, ended.err) == (2, f"BackendError: {message}\n")
