"""``lstmc convert``: a trained model to a net in one command, each step held against the one before."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
import torch

import lstmc
from lstmc.dsl import Model
from lstmc.errors import DimError, ModelFileError
from lstmc.importers import ImportedModel, SourceError, import_file
from lstmc.importers.ir.values import Weight
from lstmc.importers.torch_export import exported
from tests.cli.conftest import LSTMC
from tests.cli.conftest import lstmc as command  # noqa: F401
from tests.importers.torch_files import save, tagger

SIZES = ("-D", "T=3", "-D", "N=2")


def test_one_command_goes_from_a_trained_model_to_a_net(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    done = command(
        "convert", "tagger.pt", "-o", "out", *SIZES, "--target", "flat", "--on", "interpreter", "--recurrent-only"
    )
    assert done.code == 0, done.err
    names = ("model.py", "weights.npz", "import.json", "net.prototxt", "net.caffemodel", "net.manifest.json")
    assert {path.name for path in Path("out").iterdir()} == set(names)
    assert "model.py by NumPy: all 3 agree" in done.out
    assert "model.py by PyTorch's own layers: all 3 agree" in done.out
    assert "interpreter: all " in done.out


@pytest.mark.caffe
def test_what_was_compared_is_in_the_result(tmp_path: Path) -> None:
    save(tagger(), tmp_path / "tagger.pt", "zip")
    done = lstmc.convert(
        tmp_path / "tagger.pt", tmp_path / "out", sizes={"T": 3, "N": 2}, recurrent_only=True, on=["caffe-cpu"]
    )
    assert done.passed
    assert [difference.name for difference in done.described] == ["Y", "h_T", "c_T"]
    assert [report.executor for report in done.verification.reports] == ["caffe-cpu"]
    x = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    with torch.no_grad():
        wanted = tagger().layer(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(done.net.run(X=x)["Y"], wanted, atol=1e-5)


def test_sizes_are_given_as_to_compile(tmp_path: Path) -> None:
    save(tagger(), tmp_path / "tagger.pt", "zip")
    done = lstmc.convert(tmp_path / "tagger.pt", tmp_path / "out", T=3, N=2, recurrent_only=True, on="interpreter")
    assert done.net.inputs == {"X": (3, 2, 5)}
    with pytest.raises(DimError, match=r"dimension T of input X .* give it a size with T=SIZE"):
        lstmc.convert(tmp_path / "tagger.pt", tmp_path / "out", N=2, recurrent_only=True, on="interpreter")
    with pytest.raises(ModelFileError, match="the size of T is given twice"):
        lstmc.convert(tmp_path / "tagger.pt", tmp_path / "out", T=3, N=2, sizes={"T": 4}, recurrent_only=True)


@pytest.mark.caffe
def test_the_line_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = re.findall(r"lstmc\.convert\([^)]*\)", readme)
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh())
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(3, 5),)), "tagger.pt2")
    net, x = eval(line, {"lstmc": lstmc}).net, np.ones((3, 5), np.float32)
    (found,) = net.run(dict.fromkeys(net.inputs, x), on="interpreter").values()
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(x)).numpy(), atol=1e-6)


def gru(kind: str, path: Path) -> Path:
    """A trained GRU over sequences of any length, and its file."""
    if kind == "keras":
        keras.Sequential([keras.Input((None, 5)), keras.layers.GRU(4, return_sequences=True)]).save(path / "net.keras")
        return path / "net.keras"
    module, x = torch.nn.GRU(5, 4).eval(), torch.randn(7, 2, 5)
    if kind == "onnx":
        path = path / "net.onnx"
        torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "T", 1: "N"}})
        return path
    open_sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=(open_sizes,)), path / "net.pt2")
    return path / "net.pt2"


@pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch
@pytest.mark.parametrize("step", [False, True], ids=["whole", "step"])
@pytest.mark.parametrize("kind", ["onnx", "pt2", "keras"])
def test_a_conversion_executes_one_text_and_traces_it_once(kind: str, step: bool, tmp_path: Path) -> None:
    texts, traces = list[str](), list[str]()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Model.graph.__code__:
            traces.append(frame.f_locals["self"].name)
        if event == "return" and frame.f_code.co_name == "<module>":
            texts.extend(name for name, value in frame.f_globals.items() if isinstance(value, Model))

    file = gru(kind, tmp_path)
    sizes = {name: {"T": 7, "N": 2}.get(name, 7) for name in import_file(file).net.open_sizes()}
    sys.setprofile(profile)
    try:
        done = lstmc.convert(file, tmp_path / "out", sizes={} if step else sizes, step=step, on="interpreter")
    finally:
        sys.setprofile(None)
    assert done.passed
    assert texts == ["net"]
    other_sizes = kind == "pt2" and step  # the source is compared at the sizes that it was exported for
    assert [name for name in traces if name != "model"] == ["net"] * (1 + other_sizes)  # "model": the formula of an op


def tampered(model: ImportedModel) -> ImportedModel:
    """A description whose weights are not those that were written: what a wrong recipe would be."""
    (name, weight), *_ = model.described.params.items()
    wrong = Weight(weight.shape, weight.sources, weight.recipe, lambda: weight.make() * 1.001)
    return replace(model, described=replace(model.described, params=model.described.params | {name: wrong}))


def test_a_model_that_does_not_mean_its_source_does_not_pass(tmp_path: Path) -> None:
    save(tagger(), tmp_path / "tagger.pt", "zip")
    wrong = tampered(import_file(tmp_path / "tagger.pt", recurrent_only=True))
    done = lstmc.convert(wrong, tmp_path / "out", sizes={"T": 3, "N": 2}, on=["interpreter"], prove=True)
    assert done.verification.passed
    assert not done.passed
    assert [difference.passed for difference in done.described] == [False, False, False]
    assert done.proof is not None
    assert [claim.proved for claim in done.proof.claims] == [False, False, False]


class Shifted(torch.nn.Module):
    """A GRU over the differences of three vectors and each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors, self.layer = torch.nn.Parameter(torch.rand(3, 5)), torch.nn.GRU(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(torch.nn.functional.mish(self.vectors - x))[0]
        return y


def test_a_model_of_one_frame_that_does_not_mean_its_source_does_not_pass(tmp_path: Path) -> None:
    model = lstmc.from_torch(Shifted().eval(), torch.randn(7, 1, 5), step=True, time={"x": 0})
    assert model.frames
    done = lstmc.convert(tampered(model), tmp_path, step=True, on="interpreter")
    assert not done.passed
    assert [difference.passed for difference in done.described] == [False]


@pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch
@pytest.mark.parametrize("number", [0.0, -1.0])
def test_inputs_have_the_number_that_a_mask_is_made_from(number: float, tmp_path: Path) -> None:
    layer = keras.layers.LSTM(4)
    masked = keras.Sequential([keras.Input((6, 3)), keras.layers.Masking(number), layer])
    plain = keras.Sequential([keras.Input((6, 3)), layer])
    masked.save(tmp_path / "masked.keras")
    plain.save(tmp_path / "plain.keras")
    right, other = (import_file(tmp_path / f"{name}.keras") for name in ("masked", "plain"))
    for described, passes in ((right.described, True), (other.described, False)):
        model = replace(right, described=described)
        done = lstmc.convert(model, tmp_path / str(passes), sizes={"N": 2}, on="interpreter")
        assert [difference.passed for difference in done.described] == [passes]


def test_convert_says_what_is_proved(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    sizes = ("-D", "N=1", "-D", "T=2", "--recurrent-only", "--on", "interpreter")
    done = command("convert", "tagger.pt", "-o", "out", *sizes, "--prove")
    lines = [line for line in done.out.splitlines() if "proved" in line]
    assert [line.partition(" for all ")[0] for line in lines] == [
        "model.py and the source's own description: proved",
        "proved",
    ]
    assert lines[0].endswith("with the trained parameters, at these sizes (X [2, 1, 5]): outputs Y, h_T, c_T")


def test_a_program_that_streams_is_written_beside_the_net(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    sizes = ("-D", "N=1", "-D", "T=5", "--recurrent-only", "--step", "--target", "opencv", "--on", "interpreter")
    done = command("convert", "tagger.pt", "-o", "out", *sizes, "--example", "python", "--example", "cpp")
    assert (done.err, done.code) == ("", 0)
    (program,), (_,) = Path("out").glob("*_stream.py"), Path("out").glob("*_stream.cpp")
    compile(program.read_text(), str(program), "exec")
    assert str(program) in done.out
    done = command("convert", "tagger.pt", "-o", "none", "--recurrent-only", "--no-compile", "--example", "python")
    expected = "expected no -D, --target, --on, --example and --backend-option with it"
    assert done.err == f"SourceError: --no-compile writes no net: {expected}\n"


def test_sizes_that_the_source_leaves_open_are_asked_for(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    done = command("convert", "tagger.pt", "-o", "out", "-D", "T=3", "--recurrent-only")
    assert done.code == 2
    assert done.err.startswith("DimError: ")
    assert "N" in done.err
    assert done.err.endswith(
        "\n  written into out, without a net: the imported model, to be edited and compiled"
        " (model.py, weights.npz, import.json)\n"
    )


def test_a_stream_of_a_state_dict_needs_no_length(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    done = command(
        "convert", "tagger.pt", "-o", "out", "-D", "N=1", "--recurrent-only", "--step", "--on", "interpreter"
    )
    assert (done.code, done.err) == (0, "")


def test_convert_names_from_torch_for_a_module(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        lstmc.convert(torch.nn.Linear(3, 2), tmp_path)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "SourceError: convert takes the file of a trained model, or an imported model, found Linear\n"
        "  a module of PyTorch: lstmc.convert(lstmc.from_torch(module, example), folder)"
    )


def test_a_size_that_the_example_fixed(command: LSTMC) -> None:  # noqa: F811
    class Ahead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 4, 3, padding=1)
            self.gru = torch.nn.GRU(4, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.gru(self.conv(x.transpose(1, 2)).transpose(1, 2))[0]
            return found

    program = exported(torch, Ahead(), (torch.zeros(1, 7, 3),), "ahead")
    torch.export.save(program, "ahead.pt2")
    done = command("convert", "ahead.pt2", "-o", "out", "-D", "T=9")
    assert done.code == 2
    assert done.err.startswith(
        "DimError: -D T=9: sizes that ahead.pt2 leaves open: none; its inputs are x [1, 7, 3]\n"
        "  The length of sequences is fixed at 7. "
    )
    assert "Imported with `step` the model can be streamed" in done.err
    assert done.err.endswith(
        "  export it again from an example of the size wanted; an ONNX, Keras or Caffe file takes other sizes by"
        " --shape\n"
    )
    done = command("convert", "ahead.pt2", "-o", "out", "--shape", "x=1,9,3")
    assert done.code == 2
    assert "  export the module again from an example of the shape wanted: torch.export.export(" in done.err


def test_weights_that_are_not_used_are_named(command: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    assert command("convert", "--no-compile", "tagger.pt", "-o", "out", "--recurrent-only").code == 0
    compiled = ("compile", "out/model.py", "-D", "T=3", "-D", "N=2", "-o", "net")
    note = "parameters start from their fills: out/weights.npz is not used. To use it: --weights out/weights.npz"
    assert note in command(*compiled).out
    assert "is not used" not in command(*compiled, "--weights", "out/weights.npz").out


class Indices(torch.nn.Module):
    """Inputs of integers and of truth values, whose domain no layer says."""

    def __init__(self, rows: int = 4) -> None:
        super().__init__()
        self.table, self.gru = torch.nn.Embedding(rows, 3), torch.nn.GRU(3, 4, batch_first=True)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y, _ = self.gru(self.table(torch.div(ids, 2, rounding_mode="floor") + ids % 2))
        weights = torch.softmax(y[:, :, 0].masked_fill(~mask, -1e9), 1)
        last = y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1)
        return last + (weights[:, :, None] * y).sum(1)

    inputs = torch.ones(2, 5, dtype=torch.long), torch.tensor([3, 5]), torch.ones(2, 5, dtype=torch.bool)


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporters
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_inputs_of_integers_are_drawn_as_integers(tmp_path: Path, ending: str) -> None:
    file, module = tmp_path / f"net.{ending}", Indices().eval()
    if ending == "pt2":
        torch.export.save(torch.export.export(module, Indices.inputs), file)
    else:
        torch.onnx.export(module, Indices.inputs, file, dynamo=False)
    done = lstmc.convert(file, tmp_path / "out", on=["interpreter", "caffe-cpu"])
    assert done.source is not None
    assert done.source.not_run is None
    assert done.passed
    text = (tmp_path / "out" / "model.py").read_text()
    assert text.count("values=integers(-16777216, 16777216)") == 2
    assert text.count("values=integers(0, 1)") == 1


def test_a_program_that_refuses_its_inputs_is_not_compared(tmp_path: Path) -> None:
    class Place(torch.nn.Module):
        def forward(self, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x).gather(1, 4 * place)

    program = torch.export.export(Place(), (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.long)))
    torch.export.save(program, tmp_path / "place.pt2")
    done = lstmc.convert(tmp_path / "place.pt2", tmp_path / "out", on="interpreter")
    assert done.source is not None
    assert str(done.source.not_run).startswith("PyTorch does not run this program: index 8 is out of bounds")
