"""Recurrences and shifts of PyTorch as people write them, streamed: each way of reading the past is a state."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lstmc import convert
from lstmc.importers import RefusedError, from_torch, import_file
from lstmc.importers.checks import to_source
from lstmc.importers.importer import ImportedModel
from lstmc.importers.ir.net import Net
from lstmc.interp import forward
from lstmc.ops import Array
from tests.importers.imported import assert_close, written_graph
from tests.importers.test_torch_modules import Lambda
from tests.quick_sample import one_in

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
F = nn.functional


def gru(width: int) -> nn.GRU:
    return nn.GRU(width, 5, batch_first=True)


def selective(x: torch.Tensor, make: nn.Module, read: nn.Module) -> Any:
    """A loop of Mamba: what the state is multiplied by, and what reads it, is another at each step."""
    decay, put, key = make(x).split([4, 4, 4], -1)
    decay, state, ys = torch.exp(-F.softplus(decay)), torch.zeros(2, 4, 4), []
    for t in range(x.shape[1]):
        state = decay[:, t, :, None] * state + put[:, t, :, None] * key[:, t, None]
        ys.append(torch.einsum("nde,ne->nd", state, key[:, t]))
    return read(torch.stack(ys, 1) + decay)


def gated(x: torch.Tensor, make: nn.Module, own: nn.Module) -> Any:
    """A loop of an SRU: its output has gates that no state is in."""
    (z, f, r), c, ys = make(x).chunk(3, -1), torch.zeros(2, 5), []
    for t in range(x.shape[1]):
        keep = torch.sigmoid(f[:, t] + own(c))
        c = keep * c + (1 - keep) * z[:, t]
        gate = torch.sigmoid(r[:, t] + 1)
        ys.append(gate * torch.tanh(c) + (1 - gate) * z[:, t])
    return torch.stack(ys, 1)


def joined(x: torch.Tensor, step: nn.Module, out: nn.Module) -> Any:
    """A cell of one product, of its input and its state."""
    h, ys = torch.zeros(2, 5), []
    for t in range(x.shape[1]):
        h = torch.tanh(step(torch.cat([x[:, t], h], 1)))
        ys.append(out(h))
    return torch.stack(ys, 1)


def before(x: torch.Tensor, by: int) -> torch.Tensor:
    return F.pad(x, (0, 0, by, -by))


def quasi(x: torch.Tensor, make: nn.Module) -> Any:
    """A QRNN: products of this step and the one before, then a loop of gates alone."""
    past = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    z, f, o = make(torch.cat([past, x], 2)).chunk(3, 2)
    z, f, o, c, ys = torch.tanh(z), torch.sigmoid(f), torch.sigmoid(o), torch.zeros(2, 5), []
    for t in range(x.shape[1]):
        c = f[:, t] * c + (1 - f[:, t]) * z[:, t]
        ys.append(o[:, t] * c)
    return torch.stack(ys, 1)


def average(x: torch.Tensor, own: nn.Module) -> Any:
    """An exponential moving average that begins with the first step."""
    x = own(x)
    ys = [x[:, 0]]
    for t in range(1, x.shape[1]):
        ys.append(0.9 * ys[-1] + 0.1 * x[:, t])
    return torch.stack(ys, 1)


def no_state(x: torch.Tensor, own: nn.Module, past: nn.Module) -> Any:
    """A cell whose first step has no state."""
    h, ys = None, []
    for t in range(x.shape[1]):
        h = torch.tanh(own(x[:, t]) if h is None else own(x[:, t]) + past(h))
        ys.append(h)
    return torch.stack(ys, 1)


def parallel(x: torch.Tensor, make: nn.Module) -> Any:
    """A MinGRU as its authors train it: the logarithms of its products are added up."""
    hidden, gate = make(x).chunk(2, 2)
    put = torch.where(hidden >= 0, (F.relu(hidden) + 0.5).log(), -F.softplus(-hidden)) - F.softplus(-gate)
    kept = F.pad(torch.cumsum(-F.softplus(gate), 1), (0, 0, 1, 0))
    put = torch.cat([torch.full((2, 1, 5), 0.5).log(), put], 1)
    return torch.exp(kept + torch.logcumsumexp(put - kept, 1))[:, 1:]


def attention(x: torch.Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Any:
    q, k, v = F.elu(q(x)) + 1, F.elu(k(x)) + 1, v(x)
    sums = torch.cumsum(k[..., None] * v[..., None, :], 1)
    return torch.einsum("ntd,ntde->nte", q, sums) / (q * k.cumsum(1)).sum(2, keepdim=True)


def counted(x: torch.Tensor) -> torch.Tensor:
    return torch.arange(1, x.shape[1] + 1)[None, :, None]


def running_norm(x: torch.Tensor, g: nn.Module) -> Any:
    mean = x.cumsum(1) / counted(x)
    square = (x * x).cumsum(1) / counted(x)
    return g((x - mean) / torch.sqrt(F.relu(square - mean * mean) + 1e-3))[0]


def turned(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2)


def pooled(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool1d(x, 3, 1)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = gru(4), nn.Parameter(torch.randn(1, 1, 5))

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)[0] * self.factor


STREAMS: dict[str, Any] = {
    "Mamba": Lambda(selective, make=nn.Linear(4, 12), read=nn.Linear(4, 3)),
    "SRU": Lambda(gated, make=nn.Linear(4, 15), own=nn.Linear(5, 5, bias=False)),
    "joined": Lambda(joined, step=nn.Linear(9, 5), out=nn.Linear(5, 2)),
    "paddings of two numbers": Lambda(
        lambda x, c, g: g(turned(c(F.pad(F.pad(turned(x), (1, 0)), (1, 0), value=1.0))))[0],
        c=nn.Conv1d(4, 3, 3), g=gru(3),
    ),
    "concatenated shift": Lambda(
        lambda x, g: g(x - torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))[0], g=gru(4)
    ),
    "shift of two steps behind zeros": Lambda(
        lambda x, g: g(x + torch.cat([torch.zeros_like(x[:, :2]), x[:, :-2]], 1))[0], g=gru(4)
    ),
    "padded shift": Lambda(lambda x, g: g(0.3 * x + 0.7 * before(x, 1))[0] + before(g(x)[0], 2), g=gru(4)),
    "window": Lambda(
        lambda x, g: g(torch.cat([F.pad(x, (0, 0, 2, 0))[:, at : at + x.shape[1]] for at in range(3)], 2))[0], g=gru(12)
    ),
    "cumulative sum": Lambda(lambda x, g: torch.cumsum(F.softplus(g(torch.cumsum(x, 1))[0]), 1), g=gru(4)),
    "static input": Lambda(
        lambda x, s, g: g(torch.cat([x, s[:, None].expand(-1, x.shape[1], -1)], 2))[0] * s[:, None, :1], g=gru(7)
    ),
    "cumulative product": Lambda(lambda x: (torch.cumprod(torch.sigmoid(x), 1), torch.logcumsumexp(x, 1))),
    "QRNN": Lambda(quasi, make=nn.Linear(8, 15)),
    "moving average from the first step": Lambda(average, own=nn.Linear(4, 3)),
    "no state at first": Lambda(no_state, own=nn.Linear(4, 5), past=nn.Linear(5, 5)),
    "MinGRU in parallel": Lambda(parallel, make=nn.Linear(4, 10)),
    "linear attention": Lambda(attention, q=nn.Linear(4, 3), k=nn.Linear(4, 3), v=nn.Linear(4, 5)),
    "running mean": Lambda(lambda x, own: own(x.cumsum(1) / counted(x)), own=nn.Linear(4, 3)),
    "running norm": Lambda(running_norm, g=gru(4)),
    "reciprocal count": Lambda(lambda x, g: g(x)[0].cumsum(1) * (1 / counted(x)), g=gru(4)),
    "maximum over the past": Lambda(lambda x, g: pooled(F.pad(turned(g(x)[0]), (2, 0), value=-torch.inf)), g=gru(4)),
    "padded maximum": Lambda(lambda x, g: F.max_pool1d(turned(g(x)[0]), 3, 1, 1), g=gru(4)),
    "padded mean": Lambda(lambda x, g: F.avg_pool1d(turned(g(x)[0]), 3, 1, 1), g=gru(4)),
    "padding that a function changes": Lambda(
        lambda x, c, g: g(turned(c(torch.sigmoid(F.pad(turned(x), (2, 0))))))[0], c=nn.Conv1d(4, 4, 3), g=gru(4)
    ),
    "difference from the first step": Lambda(lambda x, g: g(x)[0] - g(x)[0][:, :1], g=gru(4)),
    "first and last step": Lambda(lambda x, g: g(x)[0][:, -1] - x[:, 0, :1], g=gru(4)),
    "first state": Lambda(lambda x, g, own: g(x, torch.tanh(own(x[:, 0]))[None])[0], g=gru(4), own=nn.Linear(4, 5)),
    "late first state": Lambda(
        lambda x, c, g, own: g(turned(c(turned(x))), torch.tanh(own(x[:, 0]))[None])[0],
        c=nn.Conv1d(4, 4, 3, padding=1), g=gru(4), own=nn.Linear(4, 5),
    ),
    "first step twice": Lambda(lambda x, g: g(x - torch.cat([x[:, :1], x[:, :-1]], 1))[0], g=gru(4)),
    "learned first step": Lambda(
        lambda x, g, own: g(torch.cat([own.weight.expand(2, 1, -1), x[:, :-1]], 1))[0], g=gru(4), own=nn.Embedding(1, 4)
    ),
    "zeros of the shape of the input": Lambda(
        lambda x, g: torch.where(x > 0, g(x)[0][..., :4], torch.zeros_like(x)), g=gru(4)
    ),
    "late first step in front of a late sequence": Lambda(
        lambda x, c, d, g: g(torch.cat([turned(d(turned(x)))[:, :1], turned(c(turned(x)))[:, :-1]], 1))[0],
        c=nn.Conv1d(4, 4, 3, padding=1), d=nn.Conv1d(4, 4, 7, padding=3), g=gru(4),
    ),
    "shift alone": Lambda(lambda x, own: own(x) * torch.sigmoid(before(x, 1)), own=nn.Linear(4, 4)),
    "windows": Lambda(lambda x, own: own(F.pad(x, (0, 0, 2, 0)).unfold(1, 3, 1).flatten(2)), own=nn.Linear(12, 5)),
    "quotient of what is late": Lambda(
        lambda x, c, g: g(turned(c(turned(x))) / x.abs().sum(2, keepdim=True))[0],
        c=nn.Conv1d(4, 4, 3, padding=1), g=gru(4),
    ),
    "last step without padding": Lambda(
        lambda x, c, g: g(turned(c(turned(x))))[0][:, -1], c=nn.Conv1d(4, 4, 3), g=gru(4)
    ),
}  # fmt: skip
LONGER = 40  # steps, where the models were read at 9


DELAYS = dict.fromkeys(
    (
        "padded maximum", "padded mean", "late first state", "quotient of what is late", "MinGRU in parallel",
        "paddings of two numbers",
    ), 1,
) | {"late first step in front of a late sequence": 3}  # fmt: skip
NOT_IN_ONNX = {"cumulative product", "MinGRU in parallel", "windows"}  # the exporter has no such operators


def inputs_of(name: str, steps: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, steps, 4), torch.randn(2, 3)][: 1 + (name == "static input")]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(name: str) -> None:
    assert_streams(from_torch(STREAMS[name].eval(), *inputs_of(name, 9), step=True), name)


@pytest.mark.parametrize("name", one_in(6, STREAMS, tested=3))
def test_a_stream_of_a_program(name: str, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(STREAMS[name].eval(), tuple(inputs_of(name, 9))), tmp_path / "model.pt2")
    assert_streams(import_file(tmp_path / "model.pt2", step=True), name)


@pytest.mark.parametrize("name", one_in(6, [name for name in STREAMS if name not in NOT_IN_ONNX], tested=3))
def test_a_stream_of_onnx(name: str, tmp_path: Path) -> None:
    """An SRU's weight without a bias is one Identity a step in the file."""
    assert_streams(import_file(in_onnx(name, tmp_path, {}), step=True), name)


@pytest.mark.parametrize("name", one_in(4, ["moving average from the first step", "joined", "no state at first"]))
def test_a_loop_of_nine_steps_in_a_file_that_says_any_number(name: str, tmp_path: Path) -> None:
    path = in_onnx(name, tmp_path, {"x": {1: "T"}})
    with pytest.raises(RefusedError) as raised:
        import_file(path, step=True)
    assert raised.value.notes[-1] == (
        'if it has a loop of a fixed number of steps, give this number by shapes={"x": (2, T, 4)}'
    )
    assert_streams(import_file(path, step=True, shapes={"x": (2, 9, 4)}), name)


def in_onnx(name: str, folder: Path, axes: dict[str, Any]) -> Path:
    inputs = tuple(inputs_of(name, 9))
    torch.onnx.export(
        STREAMS[name].eval(), inputs, str(folder / "model.onnx"), dynamo=False, opset_version=17,
        input_names=["x", "s"][: len(inputs)], dynamic_axes=axes,
    )  # fmt: skip
    return folder / "model.onnx"


def assert_streams(found: ImportedModel, name: str) -> None:
    """At another length the model is its source, and no step depends on later ones."""
    longer, module = inputs_of(name, LONGER), STREAMS[name]
    assert found.net.time
    with torch.no_grad():
        expected = module(*longer)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for steps in (LONGER, LONGER - 7):
            outputs = streamed(found, [longer[0][:, :steps], *longer[1:]])
            for (output, y), whole in zip(outputs.items(), expected, strict=True):
                whole = module(longer[0][:, :steps]) if whole.ndim < 3 else whole
                assert_close({output: y}, {output: in_step(found.net, output, y, whole.numpy())})
                assert found.net.delays.get(output, 0) == DELAYS.get(name, 0)


def streamed(found: ImportedModel, inputs: list[torch.Tensor]) -> dict[str, Array]:
    """The outputs of a model for some steps, in the source's order of axes, from the step on that they come at."""
    net, fed = found.net, {new: x.numpy() for new, x in zip(found.described.inputs, inputs, strict=True)}
    graph = written_graph(net, {str(size): inputs[0].shape[1] for size in net.time})
    own = {n: np.transpose(array, net.axes.get(n, range(array.ndim))) for n, array in fed.items()}
    weights = {n: weight.array() for n, weight in net.params.items()}
    outputs = {n: to_source(net, n, y) for n, y in forward(graph, own, weights).outputs.items()}
    return {n: y.take(range(net.delays.get(n, 0), y.shape[axis]), axis) if (axis := time_of(net, n)) else y
            for n, y in outputs.items()}  # fmt: skip


def time_of(net: Net, output: str) -> int | None:
    shape = net.shapes[net.outputs[output]]
    places = [axis for axis, size in enumerate(shape) if size in net.time]
    return net.axes.get(output, range(len(shape)))[places[0]] if places else None


def in_step(net: Net, output: str, y: Array, whole: Array) -> Array:
    """What a source gives for all steps, as many as there are."""
    axis = time_of(net, output)
    return whole if axis is None else whole.take(range(y.shape[axis]), axis)


ALL_STEPS: dict[str, tuple[Any, str]] = {
    "last step added": (lambda x, g: g(x)[0] + g(x)[0][:, -1:], "it reads the last step at every step"),
    "last step repeated": (
        lambda x, g: x + g(x)[0][:, -1:, :4].expand(-1, 9, -1),
        "it reads the last step at every step",
    ),
    "state of the last step": (lambda x, g: g(x, g(x)[1])[0], "it reads the last step at every step"),
    "rolled": (lambda x, g: torch.roll(g(x)[0], 1, 1), "it reads the last step at every step"),
    "share of the length": (lambda x, g: g(x)[0] * torch.linspace(0, 1, 9)[None, :, None], "a constant of the graph"),
    "steps to the end": (lambda x, g: g(x)[0] * torch.arange(8, -1, -1.0)[None, :, None], "a constant of the graph"),
    "step in the middle": (lambda x, g: g(x)[0] - g(x)[0][:, 4:5], "it reads step 4 alone"),
    "last step but one": (lambda x, g: g(x[:, :-1])[0][:, -1], "it reads a sequence that ends 1 step before the last"),
    "second and last step": (lambda x, g: g(x)[0][:, -1] - x[:, 1, :1], "it reads an early step alone"),
    "two steps in front": (lambda x, g: g(torch.cat([x[:, :2], x[:, :-2]], 1))[0], "it joins sequences along time"),
}


def test_a_convolution_that_is_cut_behind_is_no_sign_of_time() -> None:
    """Without a padding in front it may be one of an image."""
    with pytest.raises(RefusedError, match="no axis is known as time"):
        from_torch(Lambda(lambda x, c: c(x)[..., :-2], c=nn.Conv1d(4, 3, 3)).eval(), torch.randn(2, 4, 9), step=True)


def test_a_running_sum_of_two_steps_is_over_time() -> None:
    found = from_torch(Lambda(lambda x: x.cumsum(1)).eval(), torch.randn(2, 2, 4), step=True)
    assert len(found.net.time) == 1


def test_a_factor_of_one_batch_and_one_step_is_a_vector() -> None:
    found = from_torch(Weighted().eval(), torch.randn(2, 9, 4), step=True)
    assert found.net.params["factor"].shape == (5,)


@pytest.mark.parametrize("name", ALL_STEPS)
def test_a_step_that_depends_on_later_ones_or_on_the_length_is_refused(name: str) -> None:
    function, why = ALL_STEPS[name]
    with pytest.raises(RefusedError, match=re.escape(why)):
        from_torch(Lambda(function, g=gru(4)).eval(), torch.randn(2, 9, 4), step=True)


def test_a_stream_goes_on_where_the_source_leaves_out_its_last_steps(tmp_path: Path) -> None:
    module = Lambda(lambda x, g: g(x)[0][:, :-2], g=gru(4)).eval()
    done = convert(from_torch(module, torch.randn(1, 9, 4), step=True), tmp_path, backend="c", on=["interpreter"])
    assert done.passed
