"""``one_step``: a step with states given and read is the scan's own step; what has no single step is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    concat,
    conv,
    dims,
    dropout,
    einsum,
    embed,
    exp,
    linear,
    max_pool,
    mean,
    model,
    reshape,
    scan,
    softmax_loss,
    split,
    step_index,
    sum,
    tanh,
    tile,
    uniform,
)
from lstmc.cells import gru
from lstmc.dsl import Model
from lstmc.errors import PassError
from lstmc.interp import forward
from lstmc.ir import Scan, parse_graph, print_graph, verify
from lstmc.passes import RollUp
from lstmc.prepare import StatePair, one_step
from lstmc.weights import initial_weights

T, N, D, H = dims("T N D H")

BEFORE = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = input()
  %W: f32[5,4] = param()
  %V: f32[1,5] = param()
  %G: f32[3,2,4] = tanh(%X)
  %Y, %h_T: f32[3,2,5], f32[2,5] = scan(%G, %h0, %W, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W: f32[5,4] = arg(role='weight')
      %z: f32[2,5] = linear(%x, %W)
      %h: f32[2,5] = mul(%z, %h_prev)
      return h=%h, next h=%h
    }
  }
  %R: f32[3,2,1] = linear(%Y, %V, axis=2)
  %F: f32[3,2] = reshape(%R, shape=(3, 2))
  return F=%F, h_T=%h_T
}
"""

AFTER = """\
graph net {
  %X: f32[1,2,4] = input()
  %W: f32[5,4] = param()
  %V: f32[1,5] = param()
  %G: f32[1,2,4] = tanh(%X)
  %step/h_in: f32[2,5] = input()
  %Y, %h_T: f32[1,2,5], f32[2,5] = scan(%G, %step/h_in, %W, length=1) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W: f32[5,4] = arg(role='weight')
      %z: f32[2,5] = linear(%x, %W)
      %h: f32[2,5] = mul(%z, %h_prev)
      return h=%h, next h=%h
    }
  }
  %R: f32[1,2,1] = linear(%Y, %V, axis=2)
  %F: f32[1,2] = reshape(%R, shape=(1, 2))
  return F=%F, h_T=%h_T, step/h_out=%h_T
}
"""


def test_before_and_after() -> None:
    made = one_step(parse_graph(BEFORE))
    assert print_graph(made.graph) == AFTER
    assert made.states == (StatePair("step/h", "step/h_in", "step/h_out", "h0"),)
    verify(made.graph)


def test_a_state_that_starts_from_a_constant_input_starts_from_its_number() -> None:
    graph = parse_graph(BEFORE.replace("%h0: f32[2,5] = input()", "%h0: f32[2,5] = input(fill=constant(0.5))"))
    assert one_step(graph).states == (StatePair("step/h", "step/h_in", "step/h_out", 0.5),)


@model
def stacked(X=Input(7, 2, 3), W=Param(2, 4)):
    y, _ = scan(gru(H=4, name="one"), X)
    y, last = scan(gru(H=4, name="two"), tanh(y))
    return {"y": linear(y, W), "h": last["h"]}


def test_steps_one_after_another_are_the_sequence() -> None:
    graph = stacked.graph()
    weights = initial_weights(graph)
    x = np.random.default_rng(0).normal(size=(7, 2, 3))
    wanted = forward(graph, {"X": x}, weights).outputs
    made = one_step(graph)
    states = {pair.before: np.full((2, 4), pair.initial) for pair in made.states}
    for t in range(7):
        found = forward(made.graph, {"X": x[t : t + 1]} | states, weights).outputs
        states = {pair.before: found[pair.after] for pair in made.states}
        assert_allclose(found["y"][0], wanted["y"][t], rtol=1e-12, atol=1e-12)
    assert_allclose(found["h"], wanted["h"], rtol=1e-12, atol=1e-12)


@cell
def plain(x=Input(N, D), h=State(N, H), *, W=Param(H, D)):
    h = tanh(linear(x, W) + h)
    return h, {"h": h}


@model
def backwards(X=Input(3, 2, 4)):
    y, _ = scan(plain(H=2), X, reverse=True)
    return {"y": y}


@model
def no_scan(X=Input(3, 2, 4)):
    return {"y": tanh(X)}


@model
def mixed(X=Input(3, 2, 4)):
    y, _ = scan(plain(H=4), concat(X, X, axis=0))
    return {"y": y}


@model
def flattened(X=Input(3, 2, 4)):
    y, _ = scan(plain(H=4), X)
    return {"y": reshape(y, 6, 4)}


@model
def film(
    X=Input(5, 2, 1, 3, 3),
    words=Input(5, 2),
    E=Param(6, 4, fill=uniform(-1, 1)),
    F=Param(4, 1, 2, 2, fill=uniform(-1, 1)),
):
    y, _ = scan(plain(H=4, name="plain"), mean(mean(max_pool(conv(X, F), 2, stride=1), axis=4), axis=3))
    return {"y": dropout(y) + embed(words, E), "z": einsum("tnd,kd->tnk", y, E)}


def test_layers_on_whole_sequences_have_a_step_too() -> None:
    graph = film.graph()
    rng, weights = np.random.default_rng(0), initial_weights(graph)
    x, words = rng.normal(size=(5, 2, 1, 3, 3)), rng.integers(0, 6, (5, 2))
    wanted = forward(graph, {"X": x, "words": words}, weights).outputs
    made = one_step(graph)
    state = np.zeros((2, 4))
    for t in range(5):
        fed = {"X": x[t : t + 1], "words": words[t : t + 1], "plain/h_in": state}
        found = forward(made.graph, fed, weights).outputs
        state = found["plain/h_out"]
        for name in ("y", "z"):
            assert_allclose(found[name][0], wanted[name][t], rtol=1e-12, atol=1e-12)


@model
def summed(X=Input(3, 2, 4)):
    y, _ = scan(plain(H=4), X)
    return {"total": sum(y, axis=0)}


@model
def judged(X=Input(3, 2, 4), label=Input(3, 2)):
    y, _ = scan(plain(H=4), X)
    return {"y": y, "loss": softmax_loss(y, label) * 2}


@model
def convolved(X=Input(3, 2, 4), F=Param(1, 3, 1, 1)):
    y, _ = scan(plain(H=4), X)
    return {"z": conv(y, F)}


@cell
def counting(x=Input(2, 4), h=State(2, 4)):
    h = tanh(h + x * step_index())
    return h, {"h": h}


@model
def counts_backwards(X=Input(3, 2, 4)):
    return {"y": scan(counting(), X, reverse=True)[0]}


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (
            counts_backwards,
            "PassError: one step of counts_backwards: counting runs backwards, so its first step needs the last input",
        ),
        (backwards, "PassError: one step of backwards: plain runs backwards, so its first step needs the last input"),
        (no_scan, "PassError: one step of no_scan: expected a model with a scan, found none"),
        (mixed, "PassError: one step of mixed: concat combines several time steps of %concat_X f32[6,2,4]"),
        (flattened, "PassError: one step of flattened: reshape combines several time steps of %y f32[6,4]"),
        (summed, "PassError: one step of summed: sum combines several time steps of %total f32[2,4]"),
        (
            judged,
            "PassError: one step of judged: softmax_loss combines several time steps of %softmax_loss_y_label f32[]",
        ),
        (convolved, "PassError: one step of convolved: conv combines several time steps of %z f32[1,2,4]"),
    ],
)
def test_what_has_no_single_step(made: object, error: str) -> None:
    with pytest.raises(PassError) as raised:
        one_step(made.graph())  # type: ignore[attr-defined]
    assert str(raised.value).splitlines()[0] == error


@cell
def decoder(x=Input(N, 4), s=Input(N, 4), h=State(N, 4)):
    h = tanh(x + s + h)
    return h, {"h": h}


@model
def read_by_a_step(X=Input(3, 2, 4)):
    _, last = scan(plain(H=4, name="enc"), X)
    y, _ = scan(decoder(name="dec"), X, static={"s": last["h"]})
    return {"y": y}


@model
def added_to_steps(X=Input(3, 2, 4)):
    y, last = scan(plain(H=4, name="enc"), X)
    return {"z": y + tanh(last["h"])}


@pytest.mark.parametrize(("made", "reader"), [(read_by_a_step, "y"), (added_to_steps, "z")])
def test_a_step_cannot_read_what_is_known_after_the_last(made: object, reader: str) -> None:
    with pytest.raises(PassError) as raised:
        one_step(made.graph())  # type: ignore[attr-defined]
    lines = str(raised.value).splitlines()
    assert lines[0] == (
        f"PassError: one step of {made.name}: %{reader} reads %enc/h_T at every step,"  # type: ignore[attr-defined]
        " which is known after the last step only"
    )
    assert lines[-1].strip() == "make two models: one that returns %enc/h_T, and one that takes it as an Input"


@model
def read_after_the_last(X=Input(3, 2, 4), W=Param(2, 4, fill=uniform(-1, 1))):
    _, last = scan(plain(H=4, name="enc"), X)
    y, _ = scan(plain(H=4, name="dec"), X, init={"h": tanh(last["h"])})
    return {"y": y, "scores": linear(last["h"], W)}


def test_what_no_step_reads_may_come_from_a_last_state() -> None:
    made = one_step(read_after_the_last.graph())
    assert [pair.initial for pair in made.states] == [0.0, "tanh_h_T, computed by tanh"]
    assert [o.name for o in made.graph.outputs] == ["y", "scores", "enc/h_out", "dec/h_out"]


@model
def read_last(X=Input(3, 2, 4), W=Param(2, 4, fill=uniform(-1, 1))):
    y, _ = scan(plain(H=4, name="enc"), X)
    return {"scores": linear(tanh(y)[-1], W)}


def test_the_last_of_all_steps_is_that_after_each_step() -> None:
    graph = read_last.graph()
    x, weights = np.random.default_rng(0).normal(size=(3, 2, 4)), initial_weights(graph)
    made, state = one_step(graph), np.zeros((2, 4))
    for t in range(3):
        found = forward(made.graph, {"X": x[t : t + 1], "enc/h_in": state}, weights).outputs
        state = found["enc/h_out"]
    assert_allclose(found["scores"], forward(graph, {"X": x}, weights).outputs["scores"], rtol=1e-12)


@model
def reads_last_at_each(X=Input(3, 2, 4)):
    y, _ = scan(plain(H=4, name="enc"), X)
    return {"z": y + y[-1]}


def test_no_step_reads_the_last_one() -> None:
    with pytest.raises(PassError, match="which is known after the last step only"):
        one_step(reads_last_at_each.graph())


@pytest.mark.parametrize("steps", [1, 5])
def test_a_model_of_one_step_is_its_own_step(steps: int) -> None:
    @model
    def scored(ids=Input(steps, 1), E=Param(4, 3), W=Param(2, 5)):
        y, _ = scan(gru(H=5, name="cell"), embed(ids, E))
        return linear(y, W)

    made = one_step(scored.graph())
    assert [(o.name, made.graph.type(o.ref).shape) for o in made.graph.outputs] == [
        ("out", (1, 1, 2)),
        ("cell/h_out", (1, 5)),
    ]


def test_a_parameter_along_time_has_no_step() -> None:
    @cell
    def plain(x=Input(3, 4), h=State(3, 4)):  # type: ignore[no-untyped-def]
        h = tanh(x + h)
        return h, {"h": h}

    @model
    def net(X=Input(3, 3, 4), P=Param(3, 3, 1)):  # type: ignore[no-untyped-def]
        return scan(plain(), P * X)[0]

    with pytest.raises(PassError) as caught:
        one_step(net.graph())
    assert caught.value.message == "one step of net: mul takes %P f32[3,3,1], which has a value for each step"
    assert caught.value.notes == ("make it an Input, of which each step is fed",)
    assert caught.value.loc is not None


def test_a_sequence_that_every_step_reads_whole_has_no_step() -> None:
    @model
    def net(X=Input(3, 3)):  # type: ignore[no-untyped-def]
        a, _ = scan(plain(H=4, name="a"), reshape(X, 3, 1, 3))
        b, _ = scan(plain(H=4, name="b"), length=3, static={"x": X})
        return {"a": a, "b": b}

    with pytest.raises(PassError) as caught:
        one_step(net.graph())
    assert caught.value.message == "one step of net: every step of b reads all steps of %X f32[3,3]"
    assert caught.value.notes == ("make two models: one that returns %X, and one that takes it as an Input",)


@cell
def placed(x=Input(2, 4), p=Input(2, 4), h=State(2, 4)):
    h = tanh(x + p + h)
    return h, {"h": h}


@model
def table(X=Input(T, 2, 4), P=Param(T, 2, 4)):
    return {"y": scan(placed(), [X, P])[0], "all": sum(P)}


@model
def function_of_a_table(X=Input(3, 2, 4), P=Param(3, 4)):
    return scan(placed(), [X, tile(exp(P)[:, None], (1, 2, 1))])[0]


@pytest.mark.parametrize(
    ("net", "found"),
    [(table, "%P f32[3,2,4]"), (function_of_a_table, "%exp_P f32[3,4]")],
    ids=lambda case: getattr(case, "name", None),
)
def test_what_parameters_say_of_each_step_is_refused(net: Model, found: str) -> None:
    with pytest.raises(PassError) as caught:
        one_step(net.graph(T=3) if net is table else net.graph())
    assert caught.value.message == (
        f"one step of {net.name}: {found}, computed from parameters only, has a value for each step"
    )
    assert caught.value.notes == ("make it an Input, of which each step is fed",)


def test_what_parameters_say_of_the_only_step_is_its_own() -> None:
    graph = table.graph(T=1)
    inputs = {"X": np.full((1, 2, 4), 0.5)}
    weights = initial_weights(graph)
    step = one_step(graph).graph
    made = forward(step, {**inputs, "placed/h_in": np.zeros((2, 4))}, weights)
    for name, wanted in forward(graph, inputs, weights).outputs.items():
        assert_allclose(made.outputs[name], wanted)


@cell
def leaking(x=Input(N, D), h=State(N, D)):
    h = tanh(0.5 * x + 0.5 * h)
    return h, {"h": h}


@model(states={"h": "h_next", "m": "m_next"})
def bands(X=Input(4, 1, 3), h=Input(1, 3), m=Input(4, 1, 3, fill=0.25)):
    """A step with a loop over four bands inside, from the last band of the step before."""
    y, last = scan(leaking(), X, init={"h": h}, reverse=True)
    return {"y": y * m, "h_next": last["h"], "m_next": 0.5 * m + 0.5 * y}


def test_a_model_that_is_one_step_is_its_own_step() -> None:
    whole = bands.graph()
    made = one_step(whole)
    verify(made.graph)
    assert made.states == (StatePair("h", "h", "h_next", 0.0), StatePair("m", "m", "m_next", 0.25))
    assert not made.graph.carried()
    assert parse_graph(print_graph(whole)) == whole
    with lstmc.compile(bands, target="flat").stream(on="interpreter") as step:
        assert step.states == {"h": (1, 3), "m": (4, 1, 3)}


def test_steps_of_a_model_that_is_one_step_follow_each_other() -> None:
    rng, h, m = np.random.default_rng(0), np.zeros((1, 3)), np.full((4, 1, 3), 0.25)
    with lstmc.compile(bands, target="c").stream() as step:
        for _ in range(3):
            X = rng.standard_normal((4, 1, 3))
            y = np.empty((4, 1, 3))
            for band in (3, 2, 1, 0):
                h = y[band] = np.tanh(0.5 * X[band] + 0.5 * h)
            assert_allclose(step(X=X)["y"], y * m, atol=1e-6)
            m = 0.5 * m + 0.5 * y


def test_bands_that_are_written_out_in_a_step_are_rolled_up_inside_it() -> None:
    @model(states={"h": "h_next"})
    def written(X=Input(6, 1, 3), h=Input(1, 3), *, W=Param(3, 3)):
        for x in split(X, 6, axis=0):
            h = tanh(linear(x[0], W) + h)
        return {"h_next": h, "y": 2 * h}

    rolled = RollUp().run(written.graph()).graph
    (scanned,) = (node.op for node in rolled if isinstance(node.op, Scan))
    assert scanned.inside
    with lstmc.compile(written, target="c").stream(on="interpreter") as step:
        assert step.states == {"h": (1, 3)}
