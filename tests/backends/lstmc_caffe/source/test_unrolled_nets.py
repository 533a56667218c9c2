"""Nets in which somebody unrolled a recurrence, by NetSpec or by lstmc: imported, their steps rolled up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc.api.models import model_in
from lstmc.errors import LstmcError
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, import_file
from lstmc.importers.checks import evaluate
from lstmc.interp import forward
from lstmc.ir import Graph, Scan
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.proto.net import RawNet
from lstmc_caffe.runtime.runner import Runner
from tests.cells.scanned import cell_graph, drawn
from tests.importers.imported import imported

POST = Path(__file__).parent.parent / "runtime" / "netspec_post.py"
STEP = """\
@cell
def lstm_cell(
    Slice1=Input(1, 2, 4, 3), h=State(1, 2, 5), c=State(1, 2, 5), *, w_Mxw=Param(20, 12), w_Mxb=Param(20),
    w_Mhw=Param(20, 5),
):
    Mx_Mh = linear(reshape(Slice1, 1, 2, 12), w_Mxw, w_Mxb) + linear(h, w_Mhw)
    raw_i, raw_i_2, raw_i_3, raw_i_4 = split(Mx_Mh, 4, axis=2)
    c_2 = sigmoid(raw_i_2) * c + sigmoid(raw_i) * tanh(raw_i_4)
    h_2 = sigmoid(raw_i_3) * tanh(c_2)
    return h_2, {"h": h_2, "c": c_2}


@model
def net(
    X=Input(T, 2, 4, 3),
):
    X_rows = reshape(X, T, 1, 2, 4, 3)
    lstm_h_2, _ = scan(lstm_cell(name="lstm"), X_rows)
    lstm_h_2_rows = reshape(lstm_h_2, T, 2, 5)
    return {"H": lstm_h_2_rows}
"""


@pytest.mark.caffe
def test_the_post_s_net_becomes_a_cell_and_a_scan(caffe: Runner, tmp_path: Path) -> None:
    caffe.call(POST, "save", {"shape": [3, 2, 4, 3], "units": 5, "folder": str(tmp_path)}, {})
    given = {"weights": tmp_path / "post.caffemodel", "shapes": {"X": (3, 2, 4, 3)}}
    done = lstmc.convert(tmp_path / "post.prototxt", tmp_path / "out", **given, on=["caffe-cpu"])  # type: ignore[arg-type]
    assert done.source is not None
    assert [difference.name for difference in done.source.differences] == ["H"]  # real Caffe on the post's own net
    assert done.passed
    text = (tmp_path / "out" / "model.py").read_text()
    assert text.endswith(STEP)
    assert '\nT = dims("T=3")\n' in text
    assert [*done.net.weights] == ["lstm/w_Mxw", "lstm/w_Mxb", "lstm/w_Mhw"]
    # of another length it is the net that the post's program builds of that length
    x, dh = np.random.default_rng(0).normal(size=(5, 2, 4, 3)), np.zeros((5, 2, 5))
    weights = {name: np.asarray(array, np.float64) for name, array in done.net.weights.items()}
    arrays = {"X": x, "dH": dh, **{name.removeprefix("lstm/"): array for name, array in weights.items()}}
    wanted = caffe.call(POST, "run", {"shape": [5, 2, 4, 3], "units": 5}, arrays).arrays["H"]
    found = forward(model_in(str(tmp_path / "out" / "model.py")).graph({"T": 5}), {"X": x}, weights).outputs["H"]
    assert float(np.abs(wanted).max()) > 1e-3
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def written(graph: Graph, target: str, folder: Path) -> ImportedModel:
    """A model's net for a target, imported."""
    backend, name = CaffeBackend(), graph.name
    weights = drawn(name, graph).weights
    write_files(folder, backend.emit(compile_graph(graph, backend, target=target), weights).files)
    return import_file(folder / f"{name}.prototxt", weights=folder / f"{name}.caffemodel")


def rolled(model: ImportedModel) -> list[Scan]:
    return [step.op for step in model.net.steps if isinstance(step.op, Scan)]


def assert_means_the_same(model: ImportedModel) -> None:
    """The written model, in the interpreter, is the net as it was described, step by step."""
    inputs = {name: np.random.default_rng(0).uniform(0.1, 1, shape) for name, shape in model.described.inputs.items()}
    found = imported(model.described).interpreted(inputs)
    for name, array in evaluate(model.described, inputs).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "target", "options"),
    [
        ("lstm", "caffe", {"states": False}),  # a first step from zeros has fewer layers
        ("lstm", "flat", {"states": False}),
        ("lstm", "noslice", {"states": False}),
        ("gru", "flat", {"reverse": True}),
        ("indrnn", "noslice", {}),  # its recurrent weight is no product's
        ("sru", "flat", {}),  # no weight is within its recurrence
        ("min_lstm", "flat", {}),
        ("phased_lstm", "caffe", {}),  # rounds; c is made after what the next step's product needs
    ],
)
def test_what_lstmc_wrote_comes_back_as_one_scan(
    name: str, target: str, options: dict[str, bool], tmp_path: Path
) -> None:
    model = written(cell_graph(name, (4, 2), **options), target, tmp_path)
    (scan,) = rolled(model)
    assert (model.net.sizes.get(str(scan.length), scan.length), scan.reverse) == (4, options.get("reverse", False))
    assert_means_the_same(model)


def test_weights_have_the_names_by_which_steps_share_them(tmp_path: Path) -> None:
    graph = cell_graph("lstm", (4, 2), states=False)
    model = written(graph, "flat", tmp_path)
    assert {name: weight.recipe for name, weight in model.net.params.items()} == {
        "cell_W_x": "cell/W_x", "cell_b": "cell/b", "cell_2/W_h": "cell/W_h",
    }  # fmt: skip
    values, made = drawn(graph.name, graph), imported(model.described)
    found = made.interpreted({"x_rows": values.inputs["x"].reshape(8, 3)})
    wanted = forward(graph, values.inputs, values.weights).outputs
    np.testing.assert_allclose(found["y_rows"].reshape(4, 2, 4), wanted["y"], rtol=1e-5, atol=1e-6)


# errors and notes ------------------------------------------------------------------------------------------------

CHAIN = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n' + "".join(
    f'layer {{ name: "f{t}" type: "InnerProduct" bottom: "{"x" if t == 0 else f"y{t - 1}"}" top: "z{t}"'
    ' param { name: "W" } inner_product_param { num_output: 3 bias_term: false } }\n'
    f'layer {{ name: "g{t}" type: "{kind}" bottom: "z{t}" top: "y{t}" }}\n'
    for t, kind in enumerate(["TanH", "TanH", "Sigmoid", "TanH"])
)


def of_text(folder: Path, text: str) -> ImportedModel:
    """A net with one weight W [3, 3]."""
    model = RawNet(name="net")
    layer = model.layer.add(name="f0", type="InnerProduct")
    layer.blobs.add(data=np.arange(9, dtype="<f4").tobytes()).shape.dim.extend((3, 3))
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(model.SerializeToString())
    return import_file(folder / "net.prototxt", weights=folder / "net.caffemodel")


def test_steps_that_are_not_the_same_stay_and_a_note_says_so(tmp_path: Path) -> None:
    model = of_text(tmp_path, CHAIN)
    assert rolled(model) == []
    assert model.net.notes == (
        "Products with W come 4 times, each after the one before, but what lies between them is not the same: these"
        " steps stay written out.",
    )
    assert_means_the_same(model)


def test_what_a_slice_had_to_name_is_no_output_nor_is_what_is_silenced(tmp_path: Path) -> None:
    cut = 'layer { name: "c" type: "Slice" bottom: "y3" top: "a" top: "b" top: "c" slice_param { axis: 1 } }\n'
    more = 'layer { name: "d" type: "AbsVal" bottom: "b" top: "d" }\nlayer { name: "q" type: "Silence" bottom: "c" }\n'
    model = of_text(tmp_path, CHAIN + cut + more)
    assert [*model.net.outputs] == ["d"]
    assert model.net.notes[0] == "No outputs: a, which a Slice had to name and nothing reads."


def test_a_net_of_constants_has_to_be_told_its_inputs(tmp_path: Path) -> None:
    text = CHAIN.replace('type: "Input" top: "x" input_param', 'type: "DummyData" top: "x" dummy_data_param')
    with pytest.raises(LstmcError) as caught:
        of_text(tmp_path, text)
    assert caught.value.text() == (
        "SourceError: net.prototxt: it has no inputs; give the shapes of those that are to be fed of x (DummyData)"
    )
    given = import_file(tmp_path / "net.prototxt", weights=tmp_path / "net.caffemodel", shapes={"x": (5, 3)})
    assert given.net.inputs == {"x": (5, 3)}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            *('bottom: "z1"', 'bottom: "z9"'),
            "  g1 (TanH): bottoms = z9: no layer before it writes that; check the net in Caffe",
        ),
        (*('top: "y3"', 'top: "y3" top: "more"'), "  g3 (TanH): tops = 2: expected 1; check the net in Caffe"),
    ],
)
def test_what_is_no_net_of_caffe_s_is_refused(tmp_path: Path, old: str, new: str, found: str) -> None:
    with pytest.raises(LstmcError) as caught:
        of_text(tmp_path, CHAIN.replace(old, new))
    assert caught.value.text().splitlines()[1] == found


def test_a_constant_without_a_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LstmcError, match=r"d \(DummyData\): shape = none: a constant must have one; check"):
        of_text(tmp_path, CHAIN + 'layer { name: "d" type: "DummyData" top: "d" }')


def test_a_constant_larger_than_any_tensor_is_refused(tmp_path: Path) -> None:
    large = "dummy_data_param { shape { dim: 2 dim: 99999999999 } }"
    with pytest.raises(LstmcError, match=r"tensor d has no usable shape: \(2, 99999999999\)"):
        of_text(tmp_path, CHAIN + f'layer {{ name: "d" type: "DummyData" top: "d" {large} }}')
