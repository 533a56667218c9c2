"""Nets over bands and frames as nets of one frame: time is one axis of an input, and loops over bands stay inside."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lstmc import convert, load
from lstmc.importers import ImportedModel, RefusedError, SourceError, from_onnx, from_torch, import_file
from lstmc.ir import graph_work
from tests.cli.conftest import LSTMC, lstmc  # noqa: F401
from tests.importers.dual_path_nets import NETS, over_bands
from tests.importers.dual_path_nets import Path as Half
from tests.quick_sample import one_in

FRAMES = 200


def net_of(name: str) -> nn.Module:
    torch.manual_seed(3)
    made: nn.Module = NETS[name]().eval()
    return made


def exported(module: nn.Module, is_open: bool = True) -> onnx.ModelProto:
    file, axes = io.BytesIO(), {"x": {2: "T"}, "y": {2: "T"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.randn(1, 2, 7, 8),), file, input_names=["x"], output_names=["y"], opset_version=17,
            dynamic_axes=axes if is_open else None, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@cache
def open_net(name: str) -> onnx.ModelProto:
    return exported(net_of(name))


@pytest.mark.parametrize("name", one_in(4, NETS))
def test_a_net_of_bands_and_frames_streams_in_c(name: str, tmp_path: Path) -> None:
    module = net_of(name)
    done = convert(from_onnx(open_net(name), step=True), tmp_path, target="c", on=["interpreter"])
    assert done.passed
    assert done.source is not None
    assert [difference.name for difference in done.source.differences] == ["y"]
    products = graph_work(done.net.compiled.model).multiply_adds  # those of loops inside a frame, which C unrolls
    assert any(f"each step: {products} multiply-adds".encode() in text for text in done.net.files.values())
    x = torch.randn(1, 2, FRAMES, 8)
    with torch.no_grad():
        expected = module(x).numpy()
    (path,) = (path for path in done.paths if path.suffix == ".c")
    with load(path).stream() as step:
        frames = [step(x=frame.numpy())["y"] for frame in x.split(1, 2)]
    np.testing.assert_allclose(np.concatenate(frames, 2), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dprnn", "dpdfnet"])
def test_it_streams_in_layers_of_caffe_and_from_pytorch_itself(name: str, tmp_path: Path) -> None:
    model = from_torch(net_of(name), torch.randn(1, 2, 12, 8), step=True)
    done = convert(model, tmp_path, target="flat", on=["interpreter"])
    assert done.passed
    assert done.net.inputs["x"] == (1, 2, 1, 8)


class Written(nn.Module):
    """A loop over bands that is written out, in groups of units, in front of a layer over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(24, 5, batch_first=True)
        self.x, self.h = nn.Linear(4, 6), nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, steps, bands, _ = x.shape
        h, ys = x.new_zeros(n, steps, 6), []
        for band in range(bands):
            h = torch.tanh(self.x(x[:, :, band]) + self.h(h))
            h = h.reshape(n, steps, 2, 3).softmax(-1).reshape(n, steps, 6)
            ys.append(h[..., :4])
        y: Tensor = self.layer(torch.cat(ys, -1))[0]
        return y


def test_a_loop_over_bands_that_is_written_out_has_time_in_any_axis(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module, x = Written().eval(), torch.randn(1, 9, 6, 4)
    done = convert(from_torch(module, x, time={"x": 1}), tmp_path, target="c", on=["interpreter"])
    with torch.no_grad():
        expected = module(x).numpy()
    (path,) = (path for path in done.paths if path.suffix == ".c")
    with load(path).stream() as step:
        (frames,) = zip(*(step(x=frame.numpy()).values() for frame in x.split(1, 1)), strict=True)
    np.testing.assert_allclose(np.concatenate(frames, 1), expected, rtol=0, atol=1e-5)


def test_an_open_axis_is_time_or_the_user_says_which() -> None:
    with pytest.raises(RefusedError) as caught:
        from_onnx(open_net("dpcrn"))
    assert caught.value.notes[-1] == "one frame of it can be imported, with its states, by step=True"
    by_hand = from_onnx(open_net("dpcrn"), time={"x": -2})
    assert by_hand.files() == from_onnx(open_net("dpcrn"), step=True).files()
    assert len(by_hand.net.states) == 3


class OneWay(nn.Module):
    """Loops that run forwards over bands and over frames alike."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = Half(2, nn.GRU(2, 2, batch_first=True), 2, True)
        self.frames = Half(2, nn.GRU(2, 2, batch_first=True), 2, False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frames(self.bands(x))
        return y


def test_two_axes_that_may_be_time_are_asked_for() -> None:
    fixed = exported(OneWay(), is_open=False)
    with pytest.raises(SourceError) as caught:
        from_onnx(fixed, step=True)
    assert caught.value.message == (
        "the model: expected one axis of the inputs along which loops run forwards alone, as time, found 2:"
        ' time={"x": 2} or time={"x": 3}'
    )
    assert set(from_onnx(fixed, time={"x": 3}).net.states) == {"bands_layer_GRU_h"}
    assert set(from_onnx(fixed, time={"x": 2}).net.states) == {"frames_layer_GRU_h"}
    (state,) = from_onnx(exported(OneWay()), step=True).net.states  # the open axis comes first
    assert state == "frames_layer_GRU_h"


class Around(nn.Module):
    """A net of bands and frames behind another layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.net = layer, NETS["dprnn"]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(self.layer(x))
        return y


class Shifted(nn.Module):
    """Frames that come ``ahead`` frames later; a net of one frame has them so late."""

    def __init__(self, ahead: int, negative: bool) -> None:
        super().__init__()
        self.ahead, self.negative = ahead, negative

    def forward(self, x: Tensor) -> Tensor:
        if self.negative:
            return pad(x, (0, 0, -self.ahead, self.ahead))
        return pad(x[:, :, self.ahead :], (0, 0, 0, self.ahead))


class Before(nn.Module):
    """Frames beside those ``by`` frames before, whose ends are cut off before zeros are joined to them."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5 * torch.cat([torch.zeros_like(x[:, :, : self.by]), x[:, :, : -self.by]], 2)


class Cut(nn.Module):
    """A convolution that is padded by more on both sides, without its first and last frames."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, (3, 1), padding=(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)[:, :, 1:-1]
        return y


class EachBand(nn.Module):
    """A convolution of the frames of each band, which is padded before, or is cut on both sides behind."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.layer, self.cut = nn.Conv1d(2, 2, 3, padding=2 if cut else 0), cut

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, f = x.shape
        rows = x.permute(0, 3, 1, 2).reshape(n * f, c, t)
        rows = self.layer(rows)[:, :, 1:-1] if self.cut else self.layer(pad(rows, (1, 1)))
        return rows.reshape(n, f, c, t).permute(0, 2, 3, 1)


class Beside(nn.Module):
    """The sum of the input and of layers that see the future by different numbers of frames."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + sum(layer(x) for layer in self.layers)


def window(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.ZeroPad2d((0, 0, before, after)), nn.Conv2d(2, 2, (before + after + 1, 1)))


AHEAD: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "a window around": (lambda: nn.Conv2d(2, 2, 3, padding=1), 1),
    "padded on both sides": (lambda: window(2, 1), 1),
    "the future alone": (lambda: window(0, 3), 3),
    "two windows": (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.PReLU(), window(1, 2)), 3),
    "the past of what is late": (lambda: nn.Sequential(window(0, 2), nn.Sigmoid(), window(3, 0)), 2),
    "a logarithm that is late": (lambda: nn.Sequential(window(0, 1), Log(), window(1, 0)), 1),
    "shifted": (lambda: Shifted(2, False), 2),
    "shifted by a negative padding": (lambda: nn.Sequential(Shifted(1, True), window(1, 0)), 1),
    "cut on both sides": (lambda: Cut(), 1),
    "a convolution of each band": (lambda: EachBand(False), 1),
    "a convolution of each band, cut": (lambda: EachBand(True), 1),
    "joined behind zeros": (lambda: nn.Sequential(Before(1), window(1, 1), Before(2)), 1),
    "beside": (lambda: Beside(window(1, 1), nn.Sequential(window(0, 2), nn.Tanh(), window(2, 0)), window(2, 0)), 2),
    "a dilation": (lambda: nn.Conv2d(2, 2, 3, padding=(2, 1), dilation=(2, 1)), 2),
}


class Log(nn.Module):
    """A function that is not finite at 0, where a late value may be before its first frame."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x * x)


def in_c(model: ImportedModel, folder: Path, x: Tensor) -> tuple[list[Any], Any]:
    """The only output for each frame of a stream in C, in the source's order of axes, and the conversion."""
    done = convert(model, folder, target="c", on=["interpreter"])
    into, out_of = (np.array(model.net.axes.get(own, range(4))) for own in ("x", next(iter(model.net.outputs))))
    (path,) = (path for path in done.paths if path.suffix == ".c")
    with load(path).stream() as step:
        (frames,) = zip(*(step(x=frame.numpy().transpose(into)).values() for frame in x.split(1, 2)), strict=True)
    return [frame.transpose(np.argsort(out_of)) for frame in frames], done


@pytest.mark.parametrize("name", one_in(3, AHEAD))
def test_what_sees_frames_of_the_future_is_so_many_frames_late(name: str, tmp_path: Path) -> None:
    made, late = AHEAD[name]
    torch.manual_seed(5)
    module = Around(made()).eval()
    x = torch.randn(1, 2, 60, 8)
    frames, done = in_c(from_onnx(exported(module), step=True), tmp_path, x)
    assert done.passed
    assert done.net.compiled.delays == {"y": late}
    with torch.no_grad():
        expected = module(x).numpy()[:, :, : 60 - late]
    np.testing.assert_allclose(np.concatenate(frames[late:], 2), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class Bands(nn.Module):
    """A function of frames, behind a loop over bands of both directions and without a path around it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, nn.GRU(2, 1, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(over_bands(x, self.layer))


def running_norm(x: Tensor) -> Tensor:
    count = torch.ones_like(x).cumsum(2)
    mean = x.cumsum(2) / count
    return (x - mean) / torch.sqrt((x * x).cumsum(2) / count - mean**2 + 0.1)


REMEMBERED: dict[str, Callable[[Tensor], Tensor]] = {
    "running norm": running_norm,
    "running norm behind a look-ahead": lambda x: running_norm(pad(x, (0, 0, 0, 1))[:, :, 1:]),
    "sum": lambda x: torch.tanh(x.cumsum(2)),
    "sum of what is chosen": lambda x: torch.where(x > 0, x, torch.zeros_like(x)).cumsum(2),
    "difference": lambda x: x - pad(x, (0, 0, 1, 0))[:, :, :-1],
}


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("name", REMEMBERED)
def test_what_a_function_remembers_is_a_state(name: str, kind: str, tmp_path: Path) -> None:
    """Time is the open axis of the one file, and is named for the other, whose sizes are numbers."""
    torch.manual_seed(3)
    module, x = Bands(REMEMBERED[name]).eval(), torch.randn(1, 2, 40, 8)
    if kind == "pt2":
        torch.export.save(torch.export.export(module, (x[:, :, :9],)), tmp_path / "net.pt2")
        with pytest.raises(RefusedError, match=re.escape('name time, as in time={"x": 2}')):
            import_file(tmp_path / "net.pt2", step=True)
        model = import_file(tmp_path / "net.pt2", time={"x": 2})
    else:
        model = from_onnx(exported(module), step=True)
    frames, _ = in_c(model, tmp_path / "out", x)
    with torch.no_grad():
        expected = module(x).numpy()[:, :, : 40 - (late := max(model.net.delays.values(), default=0))]
    assert late == ("look-ahead" in name)
    np.testing.assert_allclose(np.concatenate(frames[late:], 2), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_loops_over_bands_alone_are_no_stream() -> None:
    with pytest.raises(SourceError, match="remembers frames along axis 2 of x, found none"):
        from_torch(Bands(torch.tanh).eval(), torch.randn(1, 2, 9, 8), time={"x": 2})


def test_an_axis_of_which_no_past_is_read_is_no_time() -> None:
    """Images whose number is open."""
    with pytest.raises(RefusedError, match="no axis is known as time"):
        from_onnx(exported(nn.Conv2d(2, 3, 1)), step=True)


class Given(nn.Module):
    """A layer over time that begins from an input."""

    def __init__(self, returned: bool) -> None:
        super().__init__()
        self.layer, self.returned = nn.GRU(8, 5, batch_first=True), returned

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, last = self.layer(x, h)
        return (y, last) if self.returned else y


def test_a_state_that_is_an_input_is_carried_by_an_output() -> None:
    inputs = torch.randn(1, 9, 8), torch.randn(1, 1, 5)
    assert len(from_torch(Given(True).eval(), *inputs, time={"x": 1}).net.states) == 1
    # without the output the first state is given once, as to any stream
    module = Given(False).eval()
    named, found = (from_torch(module, *inputs, **how) for how in ({"time": {"x": 1}}, {"step": True}))
    assert named.files() == found.files()
    assert named.net.states == {}


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(2, keepdim=True)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            nn.Conv2d(2, 2, (4, 3), padding=(1, 1)),
            "its windows of 4 frames over 1 zeros in front, 1 behind, are not one a frame",
        ),
        (nn.Conv2d(2, 2, (1, 3), stride=(2, 1), padding=(0, 1)), "it has a stride of 2 frames"),
        (Mean(), "it takes some steps, or all of them, together"),
        (
            nn.MaxPool2d((2, 1), 1, (1, 0)),
            "it is padded by less than any number, and the frames before the first one are 0",
        ),
        (nn.Sequential(nn.ZeroPad2d((0, 0, 1, 1)), nn.Tanh()), "it reads a sequence that is padded along time"),
    ],
)
def test_what_needs_more_than_the_past_is_refused_by_name(layer: nn.Module, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        from_onnx(exported(Around(layer).eval()), time={"x": 2})
    (refusal,) = caught.value.refusals
    assert caught.value.message == "the model cannot be streamed: 1 problem"
    assert "layer" in refusal.node
    assert refusal.why == said


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ({"y": 2}, 'time={"y": 2}: no input y: the inputs are x'),
        ({"x": 4}, 'time={"x": 4}: expected an axis of x [1, 2, T, 8] with several elements, from 0 on'),
        ({"x": 0}, 'time={"x": 0}: expected an axis of x [1, 2, T, 8] with several elements, from 0 on'),
    ],
)
def test_an_axis_that_is_none_is_refused(time: dict[str, int], said: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_onnx(open_net("dprnn"), time=time)
    assert caught.value.message == said


def test_time_is_named_on_the_command_line(lstmc: LSTMC) -> None:  # noqa: F811
    Path("net.onnx").write_bytes(exported(OneWay(), is_open=False).SerializeToString())
    done = lstmc("convert", "net.onnx", "-o", "c", "--target", "c", "--step")
    assert done.code == 2
    assert "found 2: --time x=2 or --time x=3" in done.err
    done = lstmc("convert", "net.onnx", "-o", "c", "--target", "c", "--time", "x=2")
    assert (done.code, done.err) == (0, "")
    assert "float frames_layer_GRU_h[16];" in Path("c/net.h").read_text()
    done = lstmc("convert", "net.onnx", "-o", "c", "--time", "x")
    assert done.err == "SourceError: --time takes IN=AXIS, as in --time x=2, found 'x'\n"
