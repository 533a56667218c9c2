"""The written prototxt: its exact text for a small net, and what each part of it promises."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

import lstmc
from lstmc import (
    Input,
    Param,
    __version__,
    concat,
    constant,
    gaussian,
    linear,
    model,
    msra,
    scan,
    split,
    tanh,
    uniform,
    xavier,
)
from lstmc.backend import Artifact, Compiled
from lstmc.cells import gru, lstm
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.proto.net import NetParameter, net_from_text
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import load_target
from lstmc_caffe.write.net import write_net
from tests.backends.lstmc_caffe.in_worker import schema
from tests.goldens.update import PROTOTXT, golden_prototxt

BACKEND = CaffeBackend()


@model
def net(
    X=Input(3, 2, 5),
    h0=Input(2, 4, fill=constant(0.5)),
    c0=Input(2, 4, fill=uniform(-1, 1)),
    unread=Input(7),
    W=Param(2, 4, fill=msra("average"), lr_mult=0.5),
    b=Param(2, fill=gaussian(1, 2), lr_mult=2, decay_mult=0),
):
    y, last = scan(lstm(H=4, name="lstm"), X, init={"h": h0, "c": c0})
    _, second = split(last["c"], 2)
    return {"y": y, "z": linear(last["h"], W, b), "second": second}


def emitted(of: Model = net, **sizes: int) -> tuple[Compiled, Artifact]:
    graph = of.graph(**sizes)
    compiled = compile_graph(graph, BACKEND, source="net.py:net")
    return compiled, BACKEND.emit(compiled, initial_weights(graph))


def text_of(of: Model = net, **sizes: int) -> str:
    return emitted(of, **sizes)[1].files[f"{of.name}.prototxt"].decode()


def layers_of(of: Model = net, **sizes: int) -> list[Any]:
    return list(text_format.Parse(text_of(of, **sizes), NetParameter()).layer)


def test_a_small_lstm_is_written_as_the_golden_text() -> None:
    """``make golden`` writes it anew."""
    assert golden_prototxt() == PROTOTXT.read_text()


def test_the_header_says_what_the_net_is_made_from_and_what_to_feed_and_read() -> None:
    text = text_of()
    count = len(text_format.Parse(text, NetParameter()).layer)
    header, _, rest = text.partition("name:")
    weights = 4 * 4 * 5 + 4 * 4 + 4 * 4 * 4 + 2 * 4 + 2
    assert header.splitlines() == [
        f"# net: made by lstmc {__version__} from net.py:net, for target caffe",
        f"# {count} layers, {weights} weights in 5 parameters",
        "# feed X [3, 2, 5]",
        "# feed unread [7]",
        "# read y [3, 2, 4]",
        "# read z [2, 2]",
        "# read second [2, 2]",
    ]
    assert rest.startswith(' "net"\n')


def test_an_output_that_goes_by_another_name_has_its_blob_in_the_header() -> None:
    @model
    def last_state(X=Input(3, 2, 5)):
        _, last = scan(gru(H=4, name="gru"), X)
        return {"h_T": last["h"]}

    assert "# read h_T [2, 4], blob gru/t002/h\n" in text_of(last_state)


def test_a_banner_stands_before_each_step_and_before_what_stands_between() -> None:
    banners = re.findall(r"^# ---- (.*?) -+$", text_of(), re.MULTILINE)
    assert banners == ["the model", *(f"lstm, step {t}" for t in range(3)), "the model", "values that nothing reads"]


def test_what_nothing_reads_goes_to_silence() -> None:
    *others, silence = layers_of()
    assert (silence.name, silence.type, list(silence.top)) == ("silence", "Silence", [])
    read = {bottom for layer in others for bottom in layer.bottom}
    made = {top for layer in others for top in layer.top}
    assert set(silence.bottom) == made - read - {"y", "z", "second"}
    assert "unread" in silence.bottom


def test_a_net_in_which_everything_is_read_has_no_silence() -> None:
    @model
    def plain(X=Input(3, 2, 5)):
        return {"y": tanh(X)}

    assert [layer.type for layer in layers_of(plain)] == ["Input", "TanH"]


@pytest.mark.caffe
def test_the_outputs_that_caffe_sees_are_the_model_s(caffe: Runner) -> None:
    with caffe.load(text_of()) as loaded:
        assert set(loaded.outputs) == {"y", "z", "second"}
        assert set(loaded.inputs) == {"X", "unread"}  # h0 and c0 make themselves


def test_names_of_layers_and_blobs_are_unique() -> None:
    layers = layers_of()
    assert len({layer.name for layer in layers}) == len(layers)
    tops = [top for layer in layers for top in layer.top]
    assert len(set(tops)) == len(tops)  # so no layer works in place


def test_only_the_owner_of_a_parameter_has_its_filler_and_every_sharer_its_multipliers() -> None:
    owned: set[str] = set()
    shared = 0
    for layer in layers_of():
        fillers = [layer.inner_product_param.HasField(f"{kind}_filler") for kind in ("weight", "bias")]
        for spec, filler in zip(layer.param, fillers, strict=False):
            assert filler == (spec.name not in owned)
            shared += spec.name in owned
            owned.add(spec.name)
    assert shared >= 2  # lstm/W_h at steps 1 and 2
    assert {"W", "b", "lstm/W_x", "lstm/b", "lstm/W_h"} == owned


def test_multipliers_are_written_at_every_sharer() -> None:
    @model
    def twice(X=Input(2, 3), W=Param(3, 3, fill=xavier(), lr_mult=0.5, decay_mult=0)):
        return {"y": linear(tanh(linear(X, W)), W)}

    specs = [spec for layer in layers_of(twice) for spec in layer.param]
    assert [(spec.name, spec.lr_mult, spec.decay_mult) for spec in specs] == [("W", 0.5, 0), ("W", 0.5, 0)]


def test_multipliers_of_one_are_left_out() -> None:
    specs = [spec for layer in layers_of() for spec in layer.param]
    plain = [spec for spec in specs if spec.name.startswith("lstm/")]
    assert plain
    assert not any(spec.HasField("lr_mult") or spec.HasField("decay_mult") for spec in plain)
    (b,) = (spec for spec in specs if spec.name == "b")
    assert (b.lr_mult, b.decay_mult) == (2, 0)


def test_a_filler_that_a_target_does_not_want_is_not_written() -> None:
    for target, has in (("flat", True), ("rknn", False)):
        net = net_from_text(lstmc.compile("lstm_layernorm", T=1, N=1, D=3, H=2, target=target).prototxt)
        scales = [layer for layer in net.layer if layer.type == "Scale" and len(layer.param)]
        assert any(layer.scale_param.HasField("filler") for layer in scales) == has
        products = [layer for layer in net.layer if layer.type == "InnerProduct"]
        assert any(layer.inner_product_param.HasField("weight_filler") for layer in products)


def test_fillers_say_what_the_user_declared() -> None:
    (readout,) = (layer.inner_product_param for layer in layers_of() if layer.name == "z")
    weight, bias = readout.weight_filler, readout.bias_filler
    assert (weight.type, weight.variance_norm) == ("msra", weight.AVERAGE)
    assert (bias.type, bias.mean, bias.std) == ("gaussian", 1, 2)


def test_a_filled_input_is_dummy_data() -> None:
    layers = {layer.name: layer for layer in layers_of()}
    h0, c0 = layers["h0"], layers["c0"]
    assert (h0.type, c0.type, layers["X"].type) == ("DummyData", "DummyData", "Input")
    assert list(h0.dummy_data_param.shape[0].dim) == [2, 4]
    (filler,) = h0.dummy_data_param.data_filler
    assert (filler.type, filler.value) == ("constant", 0.5)
    (filler,) = c0.dummy_data_param.data_filler
    assert (filler.type, filler.min, filler.max) == ("uniform", -1, 1)


@pytest.mark.caffe
def test_caffe_s_own_parser_reads_the_same_net(caffe: Runner) -> None:
    compiled, artifact = emitted()
    theirs = text_format.Parse(artifact.files["net.prototxt"].decode(), caffe_message(caffe))
    ours = write_net(compiled.expanded).message()
    assert theirs.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True)


def caffe_message(caffe: Runner) -> Any:
    """An empty NetParameter of the installed Caffe's own caffe.proto."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(schema(caffe)))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()


# parameters that several blobs, or one blob of several parameters, would need ---------------------------------------


def packed(first: object, second: object) -> Model:
    @model
    def pack(X=Input(2, 3), A=Param(2, 3, fill=first), B=Param(2, 3, fill=second)):
        return {"a": tanh(linear(X, A)), "b": linear(X, B)}

    return pack


@pytest.mark.parametrize("filler", [uniform(-0.5, 0.5), gaussian(0, 0.5), constant(0.25)], ids=repr)
def test_a_packed_blob_has_the_filler_that_all_its_parameters_have(filler: object) -> None:
    (product,) = (layer for layer in layers_of(packed(filler, filler)) if layer.type == "InnerProduct")
    assert product.inner_product_param.num_output == 4
    assert product.inner_product_param.weight_filler.type == filler.name


@pytest.mark.parametrize(
    "fillers", [(uniform(-1, 1), uniform(-2, 2)), (xavier(), xavier()), (constant(0), gaussian(0, 1))], ids=repr
)
def test_a_packed_blob_whose_parameters_would_be_drawn_otherwise_has_none(fillers: tuple[object, object]) -> None:
    (product,) = (layer for layer in layers_of(packed(*fillers)) if layer.type == "InnerProduct")
    assert not product.inner_product_param.HasField("weight_filler")


def test_a_parameter_in_two_blobs_is_refused() -> None:
    @model
    def twice(X=Input(2, 3), A=Param(2, 3), B=Param(2, 3)):
        return {"y": linear(X, concat(A, B, axis=0)), "z": tanh(linear(tanh(X), A))}

    with pytest.raises(BackendError, match="A would be in two blobs of the net, and come apart in training") as caught:
        text_of(twice)
    assert "concat(linear(x, A), linear(x, B))" in caught.value.notes[0]


def test_a_parameter_beside_its_parts_is_refused_and_has_a_net_as_the_note_says() -> None:
    @model
    def beside(X=Input(2, 3), P=Param(4, 3)):
        a, b = split(P, 2, axis=0)
        return {"y": linear(X, a) * linear(X, b), "z": linear(tanh(X), P)}

    @model
    def of_products(X=Input(2, 3), P=Param(4, 3)):
        a, b = split(linear(X, P), 2, axis=1)
        return {"y": a * b, "z": linear(tanh(X), P)}

    with pytest.raises(BackendError, match="P would be in two blobs of the net, and come apart in training") as caught:
        text_of(beside)
    assert "split(linear(x, W), ...)" in caught.value.notes[0]
    assert "target flat" in caught.value.notes[1]
    given = {"X": np.arange(6.0).reshape(2, 3)}, {"P": np.cos(np.arange(12.0)).reshape(4, 3)}
    wanted, found = (forward(other.graph(), *given).outputs for other in (beside, of_products))
    assert all(np.allclose(wanted[name], found[name], atol=1e-12) for name in wanted)
    assert text_of(of_products).count("InnerProduct") == 2
    compile_graph(beside.graph(), BACKEND, "flat")


def test_parameters_trained_otherwise_are_refused_in_one_blob() -> None:
    @model
    def mixed(X=Input(2, 3), A=Param(2, 3), B=Param(2, 3, lr_mult=2)):
        return {"y": linear(X, concat(A, B, axis=0))}

    with pytest.raises(BackendError, match=r"made of several: A has 1 and 1, B has 2 and 1"):
        text_of(mixed)


@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_parameters_trained_otherwise_may_be_one_blob_where_nothing_is_trained(target: str) -> None:
    @model
    def mixed(X=Input(2, 3), A=Param(2, 3), B=Param(2, 3, lr_mult=2)):
        return {"y": linear(X, concat(A, B, axis=0))}

    net = write_net(compile_graph(mixed.graph(), BACKEND, target).expanded, load_target(target)).message()
    (product,) = (layer for layer in net.layer if layer.type == "InnerProduct")
    assert product.inner_product_param.num_output == 4
    assert not any(spec.HasField("lr_mult") for spec in product.param)


def test_weights_do_not_change_the_text() -> None:
    compiled, artifact = emitted()
    other = BACKEND.emit(compiled, initial_weights(compiled.model, seed=9))
    assert other.files["net.prototxt"] == artifact.files["net.prototxt"]
    assert other.files["net.manifest.json"] == artifact.files["net.manifest.json"]
    assert other.files["net.caffemodel"] != artifact.files["net.caffemodel"]
    assert artifact.layers == len(layers_of())


def test_the_targets_list_is_asked_once_for_each_type_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, str]]()

    def matches(layer: str, pattern: str) -> bool:
        asked.append((layer, pattern))
        return fnmatchcase(layer, pattern)

    monkeypatch.setattr("lstmc_caffe.targets.target.fnmatchcase", matches)
    layers = lstmc.compile("lstm", T=50, N=1, D=2, H=2).layers
    assert len(set(asked)) == len(asked)
    assert len(layers) > 150
