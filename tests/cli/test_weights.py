"""``lstmc run --save-weights``: the parameters of a net, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")

GATES = """\
from lstmc import Input, Param, State, cell, dims, gaussian, linear, model, scan, sigmoid, tanh

T, N, D, H = dims("T N D H")


@cell
def gated(
    x=Input(N, D), h=State(N, H), *,
    W_a=Param(H, D, fill=gaussian(0, 1)), W_b=Param(H, D, fill=gaussian(0, 1)),
    U_a=Param(H, H, fill=gaussian(0, 1)), U_b=Param(H, H, fill=gaussian(0, 1)),
):
    h = sigmoid(linear(x, W_a) + linear(h, U_a)) * tanh(linear(x, W_b) + linear(h, U_b))
    return h, {"h": h}


@model
def net(X=Input(T, N, 3)):
    return scan(gated(H=4), X)[0]
"""


def test_packed_parameters_come_back_exactly(lstmc: LSTMC) -> None:
    Path("net.py").write_text(GATES)
    rng = np.random.default_rng(0)
    shapes = {"W_a": (4, 3), "W_b": (4, 3), "U_a": (4, 4), "U_b": (4, 4)}
    given = {f"gated/{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez("given.npz", **given)
    assert lstmc("compile", "net.py", *SIZES, "--weights", "given.npz").code == 0
    assert "gated/W_a_b" in Path("net.prototxt").read_text()  # the compiler did pack them
    ended = lstmc("run", "net.prototxt", "--save-weights", "found.npz")
    assert (ended.code, ended.err) == (0, "")
    with np.load("found.npz") as found:
        assert set(found.files) == set(given)
        for name, array in given.items():
            assert np.array_equal(found[name], array)


def test_a_nets_own_file_is_taken_as_weights(lstmc: LSTMC) -> None:
    Path("net.py").write_text(GATES)
    assert lstmc("compile", "net.py", *SIZES, "--seed", "5", "-o", "first").code == 0
    assert lstmc("compile", "net.py", *SIZES, "--weights", "first/net.caffemodel", "-o", "second").code == 0
    first, second = (Path(folder, "net.caffemodel").read_bytes() for folder in ("first", "second"))
    assert first == second
    Path("first/net.manifest.json").unlink()
    ended = lstmc("compile", "net.py", *SIZES, "--weights", "first/net.caffemodel")
    assert (ended.code, ended.err.splitlines()[0]) == (
        2,
        "WeightsError: first/net.caffemodel: expected an .npz file of named arrays, found something else",
    )


def test_a_run_without_inputs_says_what_it_needs(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), *SIZES).code == 0
    ended = lstmc("run", "net.prototxt")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "DataError: expected the inputs, --inputs FILE, or a file for the parameters, --save-weights FILE.npz\n"
    )


def test_what_no_step_uses_is_named_and_left_out(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), "-D", "T=1", "-D", "N=2").code == 0
    ended = lstmc("run", "net.prototxt", "--save-weights", "found.npz")
    assert ended.code == 0
    assert "no step of this net uses step/U: left out" in ended.out
    with np.load("found.npz") as found:
        assert found.files == ["step/W"]


def test_files_that_do_not_fit(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), *SIZES).code == 0
    Path("other.caffemodel").write_bytes(b"not a net")
    extract = ("run", "net.prototxt", "--weights", "other.caffemodel", "--save-weights", "w.npz")
    manifest = Path("net.manifest.json").read_bytes()
    Path("net.manifest.json").unlink()
    for written, text in (
        (None, "net.manifest.json: no such manifest\n  copy it here: lstmc writes one beside each net\n"),
        (
            b"{}",
            "net.manifest.json is not a manifest of format 1: expected an object with a value for format, found {}\n",
        ),
        (manifest, "other.caffemodel: expected a caffemodel, found something else\n"),
    ):
        if written is not None:
            Path("net.manifest.json").write_bytes(written)
        ended = lstmc(*extract)
        assert (ended.code, ended.out, ended.err) == (2, "", f"WeightsError: {text}")
    Path("other.caffemodel").write_bytes(b"")
    ended = lstmc(*extract)
    assert (ended.code, ended.err) == (
        2,
        "WeightsError: other.caffemodel is not a caffemodel of this net\n"
        "  missing: blob 0 of layer step/linear_W, which holds step/W\n"
        "  missing: blob 0 of layer step/t001/linear_U, which holds step/U\n",
    )
    assert not Path("w.npz").exists()
