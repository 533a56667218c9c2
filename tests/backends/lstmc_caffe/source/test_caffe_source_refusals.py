"""What a net of Caffe's must have to be imported, each error by its text; no Caffe is needed for any of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import lstmc
from lstmc.cli.console import error_text
from lstmc.errors import LstmcError
from lstmc.importers import import_file
from lstmc_caffe.proto.net import NetOfBytes, RawLayer
from lstmc_caffe.source.layer import layer_fields, phases
from tests.backends.lstmc_caffe.source.old_nets import SEQUENCE, VIDEO, caffemodel


def written(folder: Path, text: str = VIDEO, weights: bytes | None = None) -> tuple[Path, Path]:
    (folder / "old.prototxt").write_text(text)
    (folder / "old.caffemodel").write_bytes(caffemodel() if weights is None else weights)
    return folder / "old.prototxt", folder / "old.caffemodel"


LSTM = 'num_output: 5\n    weight_filler { type: "uniform" min: -0.5'


def test_a_caffemodel_is_asked_for_its_prototxt(tmp_path: Path) -> None:
    _, weights = written(tmp_path)
    with pytest.raises(LstmcError) as caught:
        import_file(weights)
    assert error_text(caught.value) == (
        "SourceError: old.caffemodel: this file has the weights of a Caffe net: give its prototxt, and this by"
        " --weights old.caffemodel"
    )


def test_the_blob_of_a_data_layer_is_named_whose_shape_is_wanted(tmp_path: Path) -> None:
    text = VIDEO.replace('input: "data"\ninput_shape { dim: 6 dim: 1 dim: 8 dim: 8 }   # T * N frames\n', "")
    net, weights = written(
        tmp_path, text.replace("layer {", 'layer { name: "d" type: "Data" top: "data" }\nlayer {', 1)
    )
    with pytest.raises(LstmcError) as caught:
        import_file(net, weights=weights)
    assert error_text(caught.value).endswith(
        "bottoms = frames of unknown shape: no known layer computes data; give --shape data=SIZES"
    )
    assert import_file(net, weights=weights, shapes={"data": (6, 1, 8, 8)}).net.inputs


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            *('type: "LSTM"', 'type: "Sigmoid"'),
            "old.prototxt cannot be imported: 1 problem\n  conv1 (Convolution): blobs = none:"
            " expected 2 of them, [4, 1, 3, 3], [4]; give the weights that were trained with this net",
        ),
        (
            *(LSTM, f"expose_hidden: true {LSTM}"),
            "old.prototxt cannot be imported: 1 problem\n  lstm1 (LSTM): bottoms and tops = 2"
            " and 1: with expose_hidden = true there are others; check the net in Caffe",
        ),
        (
            *(LSTM, LSTM.replace("5", "6", 1)),
            "old.prototxt cannot be imported: 1 problem\n  lstm1 (LSTM): blobs = [20, 36],"
            " [20], [20, 5]: expected 3 of them, [24, 36], [24], [24, 6]; give the weights that were trained with this"
            " net",
        ),
        (
            *("dim: 3 dim: 2 }\nlayer", "dim: 3 dim: 3 }\nlayer"),
            "old.prototxt cannot be imported: 1 problem\n  lstm1 (LSTM): x, cont, num_output"
            " = [3, 2, 4, 3, 3], [3, 3], 5: expected [T, N, ...], [T, N], units; check the net in Caffe",
        ),
        (
            *(LSTM, LSTM.replace("num_output", "num_outputs")),
            "old.prototxt: line 22: RecurrentParameter has no field num_outputs: did you mean num_output?",
        ),
        (
            *('bottom: "lstm1" top: "scores"', 'bottom: "lstm3" top: "scores"'),
            "old.prototxt cannot be imported: 1 problem\n  scores (InnerProduct): bottoms = lstm3:"
            " no layer before it writes that; did you mean lstm1?",
        ),
        (
            *('type: "Pooling"', 'type: "MyPooling"'),
            "old.prototxt cannot be imported: 1 problem\n  lstm1 (LSTM): bottoms = frames of"
            " unknown shape: no known layer computes pool1; give shapes=pool1=SIZES",
        ),
    ],
)
def test_a_net_that_is_not_as_it_should_be(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in VIDEO
    net, weights = written(tmp_path, VIDEO.replace(old, new))
    with pytest.raises(LstmcError) as caught:
        import_file(net, weights=weights)
    assert caught.value.text().partition(": ")[2] == error


def test_a_shape_that_is_not_known_can_be_given(tmp_path: Path) -> None:
    net, weights = written(tmp_path, VIDEO.replace('type: "Pooling"', 'type: "MyPooling"'))
    model = import_file(net, weights=weights, shapes={"pool1": (6, 4, 3, 3)})
    assert model.net.inputs == {"frames": (3, 2, 4, 3, 3), "cont": (3, 2)}


def test_a_shape_is_of_a_blob_of_the_net(tmp_path: Path) -> None:
    net, weights = written(tmp_path)
    with pytest.raises(LstmcError) as caught:
        import_file(net, weights=weights, shapes={"frame": (20, 1, 16)})
    assert caught.value.message == "old.prototxt: it has no blob frame: did you mean frames?"


def test_the_text_keeps_its_own_shapes(tmp_path: Path) -> None:
    """The copied layers, and the inputs, are those of the text; a whole net has the shapes of the user."""
    net, weights = written(tmp_path, SEQUENCE, caffemodel(((20, 3), (20,), (20, 5))))
    model = import_file(net, weights=weights, shapes={"x": (7, 1, 3), "cont": (7, 1)})
    with pytest.raises(LstmcError) as caught:
        lstmc.convert(model, tmp_path / "out", target="opencv", on="interpreter")
    mend = "write it into the prototxt, or import the whole net, whole=True"
    assert caught.value.notes == (
        f"blob x: shape = [7, 1, 3]: the net itself has [4, 1, 3]; {mend}",
        f"blob cont: shape = [7, 1]: the net itself has [4, 1]; {mend}",
        f"written into {tmp_path / 'out'}, without a net: the imported model, to be edited and compiled"
        " (model.py, weights.npz, import.json)",
    )
    assert "or import the whole net, --whole\n  written into " in error_text(caught.value)
    assert not (tmp_path / "out" / "old.opencv.prototxt").exists()
    result = lstmc.convert(model, tmp_path / "whole", target="opencv", on="interpreter", whole=True)
    assert result.passed
    (text,) = (path.read_text() for path in result.paths if path.suffix == ".prototxt")
    assert "dim: 7" in text


def test_weights_are_asked_for(tmp_path: Path) -> None:
    net, weights = written(tmp_path)
    with pytest.raises(LstmcError) as caught:
        import_file(net)
    asked = "a prototxt has no weights: give the caffemodel that was trained with it"
    assert caught.value.message == f"{net.name}: {asked}, weights=FILE.caffemodel"
    assert error_text(caught.value) == f"SourceError: {net.name}: {asked}, --weights FILE.caffemodel"
    with pytest.raises(LstmcError, match=r"nowhere\.caffemodel: no such file"):
        import_file(net, weights=tmp_path / "nowhere.caffemodel")
    weights.write_bytes(caffemodel()[:-30])
    with pytest.raises(LstmcError, match="expected a caffemodel, found something else, or a damaged one"):
        import_file(net, weights=weights)
    weights.write_bytes(caffemodel(short=4))
    with pytest.raises(LstmcError, match=r"blob lstm1/0: shape = \[20, 36\] in 2,876 bytes: expected four bytes"):
        import_file(net, weights=weights)
    (tmp_path / "x.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(LstmcError, match="it has its weights itself; only those of a prototxt lie in another file"):
        import_file(tmp_path / "x.safetensors", weights=weights)


def test_a_target_of_blobs_a_step_cannot_stand_among_other_layers(tmp_path: Path) -> None:
    net, weights = written(tmp_path)
    with pytest.raises(LstmcError) as caught:
        lstmc.convert(net, tmp_path / "out", weights=weights, target="noslice", on=["interpreter"])
    assert [note.split(":")[0] for note in caught.value.notes[:-1]] == ["blob frames", "blob cont", "blob lstm1"]
    assert "target noslice has a blob for each step, and no layer that cuts or joins them" in caught.value.notes[0]


def test_the_written_model_has_the_recurrent_layers_alone(tmp_path: Path) -> None:
    net, weights = written(tmp_path)
    text = import_file(net, weights=weights).files()["model.py"].decode()
    assert 'scan(lstm_cell(H=5, name="lstm1"), frames_rows, cont=cont)' in text
    assert "each pass from zero" in text.replace("\n", " ")


def test_rates_that_are_not_kept_are_told(tmp_path: Path) -> None:
    net, weights = written(tmp_path, VIDEO.replace('type: "LSTM" ', 'type: "LSTM" param { lr_mult: 2 } '))
    notes = import_file(net, weights=weights).net.notes
    assert notes[-1] == "Trained on, lstm1 learns at the usual rate: lr_mult and decay_mult are not kept."
    assert len(import_file(written(tmp_path)[0], weights=weights).net.notes) == len(notes) - 1


@pytest.mark.slow
def test_names_of_the_other_layers_are_not_taken(tmp_path: Path) -> None:
    clash = VIDEO.replace('"scores"', '"lstm1/linear_W_x"').replace('"conv1"', '"lstm1/t000/g"')
    net, weights = written(tmp_path, clash)
    done = lstmc.convert(net, tmp_path / "out", weights=weights, target="flat", on=["interpreter"])
    assert done.passed
    text = (tmp_path / "out" / "old.flat.prototxt").read_text()
    names = [line for line in text.splitlines() if line.strip().startswith("name:") and "lstm1/linear_W_x" in line]
    assert names == ['  name: "lstm1/linear_W_x_2"']


@pytest.mark.slow
def test_a_phase_is_kept(tmp_path: Path) -> None:
    net, weights = written(tmp_path, VIDEO.replace('type: "LSTM" ', 'type: "LSTM" include { phase: TEST }'))
    lstmc.convert(net, tmp_path / "out", weights=weights, target="flat", on=["interpreter"])
    made = lstmc_layers((tmp_path / "out" / "old.flat.prototxt").read_text())
    assert len(made) > 20
    assert all("include { phase: TEST }" in layer for layer in made)


def lstmc_layers(text: str) -> list[str]:
    pieces = [text[field.start : field.stop] for field in layer_fields(text)]
    return [piece for piece in pieces if "\n  name:" in piece]  # people's have theirs on the first line here


def test_layers_are_found_in_text_whatever_stands_in_it() -> None:
    text = """name: "layer { }" # layer { in a comment }
layer: < name: 'it\\'s }' type: "A" include { phase: TRAIN } exclude { stage: "x" } > force_backward: true
layer{name:"b"}"""
    found = layer_fields(text)
    assert [text[f.start : f.stop][:12] for f in found] == ["layer: < nam", 'layer{name:"']
    assert phases(text, found[0]) == '  include { phase: TRAIN }\n  exclude { stage: "x" }\n'
    assert phases(text, found[1]) == ""


def test_the_layers_of_a_caffemodel_are_its_bytes_and_other_fields_stay() -> None:
    others = b"\x28\x01" + b"\x0d\0\0\0\0" + b"\x11" + bytes(8)
    net = NetOfBytes.FromString(caffemodel() + others)
    assert [RawLayer.FromString(layer).name for layer in net.layer] == ["lstm1"]
    assert all(layer in caffemodel() for layer in net.layer)
    assert others in net.SerializeToString()
