"""A whole net of Caffe's for other programs: which of its layers are taken, and what cannot be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc.errors import LstmcError
from lstmc.importers import ImportedModel, import_file
from lstmc.importers.checks import evaluate
from lstmc.interp import forward
from lstmc.manifest import parse_manifest
from lstmc.ops import Array
from lstmc_caffe.proto.net import RawNet, net_from_text
from lstmc_caffe.source.whole_net import in_use
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.source.old_nets import SEQUENCE, VIDEO, caffemodel

BLOBS = {
    ("conv1", "Convolution"): [(4, 1, 3, 3), (4,)],
    ("lstm1", "LSTM"): [(20, 36), (20,), (20, 5)],
    ("scores", "InnerProduct"): [(3, 5), (3,)],
}


def whole(
    folder: Path, text: str, shapes: Mapping[str, tuple[int, ...]] = {}, values: Mapping[str, Array] = {}
) -> ImportedModel:
    """A net with weights that are drawn, all of it."""
    model, draw = RawNet(name="video"), np.random.default_rng(0)
    for (name, kind), found in BLOBS.items():
        layer = model.layer.add(name=name, type=kind)
        for shape in found:
            blob = layer.blobs.add(data=draw.normal(size=shape).astype("<f4").tobytes())
            blob.shape.dim.extend(shape)
    (folder / "old.prototxt").write_text(text)
    (folder / "old.caffemodel").write_bytes(model.SerializeToString())
    read = {"weights": folder / "old.caffemodel", "shapes": shapes, "values": values}
    return import_file(folder / "old.prototxt", **read).whole()  # type: ignore[arg-type]


def test_what_is_for_training_is_left_out_and_outputs_are_the_blobs_that_nothing_reads(tmp_path: Path) -> None:
    text = VIDEO + (
        'layer { name: "noise" type: "Power" bottom: "scores" top: "scores" include { phase: TRAIN } }\n'
        'layer { name: "staged" type: "Power" bottom: "scores" top: "scores" include { stage: "other" } }\n'
        'layer { name: "loss" type: "EuclideanLoss" bottom: "scores" bottom: "label" top: "loss" }\n'
        'layer { name: "score" type: "Accuracy" bottom: "scores" bottom: "label" top: "score" }\n'
        'layer { name: "copies" type: "Split" bottom: "scores" top: "a" top: "b" }\n'
        'layer { name: "used" type: "TanH" bottom: "a" top: "shown" exclude { phase: TRAIN } }\n'
    )
    model = whole(tmp_path, text.replace("layer {", 'layer { name: "label" type: "Data" top: "label" }\nlayer {', 1))
    assert model.net.inputs == {"data": (6, 1, 8, 8), "cont": (3, 2)}
    assert list(model.net.outputs) == ["b", "shown"]
    assert model.surroundings is None
    assert model.whole() is model


def test_a_layer_that_the_target_cannot_load_is_a_failure(tmp_path: Path) -> None:
    """OpenCV loads a Dropout and an InnerProduct along axis 2, and cannot create an Embed or an ArgMax."""
    embed = 'layer { name: "e" type: "Embed" bottom: "cont" top: "e" embed_param { num_output: 2 input_dim: 2 } }\n'
    drop = 'layer { name: "d" type: "Dropout" bottom: "scores" top: "scores" }\n'
    best = 'layer { name: "b" type: "ArgMax" bottom: "scores" top: "b" }\n'
    whole(tmp_path, VIDEO)
    net, weights = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    found = {}
    for name, text in (("embed", VIDEO + drop + embed + best), ("drop", VIDEO + drop)):
        net.write_text(text)
        found[name] = lstmc.convert(net, tmp_path / name, weights=weights, target="opencv", on="interpreter")
    assert [(each.layer, each.type) for each in found["embed"].findings] == [("e", "Embed"), ("b", "ArgMax")]
    assert found["embed"].remarks == found["drop"].remarks == ()
    assert not found["embed"].passed
    assert found["drop"].findings == ()
    assert found["drop"].passed


@pytest.mark.caffe
def test_a_layer_in_place_changes_all_blobs_that_have_its_memory(tmp_path: Path) -> None:
    """Caffe gives the tops of these layers the memory of their bottom: who reads the bottom later reads the change."""
    text = ""
    for name, kind, rest in (
        ("a", "Reshape", "reshape_param { shape { dim: 3 dim: -1 } }"),
        ("b", "Flatten", ""),
        ("c", "Split", 'top: "c_other"'),
        ("d", "Slice", ""),
        ("e", "Concat", ""),
    ):
        text += (
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}\n'
            f'layer {{ name: "{name}_before" type: "TanH" bottom: "{name}" top: "{name}_before" }}\n'
            f'layer {{ name: "{name}_shared" type: "{kind}" bottom: "{name}" top: "{name}_shared" {rest} }}\n'
            f'layer {{ name: "{name}_twice" type: "Flatten" bottom: "{name}_shared" top: "{name}_twice" }}\n'
            f'layer {{ name: "{name}_power" type: "Power" bottom: "{name}_twice" top: "{name}_twice"'
            " power_param { shift: 1 } }\n"
            f'layer {{ name: "{name}_after" type: "TanH" bottom: "{name}" top: "{name}_after" }}\n'
        )
    model = whole(tmp_path, text)
    inputs = {name: np.random.default_rng(0).normal(size=(2, 3)) for name in model.described.inputs}
    assert model.runtime is not None
    wanted, found = model.runtime.run(inputs), evaluate(model.described, inputs)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["e_after"], np.tanh(inputs["e"] + 1))
    np.testing.assert_allclose(found["e_before"], np.tanh(inputs["e"]))


def test_frames_that_a_reshape_fixes_are_refused_with_the_sizes_of_one_step(tmp_path: Path) -> None:
    with pytest.raises(LstmcError) as caught:
        whole(tmp_path, VIDEO).streamed()
    assert str(caught.value) == (
        "RefusedError: old.prototxt cannot be streamed: 1 problem\n"
        "  frames (Reshape): it fixes 3 steps of 2 sequences; for one step, give it the shape 1, 1, 4, 3, 3, and each"
        " input 1 frame, step or sequence"
    )
    one = VIDEO.replace("dim: 6 ", "dim: 1 ").replace("{ dim: 3 dim: 2 ", "{ dim: 1 dim: 1 ")
    whole(tmp_path, one)
    result = lstmc.convert(
        tmp_path / "old.prototxt", tmp_path / "out", weights=tmp_path / "old.caffemodel", backend="c", on="interpreter"
    )
    assert list(result.net.files) == ["net.c", "net.h", "net.manifest.json"]


@pytest.mark.parametrize("step_at_import", [True, False])
def test_a_net_to_stream_is_the_whole_net(tmp_path: Path, step_at_import: bool) -> None:
    """The layers around a recurrent one are of all steps, and cannot stand around one of a single step."""
    net, weights = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    net.write_text(SEQUENCE)
    weights.write_bytes(caffemodel(((20, 3), (20,), (20, 5))))
    model = import_file(net, weights=weights, step=step_at_import)
    assert (model.surroundings is None) == step_at_import
    result = lstmc.convert(model, tmp_path / "out", target="opencv", step=True, on="interpreter")
    assert result.passed
    assert parse_manifest((tmp_path / "out" / f"{result.net.name}.manifest.json").read_bytes()).states
    assert sorted(path.name for path in result.paths if path.suffix in (".prototxt", ".caffemodel")) == [
        f"{result.net.name}.caffemodel",
        f"{result.net.name}.prototxt",
    ]


def test_the_whole_net_is_converted_to_layers_of_the_target(tmp_path: Path) -> None:
    """An InnerProduct along axis 2 becomes one along axis 1, in a net of its own."""
    whole(tmp_path, VIDEO)
    net, weights = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    done = lstmc.convert(net, tmp_path / "out", weights=weights, whole=True, target="opencv", on="opencv")
    assert done.remarks == ()
    assert done.verification
    assert lint_text(done.net.prototxt, load_target("opencv")).violations == ()
    assert not list((tmp_path / "out").glob("*.opencv.prototxt"))


@pytest.mark.parametrize(
    ("rules", "used"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ('include { not_stage: "x" }', True),
        ('include { stage: "x" }', False),
        ('exclude { stage: "x" }', True),
        ("include { min_level: 1 }", False),
        ("include { max_level: 0 }", True),
        ("include { max_level: -1 }", False),
    ],
)
def test_a_layer_is_there_where_caffe_has_it_in_the_phase_test(rules: str, used: bool) -> None:
    (layer,) = net_from_text(f'layer {{ name: "a" type: "TanH" {rules} }}').layer
    assert in_use(layer) == used


def behind(layer: str) -> str:
    """VIDEO with a layer between its images and its frames."""
    return VIDEO.replace('layer { name: "frames"', f'{layer}\nlayer {{ name: "frames"')


AT = 'bottom: "pool1" top: "pool1"'
REFUSED = {
    "crop (Crop): type = Crop: its computation, by its type and fields, cannot be expressed; import the recurrent"
    " layers alone, or replace the layer": (
        behind('layer { name: "crop" type: "Crop" bottom: "pool1" bottom: "data" top: "pool1" }'),
        {"pool1": (6, 4, 3, 3)},
    ),
    "pool1 (Pooling): type = Pooling: its computation, by its type and fields, cannot be expressed; import the"
    " recurrent layers alone, or replace the layer": (VIDEO.replace("pool: MAX", "pool: STOCHASTIC"), {}),
    "n (LRN): norm_region = WITHIN_CHANNEL: only sums over channels can be expressed; replace the layer": (
        behind(f'layer {{ name: "n" type: "LRN" {AT} lrn_param {{ norm_region: WITHIN_CHANNEL }} }}'),
        {},
    ),
    "n (BatchNorm): use_global_stats = false: then it depends on what else is in the batch; train on, or use the net,"
    " with those that were stored": (
        behind(f'layer {{ name: "n" type: "BatchNorm" {AT} batch_norm_param {{ use_global_stats: false }} }}'),
        {},
    ),
    "n (BatchNorm): blobs = none: expected 3 of them, [4], [4], [1]; give the weights that were trained with this"
    " net": (behind(f'layer {{ name: "n" type: "BatchNorm" {AT} }}'), {}),
    "p (Pooling): bottoms = caffe.MaxPooling: the last window would be empty, with size (1, 1) and stride (3, 3): x is"
    " f32[6,4,3,3]: they do not fit the layer; check the net in Caffe": (
        behind(f'layer {{ name: "p" type: "Pooling" {AT} pooling_param {{ kernel_size: 1 stride: 3 }} }}'),
        {"pool1": (6, 4, 3, 3)},
    ),
    "s (Scale): fields = power_param.power: a Scale layer is read by its scale_param alone, and with these it may"
    " compute something else; remove them if it does not, or replace the layer": (
        behind(f'layer {{ name: "s" type: "Scale" {AT} power_param {{ power: 2 }} }}'),
        {"pool1": (6, 4, 3, 3)},
    ),
    "noise (DummyData): data_filler = gaussian: it is drawn again in each pass; make it an Input": (
        VIDEO
        + 'layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param { shape { dim: 3 }'
        + ' data_filler { type: "gaussian" } } }',
        {},
    ),
    "scores (InnerProduct): bottoms = caffe.InnerProduct: axis 7 does not exist: x is f32[3,2,5], with 3 axes: they do"
    " not fit the layer; check the net in Caffe": (VIDEO.replace("axis: 2", "axis: 7"), {}),
    "both (Concat): bottoms = other of unknown shape: no known layer computes other; give shapes=other=SIZES": (
        VIDEO
        + 'layer { name: "other" type: "Data" top: "other" }\n'
        + 'layer { name: "both" type: "Concat" bottom: "scores" bottom: "other" top: "both" }',
        {},
    ),
}


@pytest.mark.parametrize("refusal", REFUSED)
def test_what_cannot_be_expressed_is_said(tmp_path: Path, refusal: str) -> None:
    text, shapes = REFUSED[refusal]
    with pytest.raises(LstmcError) as caught:
        whole(tmp_path, text, shapes=shapes)
    assert caught.value.message == "old.prototxt cannot be imported: 1 problem"
    assert caught.value.notes == (refusal,)


def test_propagate_down_says_nothing_of_inference(tmp_path: Path) -> None:
    frozen = VIDEO.replace('type: "Convolution"', 'type: "Convolution" propagate_down: false', 1)
    assert frozen != VIDEO
    assert whole(tmp_path, frozen).files() == whole(tmp_path, VIDEO).files()


def test_a_scale_whose_bias_leaves_no_place_for_a_fraction_rounds(tmp_path: Path) -> None:
    scale = "propagate_down: false scale_param { bias_term: true }"
    model = RawNet(layer=[{"name": "s", "type": "Scale"}, {"name": "back", "type": "Bias"}])
    for layer, numbers in ((model.layer[0], (2.0, 1.5 * 2**23)), (model.layer[1], (-1.5 * 2**23,))):
        for value in numbers:
            layer.blobs.add(data=np.full(3, value, "<f4").tobytes()).shape.dim.append(3)
    (tmp_path / "round.caffemodel").write_bytes(model.SerializeToString())
    (tmp_path / "round.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        f'layer {{ name: "s" type: "Scale" bottom: "x" top: "s" {scale} }}\n'
        'layer { name: "back" type: "Bias" bottom: "s" top: "y" }\n'
    )
    read = import_file(tmp_path / "round.prototxt", weights=tmp_path / "round.caffemodel")
    x = np.array([[0.3, 0.7, 1.1], [-0.8, 2.2, 0.1]])
    (y,) = forward(read.net.graph, {"x": x}, {n: w.array() for n, w in read.net.params.items()}).outputs.values()
    np.testing.assert_array_equal(y, np.rint(2 * x))


def test_all_that_is_refused_is_said_at_once_and_not_what_reads_it(tmp_path: Path) -> None:
    text = behind('layer { name: "crop" type: "Crop" bottom: "pool1" bottom: "data" top: "pool1" }')
    text += 'layer { name: "mvn" type: "MVN" bottom: "data" top: "mvn" }\n'
    with pytest.raises(LstmcError) as caught:
        whole(tmp_path, text, shapes={"pool1": (6, 4, 3, 3)})
    assert [note.partition(" ")[0] for note in caught.value.notes] == ["crop", "mvn"]


def test_a_shape_that_a_layer_of_data_does_not_say_can_be_given(tmp_path: Path) -> None:
    text = VIDEO.replace('input: "data"\ninput_shape { dim: 6 dim: 1 dim: 8 dim: 8 }   # T * N frames\n', "")
    text = text.replace("layer {", 'layer { name: "data" type: "Data" top: "data" }\nlayer {', 1)
    model = whole(tmp_path, text, shapes={"data": (6, 1, 8, 8)})
    assert model.net.inputs == {"cont": (3, 2), "data": (6, 1, 8, 8)}


def test_an_indicator_of_ones_is_none_and_another_constant_is_a_parameter(tmp_path: Path) -> None:
    model = whole(tmp_path, VIDEO, values={"cont": np.array(1)})
    assert list(model.net.inputs) == ["data"]
    assert "cont" not in model.files()["model.py"].decode().partition("@model")[2]
    cont = np.array([[1, 1], [0, 1], [1, 1]])
    model = whole(tmp_path, VIDEO, values={"cont": cont})
    assert list(model.net.inputs) == ["data"]
    np.testing.assert_array_equal(model.net.params["cont"].array(), cont)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scores": np.array(1)}, "old.prototxt: it has no input scores: found data, cont"),
        (
            {"cont": np.ones(3)},
            "cont cannot be the constant: expected one number or [3, 2], found [3]",
        ),
    ],
)
def test_constants_that_cannot_be(tmp_path: Path, values: Mapping[str, Array], message: str) -> None:
    with pytest.raises(LstmcError) as caught:
        whole(tmp_path, VIDEO, values=values)
    assert caught.value.message == message
