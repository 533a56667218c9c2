"""``lstmc generate``: a language model's net, one step after another in real Caffe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.interp import forward
from lstmc.weights import initial_weights
from tests.cli.conftest import LSTMC

SYMBOLS = "\nab cdéf"
MODEL = """\
from lstmc import Input, Param, dims, embed, linear, model, scan, softmax, uniform
from lstmc.cells import gru

T, N, V = dims("T N V")


@model
def lm(
    ids=Input(T, N), cont=Input(T, N),
    E=Param(8, 5, fill=uniform(-1, 1)), W=Param(V, 6, fill=uniform(-4, 4)),
):
    y, _ = scan(gru(H=6), embed(ids, E), cont=cont, carry=True)
    scores = linear(y, W)
    return {"p": softmax(scores), "scores": scores}
"""


def compiled(lstmc: LSTMC, *more: str, symbols: int = 8) -> None:
    Path("lm.py").write_text(MODEL)
    Path("symbols.txt").write_text(SYMBOLS)
    sizes = ("-D", "T=9", "-D", "N=1", "-D", f"V={symbols}")
    ended = lstmc("compile", "lm.py", *sizes, "--step", "--seed", "2", *more)
    assert (ended.code, ended.err) == (0, "")


def generate(lstmc: LSTMC, *more: str) -> str:
    ended = lstmc("generate", "lm.prototxt", "--vocab", "symbols.txt", "--read", "p", *more)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


@pytest.mark.caffe
def test_the_likeliest_text_is_what_the_model_says(lstmc: LSTMC, caffe: object) -> None:
    compiled(lstmc)
    text = generate(lstmc, "--prime", "bad", "--length", "20", "--temperature", "0")
    namespace: dict[str, Any] = {}
    exec(compile(MODEL, "lm.py", "exec"), namespace)
    ids = [SYMBOLS.index(c) for c in "bad"]
    for _ in range(20):  # the whole sequence anew for each symbol: no state is carried here
        graph = namespace["lm"].graph(T=len(ids), N=1, V=8)
        inputs = {"ids": np.array(ids)[:, None], "cont": np.ones((len(ids), 1))}
        p = forward(graph, inputs, initial_weights(graph, 2)).outputs["p"]
        ids.append(int(p[-1, 0].argmax()))
    assert text == "".join(SYMBOLS[i] for i in ids) + "\n"


@pytest.mark.caffe
def test_the_same_seed_is_the_same_text(lstmc: LSTMC, caffe: object) -> None:
    compiled(lstmc)
    texts = [generate(lstmc, "--length", "60", "--seed", seed) for seed in ("0", "0", "1")]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 61
    assert set(texts[0]) <= set(SYMBOLS)
    assert generate(lstmc, "--length", "60", "-o", "made/text.txt") == "wrote made/text.txt\n"
    assert Path("made/text.txt").read_text() == texts[0][:-1]
    assert generate(lstmc, "--length", "0", "--prime", "é") == "é\n"


def refused(lstmc: LSTMC, *arguments: str) -> str:
    ended = lstmc("generate", "lm.prototxt", "--vocab", "symbols.txt", *arguments)
    assert (ended.code, ended.out) == (2, "")
    return ended.err


def test_what_does_not_fit_is_said_before_caffe_starts(lstmc: LSTMC) -> None:
    compiled(lstmc)
    assert refused(lstmc, "--prime", "bad zoo") == (
        "DataError: --prime has 'z', 'o', which are not among the 8 symbols of symbols.txt\n"
    )
    assert refused(lstmc) == (
        "BackendError: lm.prototxt: expected one output for 8 symbols: name it with --read, one of p, scores\n"
    )
    assert refused(lstmc, "--read", "q") == (
        "BackendError: --read q: lm.prototxt has no such output: found p, scores, gru/h_T\n"
    )
    assert refused(lstmc, "--feed", "x") == "BackendError: --feed x: lm.prototxt has no such input: found ids\n"
    np.savez("states.npz", **{"gru/h": np.zeros((1, 5)), "GRU/h": np.zeros(6)})
    assert refused(lstmc, "--read", "p", "--states", "states.npz") == (
        "DataError: the first states do not fit lm.prototxt\n"
        "  extra: GRU/h [6]: did you mean gru/h?\n"
        "  wrong shape: gru/h must be [1, 6], found [1, 5]\n"
    )
    for given, text in (
        (np.full((1, 6), np.nan), "not finite: gru/h has 6 of 6 elements NaN or infinite, the first at [0, 0]"),
        (np.array([["a"] * 6]), "not numbers: gru/h has dtype <U1"),
    ):
        np.savez("states.npz", **{"gru/h": given})
        assert refused(lstmc, "--read", "p", "--states", "states.npz") == (
            f"DataError: the first states do not fit lm.prototxt\n  {text}\n"
        )
    Path("symbols.txt").write_text("abc")
    assert refused(lstmc, "--read", "p") == (
        "BackendError: symbols.txt has 3 symbols, but no output of lm.prototxt has as many: found p [1, 1, 8]\n"
    )


def test_an_indicator_of_another_name(lstmc: LSTMC) -> None:
    Path("lm.py").write_text(MODEL.replace("cont=Input(T, N)", "C=Input(T, N)").replace("cont=cont", "cont=C"))
    Path("symbols.txt").write_text(SYMBOLS)
    assert lstmc("compile", "lm.py", "-D", "T=9", "-D", "N=1", "-D", "V=8", "--step").code == 0
    assert refused(lstmc) == (
        "BackendError: lm.prototxt: expected one input for the ids, besides one called cont, found ids, C\n"
    )


def test_nets_that_are_no_language_model(lstmc: LSTMC) -> None:
    Path("symbols.txt").write_text(SYMBOLS)
    sizes = ("-D", "T=3", "-D", "N=2", "-D", "D=1", "-D", "H=8")
    assert lstmc("compile", "--cell", "gru", *sizes).code == 0
    Path("gru.prototxt").rename("lm.prototxt")
    Path("gru.manifest.json").rename("lm.manifest.json")
    Path("gru.caffemodel").rename("lm.caffemodel")
    assert refused(lstmc) == (
        "BackendError: lm.prototxt: expected a net of one step, found one of all steps\n  compile it with --step\n"
    )
    assert lstmc("compile", "--cell", "gru", *sizes, "--step").code == 0
    Path("gru.prototxt").rename("lm.prototxt")
    Path("gru.manifest.json").rename("lm.manifest.json")
    assert refused(lstmc) == (
        "BackendError: lm.prototxt: x is [1, 2, 1]: expected one id a step, compile it with a batch of one\n"
    )
