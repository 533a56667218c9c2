"""The differential check itself: what is wrong in a net is found, and where; what is right passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from lstmc import (
    Input,
    Param,
    accuracy,
    constant,
    embed,
    linear,
    model,
    scan,
    sigmoid_cross_entropy_loss,
    softmax_loss,
    tanh,
    uniform,
)
from lstmc.backend import Artifact, Compiled, Execution, RunArrays, load_backend
from lstmc.cells import lstm
from lstmc.interp import forward
from lstmc.ir import Builder, Output, parse_graph
from lstmc.ops import Array, Split
from lstmc.ops import Input as InputOp
from lstmc.pipeline import compile_graph
from lstmc.verification.conditioning import RandomRounding, relative_gap
from lstmc.verification.differential import (
    InterpreterExecutor,
    _blobs,
    check,
    own_rounding,
    random_inputs,
    wanted_gradients,
)
from lstmc.verification.report import (
    LEAST_TOLERANCE,
    MARGIN,
    VALUE_TOLERANCE,
    Difference,
    NotCompared,
    Report,
    bounded,
)
from lstmc.weights import initial_weights

LSTM = lstm(H=3, name="lstm")


@model
def net(
    X=Input(4, 2, 5),
    h0=Input(2, 3, fill=constant(0.25)),
    noise=Input(2, 3, fill=uniform(-1, 1)),
    W=Param(2, 3, fill=uniform(-1, 1)),
    unused=Param(7),
):
    y, last = scan(LSTM, X, init={"h": h0, "c": noise})
    return {"y": y, "z": linear(tanh(last["c"]), W)}


@dataclass
class Meddling(InterpreterExecutor):
    """The interpreter, and then something done to what it found."""

    meddle: Callable[[Execution], Execution]
    name = "meddling"

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        return self.meddle(super().run(compiled, artifact, arrays))


def compiled_net() -> tuple[Compiled, Artifact, dict[str, Array]]:
    backend = load_backend("caffe")
    graph = net.graph()
    compiled, weights = compile_graph(graph, backend), initial_weights(graph)
    return compiled, backend.emit(compiled, weights), weights


def report_of(meddle: Callable[[Execution], Execution], seed: int = 0) -> Report:
    return check(*compiled_net(), Meddling(meddle), seed)


def failed(report: Report) -> set[tuple[str, str]]:
    return {(d.kind, d.name) for d in report.differences if not d.passed}


def shifted(arrays: Mapping[str, Array], name: str, by: float) -> dict[str, Array]:
    """The arrays, with one element of one of them changed."""
    array = np.array(arrays[name])
    array.flat[-1] += by
    return {**arrays, name: array}


def test_what_is_right_passes_and_every_array_is_in_the_report() -> None:
    report = report_of(lambda found: found)
    assert report.executor == "meddling"
    assert report.passed
    named = {(d.kind, d.name): d for d in report.differences}
    outputs = {("output", "y"), ("output", "z")}
    gradients = {("gradient", name) for name in ("X", "h0", "noise", "W", "unused", "lstm/W_x", "lstm/b", "lstm/W_h")}
    assert outputs | gradients == {key for key in named if key[0] != "blob"}
    assert all(d.tolerance == LEAST_TOLERANCE for d in named.values())
    assert named["blob", "lstm/t*/h"].count == 4  # the steps of one name are one line
    assert named["blob", "X"].count == 1


@pytest.mark.parametrize("by", [2e-5, -1.0, np.nan, np.inf])
def test_one_wrong_element_of_an_output_is_found(by: float) -> None:
    report = report_of(lambda found: replace(found, values=shifted(found.values, "z", by)))
    assert failed(report) == {("output", "z"), ("blob", "z")}


@pytest.mark.parametrize("by", [2e-4, np.nan])
def test_one_wrong_element_of_one_step_s_blob_is_found(by: float) -> None:
    report = report_of(lambda found: replace(found, values=shifted(found.values, "lstm/t001/c", by)))
    assert failed(report) == {("blob", "lstm/t*/c")}


@pytest.mark.parametrize(("kind", "name"), [("param_gradients", "lstm/W_h"), ("input_gradients", "X")])
@pytest.mark.parametrize("by", [0.01, np.nan])
def test_one_wrong_element_of_a_gradient_is_found(kind: str, name: str, by: float) -> None:
    report = report_of(lambda found: replace(found, **{kind: shifted(getattr(found, kind), name, by)}))
    assert failed(report) == {("gradient", name)}


def test_a_gradient_that_is_not_there_counts_as_zero() -> None:
    def without(name: str) -> Callable[[Execution], Execution]:
        return lambda found: replace(
            found, param_gradients={n: a for n, a in found.param_gradients.items() if n != name}
        )

    assert failed(report_of(without("W"))) == {("gradient", "W")}
    assert report_of(without("unused")).passed  # it is zero


def test_what_an_executor_does_not_give_is_listed_and_never_agrees_in_silence() -> None:
    def less(found: Execution) -> Execution:
        gone = ("lstm/t001/c", "lstm/t002/c")
        return replace(
            found,
            values={n: a for n, a in found.values.items() if n not in gone},
            param_gradients={n: a for n, a in found.param_gradients.items() if n != "W"},
            absent={"lstm/t001/c": "overwritten in place"},
            not_available={"W": "lost", "unused": "lost"},
        )

    report, whole = report_of(less), report_of(lambda found: found)
    assert report.not_compared == (
        NotCompared("blob", "lstm/t*/c", 1, "overwritten in place"),
        NotCompared("blob", "lstm/t*/c", 1, "it is not read back"),
        NotCompared("gradient", "W", 1, "lost"),
        NotCompared("gradient", "unused", 1, "lost"),
    )
    count = len(whole.differences)
    assert (whole.not_compared, whole.verdict()) == ((), f"all {count} agree")
    assert report.passed
    assert report.verdict() == (
        f"all {count - 2} agree; not compared: 1 blob (overwritten in place), 1 blob (it is not read back),"
        " 2 gradients (lost)"
    )
    wrong = report_of(lambda found: less(replace(found, values=shifted(found.values, "z", 1.0))))
    assert wrong.verdict().startswith(f"2 of {count - 2} differ; not compared: 1 blob (")


def test_an_input_whose_gradient_cannot_be_had_is_listed_too() -> None:
    not_available = dict.fromkeys(("X", "h0", "noise"), "forward only")
    report = report_of(lambda found: replace(found, input_gradients={}, not_available=not_available))
    assert report.passed
    assert NotCompared("gradient", "X", 1, "forward only") in report.not_compared
    assert ("gradient", "X") not in {(d.kind, d.name) for d in report.differences}


def test_differences_within_rounding_pass() -> None:
    def rounded(found: Execution) -> Execution:
        return Execution(
            {name: a * (1 + 3e-7) for name, a in found.values.items()},
            {name: a * (1 + 3e-7) for name, a in found.input_gradients.items()},
            {name: a * (1 - 3e-7) for name, a in found.param_gradients.items()},
        )

    assert report_of(rounded).passed


def test_what_is_off_by_more_than_the_graph_rounds_is_found() -> None:
    """Within the limits of all nets, 1e-5 and 1e-4, and past what rounding moves in this one."""
    by = 9e-6
    report = report_of(lambda found: replace(found, values=shifted(found.values, "lstm/t003/h", by)))
    assert failed(report) == {("blob", "lstm/t*/h")}
    scaled = report_of(
        lambda found: replace(found, param_gradients={n: a * (1 + by) for n, a in found.param_gradients.items()})
    )
    assert failed(scaled) == {("gradient", name) for name in ("W", "lstm/W_x", "lstm/b", "lstm/W_h")}


def test_a_tolerance_is_what_rounding_moves_and_a_pass_may_not_add_to_it() -> None:
    def moved(by: float) -> Iterator[dict[tuple[str, str], float]]:
        for part in (by / 2, by):
            yield {("output", "y"): part, ("blob", "y"): part}

    def bounds(written: float, own: float, relative: float, exact: bool = True) -> list[tuple[float, bool]]:
        compared = [Difference(kind, "y", 1, 0.0, relative, VALUE_TOLERANCE) for kind in ("output", "blob")]
        return [(d.tolerance, d.passed) for d in bounded(compared, moved(written), moved(own), exact)]

    assert bounds(1.0, 1.0, 9e-7) == 2 * [(LEAST_TOLERANCE, True)]
    assert bounds(1e-8, 1e-8, 2e-6) == 2 * [(LEAST_TOLERANCE, False)]
    assert bounds(2e-6, 1e-8, 3e-6) == 2 * [(MARGIN * 2e-6, True)]
    assert bounds(2e-6, 1e-8, 1.5e-6) == 2 * [(MARGIN * 1e-6, True)]  # after the first run
    assert bounds(1e-3, 1e-8, 1.5e-3) == [(VALUE_TOLERANCE, False), (MARGIN * 1e-3, True)]  # a pass
    assert bounds(1e-3, 1e-3, 1.5e-3) == 2 * [(MARGIN * 1e-3, True)]
    assert bounds(1e-3, 1e-3, 5e-3) == 2 * [(MARGIN * 1e-3, False)]
    assert bounds(np.nan, np.nan, 2e-6) == 2 * [(LEAST_TOLERANCE, False)]
    assert bounds(1e-8, 1e-8, 9e-6, exact=False) == 2 * [(VALUE_TOLERANCE, True)]


@model
def cancelling(X=Input(3, 4)):
    return {"y": (tanh(X) + 40) - 40}


class Half(InterpreterExecutor):
    """A program that computes in float16."""

    dtype = np.float16

    def __init__(self, dtype: Any = np.float16, **moved: float) -> None:
        self.said, self.moved = dtype, moved

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        found = super().run(compiled, artifact, arrays)
        gone = dict.fromkeys(found.input_gradients, "forward only")
        values = {name: array + self.moved.get(name, 0) for name, array in found.values.items()}
        return replace(found, values=values, input_gradients={}, not_available=gone, tolerance=1e-2, dtype=self.said)


def test_rounding_is_that_of_the_numbers_that_a_program_computes_in() -> None:
    graph, backend = cancelling.graph(), load_backend("caffe")
    compiled = compile_graph(graph, backend, passes=lambda listed: [p for p in listed if p.name != "simplify"])
    artifact = backend.emit(compiled, {})
    half, single, wrong = (
        check(compiled, artifact, {}, executor) for executor in (Half(), Half(np.float32), Half(y=0.3))
    )
    assert half.passed
    assert half.remarks[0].startswith("output y is ill-conditioned: rounding to float16 alone moves it by ")
    assert not single.passed
    assert not wrong.passed


@model
def kept(C=Input(2, 3), v=Input(2, 1)):
    return {"y": C * v + C * (1 - v), "z": C * v}


@pytest.mark.parametrize(("output", "least", "most"), [("y", 1e-8, 5e-6), ("z", 1e-8, 1e-6)])
def test_terms_of_a_gradient_are_rounded_though_they_cancel(output: str, least: float, most: float) -> None:
    """A program that adds them in another order leaves their rounding, where the interpreter leaves 0."""
    rng, graph = np.random.default_rng(0), kept.graph()
    arrays = RunArrays({"C": rng.normal(size=(2, 3)), "v": np.ones((2, 1))}, {}, {output: rng.normal(size=(2, 3))})
    *_, moved = own_rounding(forward(graph, arrays.inputs), arrays, ["v"])
    assert least < moved["gradient", "v"] < most


CANCELLING = """\
graph g {
  %x: f32[1] = input()
  %h: f32[1] = tanh(%x)
  %p: f32[1] = mul(%h, %h)
  %y: f32[1] = affine(%p, scale=-1.0, shift=1.0)
  return y=%y
}
"""


@pytest.mark.parametrize("x", np.linspace(2, 3, 12))
def test_a_value_that_cancels_is_moved_in_some_of_three_runs_whatever_its_number(x: float) -> None:
    """1 - tanh(x)**2 of a large x has the rounding of tanh, which in float32 itself may be none."""
    graph = parse_graph(CANCELLING)
    arrays = RunArrays({"x": np.array([x])}, {}, {})
    *_, moved = own_rounding(forward(graph, arrays.inputs), arrays)
    assert 1e-6 < moved["output", "y"] < 1e-5  # steps of 1.2e-7, relative to a tenth


def test_what_no_program_rounds_is_not_moved() -> None:
    """Whole numbers and halves, what a maximum takes, and so its gradient; a sum of many terms is moved further."""
    text = "graph g {\n  %x: f32[9] = input()\n  %y: f32[] = max(%x, axis=0)\n  return y=%y\n}\n"
    graph, x, one = parse_graph(text), np.arange(9) / 2, {"y": np.ones(())}
    *_, moved = own_rounding(forward(graph, {"x": x}), RunArrays({"x": x}, {}, one), ["x"])
    assert moved == {("output", "y"): 0, ("gradient", "x"): 0}
    (y,) = RandomRounding(0, np.float32).results(graph, graph.node("y"), (x,), (np.float32(0.1),))
    assert abs(y - 0.1) == pytest.approx(3 * 2.0**-23 * 0.1, rel=0.1)


def test_differences_are_relative_to_the_largest_element_but_never_to_less_than_a_tenth() -> None:
    difference = Difference("output", "y", 1, absolute=1.0, relative=0.5, tolerance=0.5)
    assert difference.passed
    assert not replace(difference, relative=0.50001).passed
    assert not replace(difference, relative=float("nan")).passed
    report = report_of(lambda found: replace(found, values=shifted(found.values, "h0", 0.5)))
    (h0,) = (d for d in report.differences if (d.kind, d.name) == ("blob", "h0"))
    assert (h0.absolute, h0.relative) == (0.5, 2.0)  # every element of h0 is 0.25
    unwanted = {"unused": np.full(7, 1e-3)}
    report = report_of(lambda found: replace(found, param_gradients=found.param_gradients | unwanted))
    (unused,) = (d for d in report.differences if d.name == "unused")
    assert unused.relative == pytest.approx(1e-2)  # of 0.1, not of 0


def test_what_a_net_draws_by_itself_is_taken_from_the_net() -> None:
    compiled, _, _ = compiled_net()
    assert set(random_inputs(compiled, 0)) == {"X", "h0"}  # noise is drawn anew at each forward
    assert np.all(random_inputs(compiled, 0)["h0"] == 0.25)


def test_the_same_seed_draws_the_same_inputs_and_another_seed_others() -> None:
    compiled, _, _ = compiled_net()
    first, same, other = (random_inputs(compiled, seed)["X"] for seed in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, first.astype(np.float32))  # float32 can hold them, so feeding loses nothing


def test_two_seeds_both_pass_and_differ() -> None:
    reports = [report_of(lambda found: found, seed) for seed in (1, 2)]
    assert all(report.passed for report in reports)
    assert reports[0].differences != reports[1].differences


@model
def judged(
    X=Input(3, 2),
    label=Input(3, 2),
    target=Input(3, 2, 4),
    E=Param(5, 4, fill=uniform(-1, 1)),
    noise=Input(3, 2, 4),
):
    scores = embed(X, E) + noise
    return {
        "loss": softmax_loss(scores, label, ignore_label=-1),
        "cross": sigmoid_cross_entropy_loss(scores, target),
        "right": accuracy(scores, label, ignore_label=-1),
    }


def test_inputs_are_drawn_from_what_their_elements_must_be() -> None:
    backend = load_backend("caffe")
    compiled = compile_graph(judged.graph(), backend)
    drawn = [random_inputs(compiled, seed) for seed in range(20)]
    assert {n for found in drawn for n in np.unique(found["X"])} == {0, 1, 2, 3, 4}
    assert {n for found in drawn for n in np.unique(found["label"])} == {-1, 0, 1, 2, 3}
    assert len({n for found in drawn for n in np.unique(found["noise"])}) == 20 * 24


@pytest.mark.parametrize(("factor", "equal"), [(1.0, True), (0.0, False), (1e-39, False)])
def test_inputs_have_the_number_that_a_model_compares_them_with_if_one_is_equal(factor: float, equal: bool) -> None:
    graph = parse_graph(f"""
        graph masked {{
          %x: f32[6,4] = input()
          %affine: f32[6,4] = affine(%x, scale={factor}, shift=3.0)
          %abs: f32[6,4] = abs(%affine)
          %stop: f32[6,4] = stop_gradient(%abs)
          return y=%stop
        }}
    """)
    made, _, _ = compiled_net()
    found = random_inputs(replace(made, model=graph), 0)["x"]
    assert np.isfinite(found).all()
    assert ((found == -3.0).sum() == 6) == equal


def test_what_has_no_gradient_is_not_compared_and_sends_none_back() -> None:
    backend = load_backend("caffe")
    graph = judged.graph()
    compiled, weights = compile_graph(graph, backend), initial_weights(graph)
    assert wanted_gradients(compiled, ["loss", "cross", "right"]) == ()
    assert wanted_gradients(compiled, ["loss", "cross"]) == ("noise",)
    asked: list[set[str]] = []

    @dataclass
    class Listening(InterpreterExecutor):
        name = "listening"

        def run(self, compiled, artifact, arrays):
            asked.append(set(arrays.cotangents))
            return super().run(compiled, artifact, arrays)

    report = check(compiled, backend.emit(compiled, weights), weights, Listening())
    assert report.passed
    assert asked == [{"loss", "cross"}]
    assert {d.name for d in report.differences if d.kind == "gradient"} == {"noise", "E"}
    assert {d.name for d in report.differences if d.kind == "output"} == {"loss", "cross", "right"}


def test_gaps_are_relative_to_the_largest_magnitude() -> None:
    assert relative_gap(np.array([1.0, 4.5]), np.array([1.0, 4.0])) == 0.125
    assert relative_gap(np.array([[0.01]]), np.array([0.0])) == pytest.approx(0.1)
    assert np.isnan(relative_gap(np.array([np.nan, 1]), np.array([1.0, 1])))
    assert np.isnan(relative_gap(np.array([np.inf, 1]), np.array([np.inf, 1])))  # without a warning


def test_a_piece_is_measured_by_what_it_was_cut_from() -> None:
    """Of a blob that is all rounding, beside one that is large, float32 leaves no more than of the whole."""
    b = Builder("pieces")
    (x,) = b.add(InputOp((1, 2)), names=("x",))
    small, large = b.add(Split(1, (1, 1)), x, names=("small", "large"))
    graph = b.finish([Output("small", small), Output("large", large)])
    values = forward(graph, {"x": np.array([[1e-7, 1000.0]])}, {})
    found = {"x": np.array([[1e-2, 1000.0]]), "small": np.array([[1e-2]]), "large": np.array([[1000.0]])}
    differences = {d.name: d for d in _blobs(values, Execution(found, {}, {}), {})}
    assert differences["small"].relative == pytest.approx(1e-5, rel=1e-3)
    assert differences["large"].passed
