"""The examples in docs/examples: each of their models is checked in real Caffe, and one is trained as its text says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lstmc
from lstmc.api.models import model_in
from lstmc.data import batch_axes, dataset_for
from lstmc.files.arrays import read_arrays
from lstmc.pipeline import compile_graph
from lstmc.prepare import training_graph
from lstmc_caffe import CaffeBackend, Solver
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees

pytestmark = pytest.mark.walk

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
# Small sizes: of dimensions, and of what a file has as numbers.
MODELS = {
    "digits.py:lstm_digits": {"N": 3},
    "digits.py:gru_digits": {"N": 3},
    "digits.py:peephole_digits": {"N": 3},
    "digits.py:bidirectional_digits": {"N": 3},
    "digits.py:digits": {"N": 3, "H": 4},
    "adding.py:lstm_adds": {"N": 2},
    "adding.py:rnn_adds": {"N": 2},
    "char_lm.py:char_lm": {"T": 4, "N": 2},
    "reverse.py:reverse": {"N": 2},
    "attention.py:attention": {"N": 2},
    **{
        f"five_cells.py:{cell}_{task}": {"T": 4, "N": 2}
        for cell in ("min_gru", "slstm", "mamba", "lstm_layernorm", "lmu")
        for task in ("digits", "adds")
    },
}


def test_every_model_of_the_examples_is_here() -> None:
    found = {path.name for path in EXAMPLES.glob("*.py")} - {"lstm_demo.py"}
    assert found == {name.partition(":")[0] for name in MODELS}


@pytest.mark.caffe
@pytest.mark.parametrize("name", MODELS)
def test_the_net_of_an_example_means_its_model(caffe: Runner, name: str) -> None:
    """Everything of it: what is deployed, the losses and the scores, forward and backward."""
    source = model_in(str(EXAMPLES / name))
    assert isinstance(source.model.solver, Solver)
    graph = source.graph(MODELS[name])
    assert_caffe_agrees(caffe, compile_graph(graph, CaffeBackend()))


@pytest.mark.slow
@pytest.mark.caffe
def test_digits_are_learned_as_the_example_says(caffe: Runner, tmp_path: Path) -> None:
    """The commands of its own text, word for word, but for the model: the one that is trained fastest."""
    text = (EXAMPLES / "digits.py").read_text().split('"""')[1]
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("    ")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for words in commands:
        line = [word.replace("lstm_digits", "gru_digits") for word in words]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/digits/lstm/metrics.jsonl").read_text().splitlines()]
    (last,) = [line for line in lines if line["kind"] == "test" and line["iteration"] == 600]
    assert last["scores"]["accuracy"] >= 0.96


def made_by(name: str, tmp_path: Path, *arguments: str) -> None:
    command = [sys.executable, EXAMPLES / name, *arguments, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "rows"),
    [
        ("digits.py:lstm_digits", {"N": 60}, 1437),
        ("adding.py:lstm_adds", {"N": 50}, 20_000),
        ("char_lm.py:char_lm", {"T": 50, "N": 32}, None),
        ("reverse.py:reverse", {"N": 64}, None),
        ("attention.py:attention", {"N": 50}, 24_000),
    ],
)
def test_the_data_of_an_example_fit_its_model(
    name: str, sizes: dict[str, int], rows: int | None, tmp_path: Path
) -> None:
    file = name.partition(":")[0]
    made_by(file, tmp_path, *([] if file in ("digits.py", "char_lm.py") else ["data"]))
    source = model_in(str(EXAMPLES / name))
    graph, axes = training_graph(source.graph(sizes)), batch_axes(source.model)
    for part in ("train", "test"):
        dataset = dataset_for(graph, axes, read_arrays(tmp_path / f"{part}.npz"), part)
        assert dataset.rows > 1
        if part == "train" and rows is not None:
            assert dataset.rows == rows


@pytest.mark.slow
def test_the_data_of_five_cells_fit_their_models(tmp_path: Path) -> None:
    made_by("five_cells.py", tmp_path, "data")
    for task, steps, rows in (
        ("digits", 64, {"train": 1437, "test": 360}),
        ("adds", 100, {"train": 20_000, "test": 1000}),
    ):
        source = model_in(str(EXAMPLES / f"five_cells.py:min_gru_{task}"))
        graph = training_graph(source.graph({"T": steps, "N": 40}))
        for part, count in rows.items():
            arrays = read_arrays(tmp_path / f"{task}_{part}.npz")
            assert dataset_for(graph, batch_axes(source.model), arrays, part).rows == count


def loaded(name: str) -> ModuleType:
    source = model_in(str(EXAMPLES / name))
    return sys.modules[source.model.function.__module__]


@pytest.mark.slow
def test_strings_to_test_on_are_not_among_those_to_train_on(tmp_path: Path) -> None:
    made_by("reverse.py", tmp_path, "data")
    train, test = ({tuple(s) for s in np.load(tmp_path / f"{part}.npz")["digits"].T} for part in ("train", "test"))
    assert not train & test
    assert len(test) == 1920


def test_the_character_model_writes_what_it_finds_likely() -> None:
    module = loaded("char_lm.py:char_lm")
    net = lstmc.compile(module.char_lm, N=1, step=True, outputs=["prob"])
    with net.stream(on="interpreter") as step:
        texts = [module.written(step, "The ", 12, temperature, seed) for temperature, seed in ((1, 0), (1, 1))]
    assert texts[0] != texts[1]
    with net.stream(on="interpreter") as step:
        text = module.written(step, "The ", 4, temperature=1e-9)
    for i in range(4, len(text)):  # the likeliest, of the whole sequence anew for each character: no state is carried
        ids = np.array([[module.SYMBOLS.index(c)] for c in text[:i]])
        whole = lstmc.compile(module.char_lm, T=i, N=1, outputs=["prob"])
        p = whole.run(ids=ids, cont=np.ones((i, 1)), on="interpreter")["prob"]
        assert module.SYMBOLS[int(p[-1, 0].argmax())] == text[i]


def test_the_n_gram_model_gives_probabilities() -> None:
    """What follows a context adds up to 1: 2 ** -bits of each symbol after the same text."""
    module = loaded("char_lm.py:char_lm")
    train, before = ["abcabd", "abe"], "ab"
    total = 0.0
    alone = module.ngram_bits(train, [before]) * len(before)
    for symbol in module.SYMBOLS:
        bits = module.ngram_bits(train, [before + symbol]) * (len(before) + 1) - alone
        total += 2**-bits
    assert total == pytest.approx(1)
