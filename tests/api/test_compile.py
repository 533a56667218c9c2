"""``lstmc.compile`` and ``lstmc.load``: nets from models, run in real Caffe and in the interpreter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lstmc_plugin_example.backend import TextBackend
from numpy.testing import assert_allclose, assert_array_equal

import lstmc
from lstmc.api.running import one_place, places
from lstmc.backend import load_backend
from lstmc.cells import gru
from lstmc.errors import (
    BackendError,
    DataError,
    DimError,
    LstmcError,
    ModelFileError,
    OutputError,
    PassError,
    PluginError,
    WeightsError,
)
from lstmc.interp import forward
from lstmc.passes import Dead, PassList, Simplify
from lstmc.weights import initial_weights

T, N = lstmc.dims("T N")
SIZES = {"T": 3, "N": 2, "D": 4, "H": 5}


@lstmc.cell
def step(x=lstmc.Input(N, 3), h=lstmc.State(N, 4), *, W=lstmc.Param(4, 3, fill=lstmc.xavier())):  # type: ignore[no-untyped-def]
    h = lstmc.tanh(lstmc.linear(x, W) + 0.5 * h)
    return h, {"h": h}


@lstmc.model
def trained(X=lstmc.Input(T, N, 3), label=lstmc.Input(N)) -> Any:  # type: ignore[no-untyped-def]
    _, last = lstmc.scan(step(), X)
    scores = lstmc.dropout(last["h"], 0.5)
    return {"prob": lstmc.softmax(scores), "loss": lstmc.softmax_loss(scores, label)}


def x(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_cell_is_scanned_and_a_library_cell_goes_by_its_name() -> None:
    assert lstmc.compile(step, T=3, N=2).inputs == {"x": (3, 2, 3)}
    assert lstmc.compile("lstm", **SIZES).outputs == {"y": (3, 2, 5), "h_T": (2, 5), "c_T": (2, 5)}
    assert lstmc.compile("lstm", sizes=SIZES).files == lstmc.compile("lstm", **SIZES).files


def test_whoever_forgets_to_cut_losses_off_gets_the_deployed_net() -> None:
    net = lstmc.compile(trained, T=3, N=2)
    assert (net.inputs, net.outputs) == ({"X": (3, 2, 3)}, {"prob": (2, 4)})
    assert not {layer.type for layer in net.layers} & {"SoftmaxWithLoss", "Dropout"}
    described = json.loads(net.files["trained.manifest.json"])
    assert described.pop("training_inputs") == ["label"]
    assert "label" not in json.dumps(described)
    assert lstmc.compile(trained, T=3, N=2, phase="train").outputs == {"loss": ()}
    assert lstmc.compile(trained, T=3, N=2, phase="all").outputs == {"prob": (2, 4), "loss": ()}


def test_what_the_next_batch_starts_from_stays_beside_the_outputs_that_are_asked_for() -> None:
    @lstmc.model
    def carried(X=lstmc.Input(T, N, 3)):  # type: ignore[no-untyped-def]
        y, last = lstmc.scan(step(), X, carry=True)
        return {"y": y, "more": last["h"] * 2}

    net = lstmc.compile(carried, T=3, N=2, outputs=["y"])
    assert list(net.outputs) == ["y", "step/h_T"]
    assert {name: output.name for name, output in net.graph.carried().items()} == {"step/h_0": "step/h_T"}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_a_net_runs_in_caffe_as_its_model_means(caffe: object, tmp_path: Path, target: str) -> None:
    net = lstmc.compile("lstm", **SIZES, target=target, seed=3)
    inputs = {"x": x(3, 2, 4)}
    wanted = forward(net.graph, inputs, initial_weights(net.graph, 3)).outputs
    net.save(tmp_path)
    loaded = lstmc.load(tmp_path / "lstm.prototxt")
    for found in (net.run(**inputs), net.run(inputs), loaded.run(inputs), net.run(inputs, on="interpreter")):
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    for name, array in net.weights.items():
        assert_array_equal(loaded.weights[name], array)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in net.layers]


def test_cells_without_states_are_streamed_too(tmp_path: Path) -> None:
    @lstmc.cell
    def plain(x=lstmc.Input(N, 3), *, W=lstmc.Param(4, 3, fill=lstmc.xavier())):  # type: ignore[no-untyped-def]
        return lstmc.tanh(lstmc.linear(x, W)), {}

    net = lstmc.compile(plain, T=3, N=2, step=True)
    sequence = x(3, 2, 3)
    whole = lstmc.compile(plain, T=3, N=2).run(x=sequence, on="interpreter")["y"]
    with net.stream(on="interpreter") as make:
        assert (make.inputs, make.states) == ({"x": (1, 2, 3)}, {})
        assert_allclose(np.concatenate([make(x=sequence[t : t + 1])["y"] for t in range(3)]), whole)
    net.save(tmp_path)
    with lstmc.load(tmp_path / "plain.prototxt").stream() as make:
        assert (make.inputs, make.states) == ({"x": (1, 2, 3)}, {})


@pytest.mark.caffe
def test_a_stream_of_steps_is_the_whole_sequence(caffe: object, tmp_path: Path) -> None:
    net = lstmc.compile("gru", **SIZES, step=True)
    sequence = x(3, 2, 4)
    whole = lstmc.compile("gru", **SIZES).run(x=sequence, on="interpreter")["y"]
    net.save(tmp_path)
    streams = (net.stream(), net.stream(on="interpreter"), lstmc.load(tmp_path / "gru.prototxt").stream())
    for stream in streams:
        with stream as make:
            assert (make.inputs, make.states) == ({"x": (1, 2, 4)}, {"gru/h": (2, 5)})
            assert make.outputs == {"y": (1, 2, 5), "h_T": (2, 5)}
            found = [make(x=sequence[t : t + 1])["y"][0] for t in range(3)]
            assert_allclose(np.stack(found), whole, rtol=1e-5, atol=1e-6)
            make.start({"gru/h": np.ones((2, 5))})
            other = make({"x": sequence[:1]})["y"]
            make.start()
            assert not np.allclose(other, make({"x": sequence[:1]})["y"])


@pytest.mark.caffe
def test_verification_is_true_where_all_agrees(caffe: object) -> None:
    found = lstmc.compile("lstm", **SIZES).verify()
    assert found
    assert [report.executor for report in found.reports][:2] == ["interpreter", "caffe-cpu"]
    assert str(found).splitlines()[-1].startswith("caffe-cpu (") or "caffe-gpu" in str(found)


def test_weights_are_the_model_s_own() -> None:
    net = lstmc.compile("gru", **SIZES, seed=1)
    again = lstmc.compile("gru", **SIZES, weights=net.weights)
    assert again.files == net.files
    with pytest.raises(WeightsError) as caught:
        lstmc.compile("gru", **SIZES, weights={"gru/b": np.zeros(15)})
    assert str(caught.value).splitlines()[:2] == [
        "WeightsError: weights does not fit gru",
        "  missing: gru/W_x f32[15,4]",
    ]


def refused(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_a_file_is_compiled_as_the_command_line_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from lstmc import *\n\n\n@model\ndef twice(X=Input(3)):\n    return {'y': 2 * X}\n", encoding="utf-8"
    )
    for model in (path, str(path), f"{path}:twice"):
        assert lstmc.compile(model).run(np.ones(3), on="interpreter")["y"].tolist() == [2, 2, 2]
    assert refused(ModelFileError, lambda: lstmc.compile("no.py")) == "ModelFileError: no such model file: no.py"


def test_what_cannot_be_compiled() -> None:
    compile = lstmc.compile
    assert refused(ModelFileError, lambda: compile(3)) == (  # type: ignore[arg-type]
        "ModelFileError: expected a function made with @model or @cell, its file, or the name of a library cell,"
        " found int 3"
    )
    assert refused(ModelFileError, lambda: compile("gru", sizes={"T": 2}, **SIZES)) == (
        "ModelFileError: the size of T is given twice: as an argument and in sizes"
    )
    assert refused(ModelFileError, lambda: compile("gru", outputs=["z"], **SIZES)) == (
        "ModelFileError: outputs=z: gru has no such output: found y, h_T"
    )
    assert refused(ModelFileError, lambda: compile("gru", phase="deployed", **SIZES)) == (  # type: ignore[arg-type]
        "ModelFileError: phase is one of deploy, train, all, found 'deployed'"
    )
    assert refused(ModelFileError, lambda: compile("gru", phase=["train"], **SIZES)) == (  # type: ignore[arg-type]
        "ModelFileError: phase is one of deploy, train, all, found ['train']"
    )
    assert refused(BackendError, lambda: compile("gru", form="fast", **SIZES)) == (
        "BackendError: form=fast: target caffe has no such form: found"
        " unit, packed, separate, unit-in-loop, packed-in-loop, separate-in-loop"
    )


def test_what_cannot_be_run() -> None:
    net = lstmc.compile("gru", **SIZES)
    inputs = {"X": x(3, 2, 4)}
    assert refused(DataError, lambda: net.run(inputs, on="interpreter")) == (
        "DataError: the inputs do not fit gru\n  missing: x [3, 2, 4]\n  extra: X [3, 2, 4]: did you mean x?"
    )
    assert refused(BackendError, lambda: net.run(inputs, on="gpu")) == (
        "BackendError: on='gpu': expected one of interpreter, native, caffe-cpu, caffe-gpu"
    )
    assert refused(BackendError, lambda: net.verify(on=["gpu"])).startswith(
        "BackendError: on= takes one of interpreter, native, caffe-cpu, caffe-gpu, acuity, coreml, mnn, "
    )
    assert refused(BackendError, lambda: net.stream(on="interpreter").__enter__()) == (
        "BackendError: gru: expected a net of one step, found one of all steps\n"
        "  compile the model as a net of one step"
    )
    text = lstmc.compile("gru", **SIZES, backend=TextBackend())
    assert (
        refused(BackendError, lambda: text.prototxt) == "BackendError: backend text writes no prototxt: found gru.lir"
    )
    assert refused(ModelFileError, lambda: lstmc.load("none.prototxt")) == "ModelFileError: no such file: none.prototxt"


@pytest.mark.parametrize("on", ["interpreter", ["interpreter"], ("interpreter", "interpreter")])
def test_a_place_is_a_text_or_a_list_of_them(on: Any) -> None:
    net = lstmc.compile("gru", **SIZES)
    assert [report.executor for report in net.verify(on=on).reports] == ["interpreter"]
    assert net.run(x=x(3, 2, 4), on=on)["y"].shape == (3, 2, 5)
    with lstmc.compile("gru", **SIZES, step=True).stream(on=on) as step:
        assert step(x=x(1, 2, 4))["y"].shape == (1, 2, 5)


def test_the_name_of_a_backend_is_its_cpu() -> None:
    caffe = load_backend("caffe")
    assert places(caffe, "caffe") == ["caffe-cpu"]
    assert places(caffe, ["interpreter", "caffe", "caffe-cpu", "opencv"]) == ["interpreter", "caffe-cpu", "opencv"]
    assert one_place(caffe, None) == one_place(caffe, ["caffe"]) == "caffe-cpu"


def test_one_pass_runs_in_one_place(tmp_path: Path) -> None:
    net = lstmc.compile("gru", **SIZES)
    assert refused(BackendError, lambda: net.run(x=x(3, 2, 4), on=["interpreter", "caffe"])) == (
        "BackendError: on=['interpreter', 'caffe']: expected one of interpreter, native, caffe-cpu, caffe-gpu"
    )
    net.save(tmp_path)
    saved = lstmc.load(tmp_path / "gru.prototxt")
    assert refused(BackendError, lambda: saved.run(x=x(3, 2, 4), on="interpreter")) == (
        "BackendError: on='interpreter': a written net runs on caffe-cpu or caffe-gpu"
    )


def test_a_target_chooses_its_backend(tmp_path: Path) -> None:
    assert lstmc.compile("gru", **SIZES, target="onnx").backend.name == "onnx"
    assert lstmc.compile("gru", **SIZES, target="flat").backend.name == "caffe"
    assert lstmc.compile("gru", **SIZES).target == "caffe"
    assert refused(PluginError, lambda: lstmc.compile("gru", **SIZES, backend="caffe", target="onnx")) == (
        "PluginError: backend=caffe: target onnx is one of backend onnx: give backend=onnx, or the target alone"
    )
    assert refused(PluginError, lambda: lstmc.compile("gru", **SIZES, backend="onnx", target="flat")) == (
        "PluginError: backend=onnx: target flat is one of backend caffe: give backend=caffe, or the target alone"
    )
    assert refused(PluginError, lambda: lstmc.compile("gru", **SIZES, target="onx")) == (
        "PluginError: backend caffe has no target onx: did you mean onnx?"
    )
    assert refused(ModelFileError, lambda: lstmc.compile("gru", **SIZES, targt="flat")) == (
        "ModelFileError: compile has no argument targt: did you mean target?"
    )


def test_a_net_is_saved_as_the_file_that_is_named(tmp_path: Path) -> None:
    net = lstmc.compile("gru", **SIZES, target="onnx")
    assert {path.name for path in net.save(tmp_path / "x.onnx")} == {"x.onnx", "x.manifest.json"}
    x_given = {"x": x(3, 2, 4).astype("f4")}
    found = lstmc.load(tmp_path / "x.onnx").run(x_given)
    np.testing.assert_allclose(found["y"], net.run(x_given, on="interpreter")["y"], rtol=1e-5, atol=1e-6)
    caffe = lstmc.compile("gru", **SIZES)
    names = {"z.prototxt", "z.caffemodel", "z.manifest.json"}
    assert {path.name for path in caffe.save(tmp_path / "z.prototxt")} == names
    assert refused(OutputError, lambda: caffe.save(tmp_path / "y.onnx")) == (
        f"OutputError: {tmp_path}/y.onnx: a net of backend caffe is gru.prototxt, gru.caffemodel, gru.manifest.json\n"
        '  compile it with backend="onnx", or give a folder'
    )
    assert not (tmp_path / "y.onnx").exists()
    assert {path.name for path in caffe.save(tmp_path / "out.v2")} == {name.replace("z", "gru", 1) for name in names}


def test_first_states_that_do_not_fit() -> None:
    with lstmc.compile("gru", **SIZES, step=True).stream(on="interpreter") as make:
        assert refused(DataError, lambda: make.start({"h": x(2, 5), "gru/h": x(2, 4)})) == (
            "DataError: the first states do not fit gru\n"
            "  extra: h [2, 5]\n"
            "  wrong shape: gru/h must be [2, 5], found [2, 4]"
        )


class TestPasses:
    def test_the_list_is_read_and_changed_by_names(self) -> None:
        passes = PassList(load_backend("caffe").passes("caffe"))
        names = passes.names
        assert passes.at("hoist") == names.index("hoist")
        *_, last = (name for name in names if name.startswith("cse:"))
        assert passes.last("cse") == names.index(last) == passes.at(last)
        changed = passes.insert_before("hoist", Simplify()).insert_after("hoist", Dead()).replace("sink")
        at = changed.names.index("hoist")
        assert [each.name for each in changed[at - 1 : at + 2]] == ["simplify", "hoist", "dead"]
        assert "sink" not in changed.names

    def test_names_that_are_none_or_several(self) -> None:
        passes = PassList((Simplify(), Dead(), Simplify()))
        assert refused(PassError, lambda: passes.replace("simplify")) == (
            "PassError: simplify runs 2 times: name one of simplify:1, simplify:2"
        )
        assert refused(PassError, lambda: passes.insert_after("hoist", Dead())) == (
            "PassError: there is no pass hoist: found simplify:1, dead, simplify:2"
        )
        assert refused(PassError, lambda: passes.at("simplify:3")) == (
            "PassError: there is no pass simplify:3: did you mean simplify?"
        )

    def test_a_net_of_other_passes_means_the_same(self) -> None:
        seen: list[str] = []

        def without_packing(passes: PassList) -> PassList:
            seen.extend(passes.names)
            return passes.replace("fuse_horizontal")

        net = lstmc.compile("lstm", **SIZES, passes=without_packing)
        assert "fuse_horizontal" in seen
        assert "fuse_horizontal" not in net.passes
        assert net.verify(on=["interpreter"])
        assert net.after("model") is net.compiled.model
        *_, last = (name for name in net.passes if name.startswith("cse:"))
        assert net.after("cse") == net.after(last)
        assert net.after(net.passes[-1]) == net.compiled.expanded


def test_more_weights_than_a_caffemodel_holds_are_not_even_drawn() -> None:
    @lstmc.model
    def large(X=lstmc.Input(1, 30_000), W=lstmc.Param(20_000, 30_000, fill=lstmc.xavier())):  # type: ignore[no-untyped-def]
        return lstmc.linear(X, W)

    with pytest.raises(BackendError) as caught:
        lstmc.compile(large)
    assert caught.value.message == ("large has 600,000,000 weights: backend caffe can write at most 536,608,767")


def test_a_net_of_one_step_needs_no_length() -> None:
    assert lstmc.compile("gru", N=2, D=4, H=5, step=True).inputs["x"] == (1, 2, 4)
    T, N, S = lstmc.dims("T N S")

    @lstmc.model
    def translated(X=lstmc.Input(T, N, 4), seen=lstmc.Input(S, 4), W=lstmc.Param(4, 4)):  # type: ignore[no-untyped-def]
        y, _ = lstmc.scan(gru(H=4, name="cell"), X)
        return {"y": y + lstmc.mean(lstmc.linear(seen, W), axis=0)}

    assert lstmc.compile(translated, N=1, S=3, step=True).inputs["X"] == (1, 1, 4)
    with pytest.raises(DimError, match="dimension S of input seen"):  # it is no axis of time
        lstmc.compile(translated, N=1, step=True)


def test_the_one_input_of_a_net_needs_no_name() -> None:
    net = lstmc.compile("rnn", T=2, N=1, D=3, H=4)
    given = x(2, 1, 3)
    assert_array_equal(net.run(given, on="interpreter")["y"], net.run(x=given, on="interpreter")["y"])
    two = lstmc.compile("luong", T=2, N=1, D=3, H=4, S=2, E=2)
    with pytest.raises(DataError) as caught:
        two.run(given, on="interpreter")
    assert caught.value.message == "expected arrays by name, as in (x=..., memory=...), found ndarray without a name"


def test_no_repr_is_longer_than_a_screen() -> None:
    net = lstmc.compile("rnn", T=40, N=1, D=3, H=4)
    picture = net.draw().picture
    assert repr(net.draw()) == f"<lstmc.Drawing: {len(picture.boxes)} boxes, {len(picture.arrows)} arrows>"
    assert repr(net.verify(on=["interpreter"])).startswith("<lstmc.Verification: interpreter: all ")
    assert repr(step) == "<cell step: input x [N, 3]; state h [N, 4]; parameter W [4, 3]>"
    assert repr(trained) == "<model trained: inputs X [T, N, 3], label [N]>"


def test_an_option_that_is_a_function_is_shown_by_its_name() -> None:
    @lstmc.cell
    def step(x: Any = lstmc.Input(2, 3), h: Any = lstmc.State(2, 3), *, act: Any = lstmc.tanh) -> Any:
        h = act(x + h)
        return h, {"h": h}

    assert repr(step) == "<cell step: input x [2, 3]; state h [2, 3]; options act=tanh>"
    assert repr(step(act=lstmc.relu)) == "<bound cell step(act=relu)>"


def test_names_that_other_frameworks_give_to_models_have_their_counterpart() -> None:
    net = lstmc.compile("rnn", T=2, N=1, D=3, H=3)
    for name, said in (
        ("predict", ": write net.run(array), or net.run(NAME=array) for several inputs"),
        ("state_dict", ": write net.weights"),
        ("wieghts", ": did you mean weights?"),
        ("qqq", ""),
    ):
        with pytest.raises(AttributeError) as error:
            getattr(net, name)
        assert str(error.value) == f"a Net has no attribute {name!r}{said}"
    with pytest.raises(TypeError) as called:
        net(1)  # type: ignore[operator]
    assert str(called.value) == "a Net is not called: write net.run(array), or net.run(NAME=array) for several inputs"


def test_an_argument_of_a_filler_has_its_near_name() -> None:
    with pytest.raises(LstmcError) as error:
        lstmc.gaussian(stddev=1)  # type: ignore[call-arg]
    assert (
        error.value.message == "gaussian has no argument stddev: did you mean std?; it is gaussian(mean=0.0, std=1.0)"
    )


def test_an_input_that_no_output_reads_is_not_asked_for() -> None:
    @lstmc.model
    def half(X: Any = lstmc.Input(2, 3), Z: Any = lstmc.Input(5)) -> Any:
        return {"y": lstmc.tanh(X)}

    net, given = lstmc.compile(half), x(2, 3)
    assert_allclose(net.run(X=given, on="interpreter")["y"], np.tanh(given), rtol=1e-6)
    with pytest.raises(LstmcError, match=r"missing: X \[2, 3\]"):
        net.run(on="interpreter")


def test_an_attribute_error_in_a_property_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lstmc.compile("rnn", T=2, N=1, D=2, H=2)
    monkeypatch.setattr(type(net), "layers", property(lambda self: (1).missing))
    with pytest.raises(AttributeError, match="'int' object has no attribute 'missing'"):
        net.layers  # noqa: B018
