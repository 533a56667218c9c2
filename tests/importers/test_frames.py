"""Nets of one frame: states that are inputs and outputs, found where they are proved, or named by the user."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from lstmc import convert, load
from lstmc.importers import ImportedModel, SourceError, from_onnx
from lstmc.importers.checks import to_source
from lstmc.ops import Array
from tests.cli.conftest import LSTMC, lstmc  # noqa: F401
from tests.importers.one_frame_nets import CASES, PLANTS, F, planted
from tests.quick_sample import one_in

PROVED = [name for name, case in CASES.items() if case.proved]


@cache
def exported(name: str, kind: str = "") -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return planted(CASES[name], kind) if kind else CASES[name].model()


def states_of(model: ImportedModel) -> dict[str, str]:
    """The states by the source's names."""
    called = model.net.called
    return {called[before]: called[after] for before, after in model.net.states.items()}


def test_there_are_thirty_nets_and_most_states_are_proved() -> None:
    assert len(CASES) == 30
    assert len(PROVED) >= 24


@pytest.mark.parametrize("name", CASES)
def test_states_are_found_where_they_are_proved(name: str) -> None:
    model = from_onnx(exported(name))
    assert states_of(model) == (CASES[name].pairs if CASES[name].proved else {})
    assert model.step == CASES[name].proved


def test_a_gru_whose_1_is_an_initializer_is_proved() -> None:
    """As tf2onnx writes it: 1 - z with a constant that has a name."""
    model, graph = exported("gru with reset before"), onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.node[:]
    for node in model.graph.node:
        if node.op_type == "Constant":
            graph.initializer.append(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        else:
            graph.node.append(node)
    assert len(graph.initializer) > len(model.graph.initializer)
    model = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    assert states_of(from_onnx(model)) == CASES["gru with reset before"].pairs


@pytest.mark.parametrize("planted_in", one_in(4, product(PROVED, PLANTS), tested=2))
def test_what_looks_like_a_state_is_none(planted_in: tuple[str, str]) -> None:
    """Each net has two or three of the five plants in ``make test``, and each plant half of the nets."""
    name, kind = planted_in
    assert states_of(from_onnx(exported(name, kind))) == CASES[name].pairs


@pytest.mark.parametrize("name", one_in(6, CASES))
def test_a_net_of_one_frame_streams_in_c(name: str, tmp_path: Path) -> None:
    case, model = CASES[name], exported(name)
    imported = from_onnx(model, states={} if case.proved else case.pairs)
    done = convert(imported, tmp_path, target="c", on=["interpreter"])
    assert done.passed
    net, session = imported.net, onnxruntime.InferenceSession(model.SerializeToString())
    past: dict[str, Array] = {each.name: np.zeros(each.shape, np.float32) for each in session.get_inputs()}
    rng = np.random.default_rng(1)
    with load(next(path for path in done.paths if path.suffix == ".c")).stream() as step:
        assert set(step.states) == {name for name in net.inputs if name != "x"}
        for _ in range(10):
            past["x"] = rng.standard_normal(case.frame).astype(np.float32)
            expected = dict(zip(case.outputs, session.run(None, past), strict=True))
            found = step(x=past["x"].transpose(net.axes.get("x", range(past["x"].ndim))))
            past |= {before: expected[after] for before, after in case.pairs.items()}
            y = to_source(net, "y", found["y"]).reshape(expected["y"].shape)
            np.testing.assert_allclose(y, expected["y"], rtol=0, atol=1e-5 * np.abs(expected["y"]).max())


def test_a_state_is_named_by_the_user() -> None:
    name = "a mean of the past"
    alike = from_onnx(exported(name))
    assert alike.net.notes == (
        "in_0 may be a state, as out_0 has its shape. Here it is an input of each step. If it is a state, import the"
        " file again and name the state: in_0=out_0.",
    )
    named = from_onnx(exported(name), states={"in_0": "out_0"})
    assert states_of(named) == {"in_0": "out_0"}
    assert named.net.notes == ("in_0 is a state: out_0 is its next value (as you said). It starts at 0.",)
    assert '@model(states={"in_0": "out_0"})' in named.files()["model.py"].decode()


def test_a_state_that_is_proved_can_be_an_input() -> None:
    model = from_onnx(exported("gru cell"), states={"in_0": ""})
    assert states_of(model) == {}
    assert not model.net.notes


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"in_1": "out_0"}, 'states={"in_1": "out_0"}: the model has no input in_1: did you mean in_0?'),
        ({"in_0": "z"}, 'states={"in_0": "z"}: the model has no output z: its outputs are y, out_0'),
        (
            {"x": "out_0"},
            'states={"x": "out_0"}: expected a state and its next value of one shape, found x 1 x 6 and out_0 1 x 5',
        ),
    ],
)
def test_states_that_are_none_of_the_net_are_refused(states: dict[str, str], said: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_onnx(exported("gru cell"), states=states)
    assert caught.value.message == said


@pytest.mark.parametrize("name", ["gru cell", "gru of two layers"])
def test_a_file_of_one_frame_is_converted_by_the_command(lstmc: LSTMC, name: str) -> None:  # noqa: F811
    Path("net.onnx").write_bytes(exported(name).SerializeToString())
    said = "in_0 is a state: out_0 is its next value (the last states of recurrent layers). It starts at 0."
    done = lstmc("convert", "net.onnx", "-o", "c", "--target", "c")
    assert (done.code, done.err) == (0, "")
    assert said in done.out
    header = Path("c/net.h").read_text()
    assert "void net_step(net_state *state, net_work *work, const float *x, float *y);" in header
    assert "Several steps. Of x, y the values of all steps, one after the other." in header
    assert "float in_0[" in header
    for step in ((), ("--step",)):
        places = ("--target", "opencv", "--on", "interpreter", "--example", "python")
        done = lstmc("convert", "net.onnx", "-o", "opencv", *step, *places)
        assert (done.code, done.err) == (0, "")
        assert said in done.out
        assert "at the first step feed" not in done.out


def test_a_net_of_one_frame_without_proved_states_is_a_function_in_c(lstmc: LSTMC) -> None:  # noqa: F811
    Path("net.onnx").write_bytes(exported("a mean of the past").SerializeToString())
    done = lstmc("convert", "net.onnx", "-o", "c", "--target", "c")
    assert (done.code, done.err) == (0, "")
    assert "name the state: in_0=out_0" in " ".join(done.out.split())
    assert "void net_step(net_work *work, const float *x, const float *in_0" in Path("c/net.h").read_text()
    done = lstmc("convert", "net.onnx", "-o", "flat", "--step", "--target", "flat")
    assert done.code == 2
    assert "of a net of one frame name its states by --state IN=OUT" in done.err
    done = lstmc(
        "convert",
        "net.onnx",
        "-o",
        "flat",
        "--step",
        "--target",
        "flat",
        "--state",
        "in_0=out_0",
        "--on",
        "interpreter",
    )
    assert (done.code, done.err) == (0, "")
    done = lstmc("convert", "net.onnx", "-o", "c", "--state", "in_0")
    assert done.err == "SourceError: --state takes IN=OUT, as in --state h_in=h_out, found 'in_0'\n"


def test_ranges_are_measured_over_a_stream_of_frames(lstmc: LSTMC) -> None:  # noqa: F811
    Path("net.onnx").write_bytes(exported("convolution and gru").SerializeToString())
    assert lstmc("convert", "net.onnx", "-o", "net", "--no-compile").code == 0
    frames = np.random.default_rng(0).standard_normal((40, 1, 2, 1, F))
    np.savez("data.npz", x=frames)
    np.savez("frame.npz", x=frames[0])
    named = ("net/model.py", "--weights", "net/weights.npz")
    done = lstmc("numbers", "ranges", *named, "--data", "data.npz", "--backend", "c", "-o", "ranges.json")
    assert (done.code, done.err) == (0, "")
    options = ("--backend-option", "numbers=c-a16w8", "--backend-option", "ranges=ranges.json")
    done = lstmc("verify", *named, "--backend", "c", *options, "--on", "c-cpu")  # to the bit
    assert (done.code, done.err) == (0, "")
    done = lstmc("numbers", "ranges", *named, "--data", "frame.npz", "--backend", "c", "-o", "other.json")
    assert done.err == (
        "DataError: frame.npz does not fit net\n  wrong shape: x must be [T, 1, 2, 1, 6], found [1, 2, 1, 6]\n"
    )


def test_a_sequence_whose_states_are_inputs_is_compared_from_these_states(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"W": (1, 12, 3), "R": (1, 12, 4)}
    stored = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in arrays.items()]
    node = helper.make_node("GRU", ["x", "W", "R", "", "", "h"], ["y", "h_n"], hidden_size=4)
    shapes = {"x": ["T", 1, 3], "h": [1, 1, 4], "y": ["T", 1, 1, 4], "h_n": [1, 1, 4]}
    x, h, *outputs = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items())
    graph = helper.make_graph([node], "net", [x, h], outputs, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    done = convert(from_onnx(made, time={"x": 0}), tmp_path, backend="onnx", on=["interpreter"])
    assert done.net.outputs.keys() == {"y", "h_n"}
    assert done.passed
