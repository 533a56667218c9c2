"""``--tune``: every form of a net means the same, the fastest measured one is taken, and it is remembered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lstmc.backend import Artifact, Compiled, load_cell
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.nets.tune import RULE, TUNED, tune
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor, fastest_seconds, with_loss
from lstmc_caffe.runtime.runner import Runner
from tests.quick_sample import one_in

FORMS = ("unit", "packed", "separate", "unit-in-loop", "packed-in-loop", "separate-in-loop")


class Stopwatch(CaffeBackend):
    """The Caffe backend with a clock that says what it is told to."""

    def __init__(self, seconds: Mapping[str, float], build: str = "this one") -> None:
        super().__init__()
        self.told = seconds
        self.named = build
        self.asked: list[set[str]] = []

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        self.asked.append(set(artifacts))
        return {form: self.told.get(form, 9.0) for form in artifacts}

    def build(self) -> str:
        return self.named


def lstm(steps: int = 3) -> tuple:
    graph = CellModel(load_cell("lstm")).graph(T=steps, N=2, D=3, H=4)
    return graph, initial_weights(graph)


def test_the_fastest_form_is_taken_and_remembered(tmp_path: Path) -> None:
    backend = Stopwatch({"packed": 0.5})
    graph, weights = lstm()
    first = tune(graph, backend, "caffe", weights, folder=tmp_path)
    assert (first.form, first.remembered) == ("packed", False)
    assert backend.asked == [{RULE, *FORMS}]
    again = tune(graph, backend, "caffe", weights, folder=tmp_path)
    assert (again.form, again.seconds, again.remembered) == ("packed", first.seconds, True)
    assert len(backend.asked) == 1


def test_linear_recurrences_are_measured_in_parallel_in_time_too(tmp_path: Path) -> None:
    backend = Stopwatch({"chunks": 0.5})
    graph = CellModel(load_cell("min_gru")).graph(T=9, N=2, D=3, H=4)
    weights = initial_weights(graph)
    tuning = tune(graph, backend, "caffe", weights, folder=tmp_path)
    assert (tuning.form, tuning.time) == ("chunks", "chunks")
    assert {"chunks", "doubling"} < backend.asked[0]
    tune(graph, backend, "caffe", weights, folder=tmp_path, in_time=False)
    assert {"chunks", "doubling"}.isdisjoint(backend.asked[1])
    assert {"chunks", "doubling"} < set(tuning.seconds)


def test_the_unrolled_form_is_measured_where_the_rule_takes_another(tmp_path: Path) -> None:
    backend = Stopwatch({"unrolled": 0.5})
    for steps, own in ((9, False), (64, True)):
        graph = CellModel(load_cell("min_gru")).graph(T=steps, N=1, D=3, H=4)
        weights = initial_weights(graph)
        tuning = tune(graph, backend, "opencv", weights, folder=tmp_path)
        assert (tuning.time == "unrolled") is own
        assert ("unrolled" in backend.asked[-1]) is own


def test_products_are_measured_where_a_net_has_them(tmp_path: Path) -> None:
    """Where it is trained, or has other factors at each step, they would be the chunks that are measured already."""
    backend = Stopwatch({"products": 0.5})
    for cell, target, own in (("lru", "flat", True), ("lru", "caffe", False), ("min_gru", "flat", False)):
        sizes = {"T": 6, "N": 1, "D": 3, "H": 4} | ({"P": 4} if cell == "lru" else {})
        graph = CellModel(load_cell(cell)).graph(**sizes)
        tuning = tune(graph, backend, target, initial_weights(graph), folder=tmp_path)
        assert (tuning.time == "products") is own
        assert ("products" in backend.asked[-1]) is own


def test_a_form_that_does_not_take_the_model_is_left_out_and_what_was_measured_is_remembered(tmp_path: Path) -> None:
    class Refusing(Stopwatch):
        def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
            if "find_lstm_unit" not in {snapshot.pass_name for snapshot in compiled.history}:
                raise BackendError("no gates")
            return super().emit(compiled, weights)

    backend = Refusing({"unit": 0.5})
    graph, weights = lstm()
    assert tune(graph, backend, "caffe", weights, folder=tmp_path).form == "unit"
    assert backend.asked == [{RULE, "unit", "unit-in-loop"}]
    assert tune(graph, backend, "caffe", weights, folder=tmp_path).remembered


@pytest.mark.parametrize("what", ["shape", "build", "target"])
def test_what_changes_the_figures_is_measured_anew(tmp_path: Path, what: str) -> None:
    backend = Stopwatch({"unit": 0.5})
    graph, weights = lstm()
    tune(graph, backend, "caffe", weights, folder=tmp_path)
    if what == "shape":
        graph, weights = lstm(steps=4)
    if what == "build":
        backend.named = "another one"
    tune(graph, backend, "flat" if what == "target" else "caffe", weights, folder=tmp_path)
    assert len(backend.asked) == 2
    assert len(json.loads((tmp_path / TUNED).read_text())) == 2


@pytest.mark.parametrize(
    "damage",
    one_in(
        3,
        [
            lambda text: "{",
            lambda text: "[1]",
            lambda text: "[" * 100_000,
            lambda text: text.replace("0.5", '"fast"'),
            lambda text: text.replace('"unit"', '"unicorn"'),  # no form that there is
            lambda text: re.sub(r'("\w{64}": )\{[^}]*\}', r"\1{}", text),
        ],
    ),
)
def test_a_damaged_record_is_measured_anew(tmp_path: Path, damage: Callable[[str], str]) -> None:
    backend = Stopwatch({"unit": 0.5})
    graph, weights = lstm()
    assert not tune(graph, backend, "caffe", weights, folder=tmp_path).remembered
    path = tmp_path / TUNED
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    again = tune(graph, backend, "caffe", weights, folder=tmp_path)
    assert (again.form, again.remembered) == ("unit", False)
    assert tune(graph, backend, "caffe", weights, folder=tmp_path).remembered


@pytest.mark.caffe
@pytest.mark.parametrize("cell", ["lstm", "gru", "lstm_peephole"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same(caffe: Runner, cell: str, form: str) -> None:
    backend = CaffeBackend()
    assert tuple(backend.forms("caffe")) == FORMS
    graph = CellModel(load_cell(cell)).graph(T=3, N=2, D=3, H=4)
    weights = initial_weights(graph)
    compiled = compile_graph(graph, backend, "caffe", form=form)
    artifact = backend.emit(compiled, weights)
    for executor in (InterpreterExecutor(), CaffeExecutor(caffe, "cpu")):
        assert check(compiled, artifact, weights, executor).passed


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_a_target_whose_outputs_are_other_blobs_is_timed_too(caffe: Runner, target: str) -> None:
    backend = CaffeBackend()
    graph, weights = lstm()
    seconds = backend.seconds({RULE: backend.emit(compile_graph(graph, backend, target), weights)})
    assert 0 < seconds[RULE] < 1


@pytest.mark.caffe
def test_the_clock_times_every_net_forward_and_backward(caffe: Runner) -> None:
    backend = CaffeBackend()
    nets = {}
    for steps in (2, 40):
        graph, weights = lstm(steps)
        artifact = backend.emit(compile_graph(graph, backend), weights)
        nets[str(steps)] = with_loss(artifact.files["lstm.prototxt"].decode(), sorted(artifact.outputs.values()))
    seconds = fastest_seconds(caffe, nets)
    assert set(seconds) == {"2", "40"}
    assert 0 < seconds["2"] < seconds["40"] < 1  # twenty times the layers; no close race
