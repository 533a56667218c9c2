"""``lstmc verify``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lstmc_caffe.ops import TanHLayer
from lstmc_caffe.readers.known import reader_names
from lstmc_caffe.runtime.runner import Runner
from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")


def test_the_interpreter_agrees_in_one_line_and_verbose_shows_every_row(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("verify", str(model_file), *SIZES, "--on", "interpreter", "-v")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split()[:2] for line in ended.out.splitlines() if line.endswith("ok")]
    for row in (["output", "Y"], ["output", "h_T"], ["blob", "step/t*/h"], ["gradient", "X"], ["gradient", "step/U"]):
        assert row in rows
    line = f"interpreter: all {len(rows)} agree\n"
    assert ended.out.endswith(line)
    assert lstmc("verify", str(model_file), *SIZES, "--on", "interpreter").out == line


@pytest.mark.caffe
def test_by_default_every_place_found_is_used(lstmc: LSTMC, model_file: Path, caffe: Runner) -> None:
    ended = lstmc("verify", str(model_file), *SIZES)
    assert ended.code == 0
    assert "interpreter: all " in ended.out
    assert "caffe-cpu (" in ended.out
    assert "caffe-gpu: not run" not in ended.out
    verbose = lstmc("verify", str(model_file), *SIZES, "-v").out
    assert "caffe-gpu (" in verbose or "caffe-gpu: not run: " in verbose


@pytest.mark.caffe
def test_a_net_that_is_wrong_fails_with_1(
    lstmc: LSTMC, model_file: Path, caffe: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TanHLayer, "layer_type", "Sigmoid")  # the net really computes something else
    ended = lstmc("verify", str(model_file), *SIZES, "--on", "caffe-cpu")
    assert ended.code == 1
    rows = [line for line in ended.out.splitlines() if line.endswith("PAST TOLERANCE")]
    assert rows[0].split()[:2] == ["output", "Y"]
    assert f"caffe-cpu (net.prototxt, net.caffemodel): {len(rows)} of " in ended.out


@pytest.mark.caffe
def test_what_is_not_compared_is_said_with_the_reason(lstmc: LSTMC, caffe: Runner) -> None:
    sizes = ("-D", "T=3", "-D", "N=1", "-D", "D=3", "-D", "H=4")
    ended = lstmc("verify", "--cell", "lstm_peephole", *sizes, "--target", "flat", "--on", "caffe-cpu", "-v")
    assert ended.code == 0
    reason = "Caffe's Scale overwrites it at each step"
    rows = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert rows[-6:] == [
        "not compared",
        "what name blobs why",
        *(f"gradient lstm_peephole/{name} 1 {reason}" for name in ("p_i", "p_f", "p_o")),
        "caffe-cpu (lstm_peephole.prototxt, lstm_peephole.caffemodel): all 36 agree; not compared: 3 gradients"
        f" ({reason})",
    ]
    agreeing = [row.split()[1] for row in rows if row.startswith("gradient") and row.endswith(" ok")]
    assert agreeing == ["x", *(f"lstm_peephole/{name}" for name in ("W_x", "b", "W_h"))]  # which are right
    alone = lstmc("verify", "--cell", "lstm_peephole", *sizes, "--target", "flat", "--on", "caffe-cpu", "--step")
    assert alone.out.endswith("): all 42 agree\n")  # no step shares a blob with another


@pytest.mark.caffe
def test_a_blob_that_is_overwritten_is_not_compared(lstmc: LSTMC, caffe: Runner) -> None:
    sizes = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
    ended = lstmc("verify", "--cell", "lstm_peephole", *sizes, "--on", "caffe-cpu")
    assert ended.out.endswith("): all 33 agree; not compared: 5 blobs (overwritten in place)\n")


CELL = ("--cell", "gru", "-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")


def test_a_reader_is_compared_in_what_it_gives_out(lstmc: LSTMC) -> None:
    ended = lstmc("verify", *CELL, "--on", "opencv", "-v")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split()[:2] for line in ended.out.splitlines() if line.endswith("ok")]
    assert [name for kind, name in rows if kind == "output"] == ["y", "h_T"]
    reasons = "19 blobs (the runtime exposes outputs only), 5 gradients (the runtime has no backward pass)"
    assert ended.out.endswith(
        f"opencv (gru.prototxt, gru.caffemodel): all {len(rows)} agree; not compared: {reasons}\n"
    )


def test_what_a_reader_refuses_is_said_in_its_own_words(lstmc: LSTMC) -> None:
    ended = lstmc("verify", "--cell", "lstm", *CELL[2:], "--on", "opencv", "--target", "caffe")
    assert ended.code == 2
    assert ended.err.startswith("ReaderError: OpenCV 4 DNN does not run the net: cv2.error: OpenCV(4")
    assert ended.err.endswith("\n  the net is for target caffe; the target for this program is --target opencv\n")


def test_readers_of_several_targets_need_one_named(lstmc: LSTMC) -> None:
    ended = lstmc("verify", *CELL, "--on", "opencv", "--on", "mnn")
    assert ended.code == 2
    assert ended.err == (
        "BackendError: these runtimes have targets of their own (opencv for opencv, mnn for mnn): choose one with"
        " --target\n"
    )


def test_an_unknown_place_is_refused(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("verify", str(model_file), *SIZES, "--on", "moon")
    assert ended.code == 2
    places = ", ".join(("interpreter", "native", "caffe-cpu", "caffe-gpu", *reader_names()))
    assert ended.err == f"BackendError: --on takes one of {places}, found 'moon'\n"


def test_caffe_absent_where_it_is_asked_for(lstmc: LSTMC, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMC_CAFFE_PYTHON", "/no/such/python")
    monkeypatch.delenv("LSTMC_CAFFE_PYTHONPATH", raising=False)
    ended = lstmc("verify", str(model_file), *SIZES, "--on", "caffe-cpu")
    assert ended.code == 2
    assert ended.err == (
        "BackendError: caffe-cpu cannot be used here\n"
        "  CaffeNotFound: the Caffe that the settings name does not work\n"
        "    tried LSTMC_CAFFE_PYTHON=/no/such/python: /no/such/python does not exist\n"
        "    fix: correct or unset LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH\n"
    )
    without = lstmc("verify", str(model_file), *SIZES)
    assert without.code == 0
    assert "caffe-cpu: not run: CaffeNotFound: the Caffe that the settings name does not work" in without.out


def test_inputs_of_a_file_and_weights_by_their_fillers(lstmc: LSTMC, model_file: Path) -> None:
    np.savez("x.npz", X=np.zeros((3, 2, 3)))
    ended = lstmc("verify", str(model_file), *SIZES, "--on", "interpreter", "--inputs", "x.npz", "--fillers")
    assert ended.code == 0, ended.err
    assert "its gradient is zero everywhere, so the comparison does not test it" in ended.out
    np.savez("y.npz", Y=np.zeros(2))
    refused = lstmc("verify", str(model_file), *SIZES, "--inputs", "y.npz")
    assert (refused.code, refused.err.splitlines()[1]) == (2, "  extra: Y [2]: the inputs are X")


def test_verify_says_what_is_proved(lstmc: LSTMC, model_file: Path) -> None:
    sizes = ("-D", "T=2", "-D", "N=1", "--on", "interpreter")
    ended = lstmc("verify", str(model_file), *sizes, "--prove")
    assert ended.code == 0
    assert ended.out.splitlines()[1].startswith("proved for all real inputs and parameters at these sizes (X [2, 1, ")
    assert ": outputs Y, h_T; gradients X, " in ended.out
    assert "proved" not in lstmc("verify", str(model_file), *sizes).out
    assert json.loads(lstmc("verify", str(model_file), *sizes, "--prove", "--json").out)["proof"]["proved"] is True
    assert ended.out.splitlines()[1] in lstmc("compile", str(model_file), *sizes[:4], "--prove").out.splitlines()
