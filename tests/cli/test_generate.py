"""``lstmc generate``: a language model's net, one step after another in real Caffe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.cli.generate import Writer, drawn
from lstmc.cli.vocabulary import Vocabulary, read_vocabulary
from lstmc.errors import DataError
from lstmc.interp import forward
from lstmc.weights import initial_weights
from tests.cli.conftest import LSTMC

SYMBOLS = "\nab cdéf"
MODEL = """\
from lstmc import Input, Param, dims, embed, linear, model, scan, softmax, uniform
from lstmc.cells.gru import gru

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


class Echo:
    """A net whose likeliest next symbol is the one after the last; its state counts the steps."""

    inputs: Mapping[str, tuple[int, ...]] = {"ids": (1, 1), "cont": (1, 1)}
    outputs: Mapping[str, tuple[int, ...]] = {"p": (1, 1, 4)}
    states: Mapping[str, tuple[int, ...]] = {}

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def start(self, states: Mapping[str, Any]) -> None:
        self.seen = []

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.seen.append((float(inputs["ids"][0, 0]), float(inputs["cont"][0, 0])))
        p = np.full((1, 1, 4), 0.1, np.float32)
        p[0, 0, (int(inputs["ids"][0, 0]) + 1) % 4] = 0.7
        return {"p": p}


def test_every_symbol_is_fed_once_and_sequences_go_on() -> None:
    net = Echo()
    writer = Writer(net, "ids", "p")
    assert list(writer.write([3, 1], 5, 0, 0)) == [2, 3, 0, 1, 2]
    assert net.seen == [(3, 1), (1, 1), (2, 1), (3, 1), (0, 1), (1, 1)]


def test_temperature_sharpens_and_flattens() -> None:
    p = np.array([0.5, 0.3, 0.2, 0.0], np.float32)

    def share(temperature: float) -> list[float]:
        rng = np.random.default_rng(0)
        counts = np.bincount([drawn(p, temperature, rng) for _ in range(4000)], minlength=4)
        return [float(count) for count in counts / 4000]

    assert share(1) == pytest.approx([0.5, 0.3, 0.2, 0], abs=0.03)
    square = np.array([0.25, 0.09, 0.04, 0]) / 0.38
    assert share(0.5) == pytest.approx(list(square), abs=0.03)
    assert share(1e-9) == share(0) == [1, 0, 0, 0]
    assert share(1e9) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=0.03)


@pytest.mark.parametrize("numbers", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1]])
def test_what_are_no_probabilities(numbers: list[float]) -> None:
    with pytest.raises(DataError) as caught:
        drawn(np.array(numbers), 1, np.random.default_rng(0))
    assert str(caught.value).startswith(
        "DataError: expected probabilities that add up to 1 and are not below 0, as softmax makes them, found "
    )


def test_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "symbols.txt"
    path.write_bytes("a\r\né".encode())
    assert read_vocabulary(path).symbols == ("a", "\r", "\n", "é")
    path = tmp_path / "symbols.json"
    path.write_text(json.dumps(["a", "ab", "<end>", "."]))
    words = read_vocabulary(path)
    assert words.symbols == ("a", "ab", "<end>", ".")
    assert words.ids("aba.<end>") == [1, 0, 3, 2]
    assert (words.start, Vocabulary(("a", "\n"), "here").start) == ([0], [1])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("s.txt", None, "no such file"),
        ("s.txt", b"\xff", "expected the symbols as UTF-8 text, found something else"),
        ("s.txt", b"", "expected the symbols in the order of their ids, found none"),
        ("s.txt", b"abca\nb", "each symbol has one id, found more than once: 'a', 'b'"),
        ("s.json", b"[1, 2]", "expected a JSON list of symbols, found something else"),
        ("s.json", b'["a", ""]', "expected a JSON list of symbols, found something else"),
        ("s.json", b"abc", "expected a JSON list of symbols, found something else"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_vocabulary(path)
    assert str(caught.value) == f"DataError: {path}: {text}"


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
        "BackendError: lm.prototxt: expected a net of one step, found one without states\n  compile it with --step\n"
    )
    assert lstmc("compile", "--cell", "gru", *sizes, "--step").code == 0
    Path("gru.prototxt").rename("lm.prototxt")
    Path("gru.manifest.json").rename("lm.manifest.json")
    assert refused(lstmc) == (
        "BackendError: lm.prototxt: x is [1, 2, 1]: expected one id a step, compile it with a batch of one\n"
    )
