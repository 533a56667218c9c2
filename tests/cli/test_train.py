"""``lstmc train``: what a run leaves, how it stops and goes on, and what is refused before it begins."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lstmc_plugin_example.backend import TextBackend
from numpy.testing import assert_array_equal

from lstmc.api.models import backend_of
from lstmc.runs.metrics import CurveDrawing
from tests.cli.conftest import LSTMC, Ended
from tests.cli.interpreter_backend import InterpreterBackend

SIZES = ("-D", "T=3", "-D", "N=4")
MODEL = """\
from lstmc import Input, Param, State, accuracy, cell, constant, dims, linear, model, scan, softmax, softmax_loss, tanh
from lstmc import uniform

T, N, D, H = dims("T N D H")


@cell
def step(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=uniform(-1, 1)), U=Param(H, H, fill=uniform(-1, 1))):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}


@model
def net(X=Input(T, N, 2), label=Input(N), cont=Input(T, N, fill=constant(1)), V=Param(3, 4, fill=uniform(-1, 1))):
    _, last = scan(step(H=4), X, cont=cont)
    scores = linear(last["h"], V)
    return {"p": softmax(scores), "loss": softmax_loss(scores, label), "accuracy": accuracy(scores, label)}
"""


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend ``caffe`` of these tests trains in NumPy; ``text`` writes and does not train."""
    backends = {"caffe": (stand_in := InterpreterBackend()), stand_in.name: stand_in, "text": TextBackend()}
    monkeypatch.setattr(
        "lstmc.api.training.backend_of",
        lambda name, target=None: backends.get(name or "caffe") or backend_of(name, target),
    )
    monkeypatch.setattr("lstmc.api.training.CurveDrawing", Undrawn)


class Undrawn:
    """Stands in for :class:`CurveDrawing` where the curve is not looked at: to draw takes longer than to train."""

    def __init__(self, folder: Path) -> None:
        self.asked = folder / "asked"

    def start(self) -> None:
        self.asked.touch()

    def finish(self) -> None:
        self.asked.with_name("drawn").touch()


def arrays(examples: int = 22, **others: Any) -> dict[str, Any]:
    """Three kinds of sequences that are easy to tell apart; names in ``others`` that are None are left out."""
    label = np.arange(examples) % 3
    noise = np.random.default_rng(0).normal(size=(3, examples, 2))
    angle = label * 2 * np.pi / 3
    X = noise * 0.1 + np.stack([np.cos(angle), np.sin(angle)], -1)
    return {name: array for name, array in {"X": X, "label": label, **others}.items() if array is not None}


def train(lstmc: LSTMC, *more: str, data: dict[str, Any] | None = None) -> Ended:
    Path("net.py").write_text(MODEL)
    np.savez("data.npz", **(arrays() if data is None else data))
    return lstmc("train", "net.py", "--data", "data.npz", *SIZES, *more)


def metrics(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def weights(run: str) -> dict[str, Any]:
    with np.load(Path(run, "weights.npz")) as saved:
        return dict(saved)


@pytest.mark.slow
def test_what_a_run_leaves(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.api.training.CurveDrawing", CurveDrawing)
    np.savez("test.npz", **arrays(11))
    given = ("--test-data", "test.npz", "--seed", "3", "--solver", "max_iter=200", "--solver", "snapshot=50")
    ended = train(lstmc, "-o", "run", *given)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(
        "training on 22 examples in batches of 4, shuffled: 200 iterations, 36.4 epochs\n"
        "test scores are means over 8 of 11 examples: the others fill no batch\n"
    )
    assert "\niteration 50, snapshot: run/snapshot.npz\n" in ended.out
    assert re.search(r"\niteration 10, test: loss [\d.]+, accuracy [\d.]+\n", ended.out)
    assert re.search(r"\niteration 200 of 200: loss [\d.]+, rate 0.1, [\d,]+ examples/s, 0:00:00 left\n", ended.out)
    assert ended.out.endswith("finished after 200 iterations\n")
    left = {"command.json", "loss.png", "loss.svg", "metrics.jsonl", "net.lir", "net.sum", "weights.npz"}
    assert {path.name for path in Path("run").iterdir()} == {*left, "snapshot.npz"}
    assert all(f"run/{name} " in ended.out for name in left)
    lines = metrics("run")
    assert [(line["kind"], line["iteration"]) for line in lines if line["iteration"] in (10, 11)] == [
        ("train", 10),
        ("test", 10),
        ("train", 11),
    ]
    assert lines[-1]["scores"]["accuracy"] == 1
    assert lines[-2]["loss"] < lines[0]["loss"] / 2
    assert set(lines[0]) == {"kind", "iteration", "loss", "rate", "seconds"}
    assert set(lines[-1]) == {"kind", "iteration", "scores", "seconds"}
    assert {name: array.shape for name, array in weights("run").items()} == {
        "V": (3, 4),
        "step/W": (4, 2),
        "step/U": (4, 4),
    }
    written = float(Path("run/net.sum").read_text())
    assert written == pytest.approx(sum(float(array.sum()) for array in weights("run").values()), abs=1e-5)
    assert "loss" not in Path("run/net.lir").read_text()  # the net as it is used
    assert Path("run/loss.png").read_bytes().startswith(b"\x89PNG")
    assert "training loss" in Path("run/loss.svg").read_text()


def test_the_record_says_what_the_run_was_made_of(lstmc: LSTMC) -> None:
    train(lstmc, "-o", "run", "--seed", "3", "--solver", "max_iter=2")
    record = json.loads(Path("run/command.json").read_text())
    assert record["command"] == "lstmc train net.py --data data.npz -D T=3 -D N=4 -o run --seed 3 --solver max_iter=2"
    assert (record["model"], record["seed"], record["shuffle"], record["sizes"]) == (
        *("net.py:net", 3, True),
        {"T": 3, "N": 4},
    )
    assert record["settings"]["max_iter"] == 2
    assert record["data"]["examples"] == 22
    train(lstmc, "-o", "other", data=arrays(label=np.zeros(22)))
    assert json.loads(Path("other/command.json").read_text())["data"]["sha256"] != record["data"]["sha256"]


def test_the_same_seed_is_the_same_run(lstmc: LSTMC) -> None:
    for run, more in (("a", ()), ("b", ()), ("c", ("--seed", "1")), ("d", ("--no-shuffle",))):
        assert train(lstmc, "-o", run, *more).code == 0
    found = [weights(run)["V"] for run in "abcd"]
    assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[3])


def test_it_starts_from_given_weights(lstmc: LSTMC) -> None:
    train(lstmc, "-o", "a", "--solver", "max_iter=7", "--no-shuffle")
    train(lstmc, "-o", "b", "--weights", "a/weights.npz", "--solver", "base_lr=0")
    for name, array in weights("a").items():
        assert_array_equal(weights("b")[name], array)


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """SIGINT as in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_cleanly_and_it_goes_on_to_the_same_end(
    lstmc: LSTMC, heeded_signals: None, number: int, code: int
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    ended = train(lstmc, "-o", "run", "--solver", "interrupt=8", "--solver", f"number={int(number)}")
    assert (ended.code, ended.err) == (code, "")
    again = f"-D T=3 -D N=4 -o run --solver interrupt=8 --solver number={int(number)} --resume"
    assert ended.out.endswith(
        "stopped after 8 iterations, with the snapshot run/snapshot.npz\n"
        f"resume with: lstmc train net.py --data data.npz {again}\n"
    )
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert (metrics("run")[-1]["iteration"], Path("run/drawn").is_file()) == (8, True)
    assert train(lstmc, "-o", "run", "--resume").code == 0
    assert train(lstmc, "-o", "whole").code == 0
    for name, array in weights("whole").items():
        assert_array_equal(weights("run")[name], array)
    assert [line["iteration"] for line in metrics("run")] == list(range(1, 21))
    losses = [[line["loss"] for line in metrics(run)] for run in ("run", "whole")]
    assert losses[0] == losses[1]


def test_lines_past_the_snapshot_are_measured_again(lstmc: LSTMC) -> None:
    split = ("--test-split", "0.3")
    assert train(lstmc, "-o", "run", *split, "--solver", "fail=13").code == 2
    assert metrics("run")[-1]["iteration"] == 13
    with Path("run/metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "iter')  # as a kill leaves it
    assert train(lstmc, "-o", "run", *split, "--resume").code == 0
    assert [(line["kind"], line["iteration"]) for line in metrics("run")] == [
        *(("train", i) for i in range(1, 11)),
        ("test", 10),
        *(("train", i) for i in range(11, 21)),
        ("test", 20),
    ]


def test_a_run_that_fails_says_why_and_keeps_its_curve(lstmc: LSTMC) -> None:
    ended = train(lstmc, "-o", "run", "--solver", "fail=13")
    assert (ended.code, ended.err) == (2, "BackendError: the loss is NaN\n")
    assert Path("run/drawn").is_file()
    assert not Path("run/weights.npz").exists()


def test_an_input_with_a_fill_may_be_fed(lstmc: LSTMC) -> None:
    for run, cont in (("filled", None), ("ones", np.ones((3, 22))), ("zeros", np.zeros((3, 22)))):
        ended = train(lstmc, "-o", run, data=arrays(cont=cont))
        assert (ended.code, ended.err) == (0, "")
    assert_array_equal(weights("filled")["step/U"], weights("ones")["step/U"])
    assert not np.array_equal(weights("filled")["step/U"], weights("zeros")["step/U"])


def test_the_batch_axis_by_another_name(lstmc: LSTMC) -> None:
    Path("other.py").write_text(re.sub(r"\bN\b", "B", MODEL))
    np.savez("data.npz", **arrays())
    given = ("train", "other.py", "--data", "data.npz", "-D", "T=3", "-D", "B=4", "--solver", "max_iter=2")
    ended = lstmc(*given, "-o", "run")
    assert ended.code == 2
    assert ended.err == (
        "DataError: data.npz does not fit net\n"
        "  wrong shape: X must be [T=3, B=4, 2] or [batches, T=3, B=4, 2], found [3, 22, 2]\n"
        "  wrong shape: label must be [B=4] or [batches, B=4], found [22]\n"
        "  no input of net has an axis that counts examples, as N = dims('N') is\n"
    )
    ended = lstmc(*given, "-o", "run", "--batch", "B")
    assert (ended.code, ended.err) == (0, "")
    assert "training on 22 examples in batches of 4" in ended.out
