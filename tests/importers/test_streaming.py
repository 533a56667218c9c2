"""Models of frames over time: their length stays open, and convolutions over time go step by step, as in PyTorch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import nn

import lstmc
from lstmc import from_torch, scan
from lstmc.api.models import model_in
from lstmc.cells import causal_conv
from lstmc.errors import WeightsError
from lstmc.files.arrays import read_npz
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, RefusedError
from lstmc.importers.checks import check_net
from lstmc.importers.ir.values import named
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.prepare import one_step
from lstmc.weights import check_weights
from tests.importers.test_torch_modules import Lambda

pytestmark = pytest.mark.slow  # PyTorch exports each module

FRAMES, STEPS = 6, 12


def front(x: torch.Tensor) -> torch.Tensor:
    """[N, T, C] as [N, C, T], or back."""
    return x.transpose(1, 2)


def keywords(conv: Callable[..., Any], **parts: nn.Module) -> nn.Module:
    """A convolution over time, two layers of GRU and a linear one."""
    gru, out = nn.GRU(8, 5, 2, batch_first=True), nn.Linear(5, 3)
    return Lambda(
        lambda x, gru, out, **parts: out(gru(conv(x, **parts))[0]).softmax(-1), gru=gru, out=out, **parts
    ).eval()


def tcn(x: torch.Tensor, a: Any, b: Any, c: Any) -> torch.Tensor:
    y = a(front(x))
    for layer in (b, c):
        y = y + F.relu(layer(y)[..., : -layer.padding[0]])
    return front(y)


# of past frames alone: streamed as they are
CAUSAL: dict[str, Callable[[], nn.Module]] = {
    "a linear layer": lambda: keywords(lambda x, a, n: torch.relu(n(a(x))), a=nn.Linear(FRAMES, 8), n=nn.LayerNorm(8)),
    "padding in front": lambda: keywords(
        lambda x, c: front(c(F.pad(front(x), (4, 0)))), c=nn.Conv1d(FRAMES, 8, 5)
    ),
    "cut behind": lambda: keywords(
        lambda x, c, n: front(torch.tanh(n(c(front(x))[..., :-4]))),
        c=nn.Conv1d(FRAMES, 8, 3, padding=4, dilation=2), n=nn.BatchNorm1d(8),
    ),
    "each channel": lambda: keywords(
        lambda x, d, p: front(p(d(F.pad(front(x), (2, 0))))),
        d=nn.Conv1d(FRAMES, FRAMES, 3, groups=FRAMES), p=nn.Conv1d(FRAMES, 8, 1),
    ),
    "no recurrence": lambda: Lambda(
        tcn, a=nn.Conv1d(FRAMES, 4, 1), b=nn.Conv1d(4, 4, 3, padding=2), c=nn.Conv1d(4, 4, 3, padding=4, dilation=2)
    ).eval(),
    "images": lambda: keywords(
        lambda x, c: F.max_pool2d(F.relu(c(F.pad(x[:, None], (0, 0, 2, 0)))), (1, 3)).permute(0, 2, 1, 3).flatten(2),
        c=nn.Conv2d(1, 4, (3, 1)),
    ),
}  # fmt: skip

# of future frames too: streamed so many steps later
LATE: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "padding on both sides": (2, lambda: keywords(
        lambda x, c, n: front(torch.relu(n(c(front(x))))), c=nn.Conv1d(FRAMES, 8, 5, padding=2), n=nn.BatchNorm1d(8)
    )),
    "no padding": (4, lambda: keywords(lambda x, c: front(c(front(x))), c=nn.Conv1d(FRAMES, 8, 3, dilation=2))),
    "one after another": (3, lambda: keywords(
        lambda x, a, b: front(torch.sigmoid(b(torch.sigmoid(a(front(x)))))),
        a=nn.Conv1d(FRAMES, 4, 5, padding=2), b=nn.Conv1d(4, 8, 3, padding=1),
    )),
    "beside each other": (2, lambda: keywords(
        lambda x, a, b: front(torch.cat([a(front(x)), b(front(x))], 1) + a(front(x)).repeat(1, 2, 1)),
        a=nn.Conv1d(FRAMES, 4, 1), b=nn.Conv1d(FRAMES, 4, 5, padding="same"),
    )),
    "differences": (1, lambda: keywords(
        lambda x, a: a(torch.cat([x[:, 1:], x[:, 1:] - x[:, :-1]], -1)), a=nn.Linear(2 * FRAMES, 8)
    )),
    "the largest of three": (3, lambda: keywords(
        lambda x, c: front(F.max_pool1d(c(front(x)), 3, stride=1)), c=nn.Conv1d(FRAMES, 8, 3, padding=1)
    )),
    "images": (2, lambda: keywords(
        lambda x, a, b: F.relu(b(F.relu(a(x[:, None])))).permute(0, 2, 1, 3).flatten(2),
        a=nn.Conv2d(1, 4, 3, stride=(1, 2), padding=1), b=nn.Conv2d(4, 4, (3, 2), padding=(1, 0)),
    )),
    "a layer with and without a delay": (1, lambda: keywords(
        lambda x, c, r: torch.cat([r(x)[0], r(front(c(front(x))))[0]], -1),
        c=nn.Conv1d(FRAMES, FRAMES, 3, padding=1), r=nn.GRU(FRAMES, 4, batch_first=True),
    )),
    "a cell that is called at each step": (1, lambda: keywords(
        lambda x, c, cell: stepwise(cell, front(c(front(x)))),
        c=nn.Conv1d(FRAMES, 4, 3, padding=1), cell=nn.GRUCell(4, 8),
    )),
}  # fmt: skip


def stepwise(cell: nn.Module, x: torch.Tensor) -> torch.Tensor:
    states = [torch.zeros(x.shape[0], 8)]
    for t in range(x.shape[1]):
        states.append(cell(x[:, t], states[-1]))
    return torch.stack(states[1:], 1)


def streamed(model: ImportedModel, folder: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the model of one step gives, step by step, in the interpreter; x is [T, ...] as the model takes it."""
    write_files(folder, model.files())
    sizes = {size.name: 2 for size in model.net.time if size.name not in model.net.sizes}
    made = one_step(model_in(str(folder / "model.py")).model.graph(**sizes))
    weights = check_weights(read_npz(folder / "weights.npz", WeightsError), made.graph, "weights.npz")
    states = {pair.before: np.zeros(made.graph.node(pair.before).types[0].shape) for pair in made.states}
    (name,) = model.net.inputs
    found = []
    for frame in x:
        outputs = forward(made.graph, {name: frame[None], **states}, weights).outputs
        states = {pair.before: outputs[pair.after] for pair in made.states}
        found.append(outputs["Y"][0] if outputs["Y"].ndim == 3 else outputs["Y"])
    return np.stack(found)


def run(module: nn.Module, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return module(torch.from_numpy(x.astype(np.float32))).numpy().transpose(1, 0, 2)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_sees_no_future_frame_streams_as_it_is(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = CAUSAL[name]()
    model = from_torch(module, torch.zeros(1, STEPS, FRAMES))
    assert (model.net.sizes, model.net.delays, model.net.notes) == ({"T": STEPS}, {}, ())
    x = np.random.default_rng(0).normal(size=(1, 2 * STEPS, FRAMES))  # of a length that it was not exported at
    np.testing.assert_allclose(streamed(model, tmp_path, x[0][:, None]), run(module, x), atol=2e-6)


@pytest.mark.parametrize("name", LATE)
def test_what_sees_future_frames_streams_later(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    delay, module = LATE[name][0], LATE[name][1]()
    example = torch.zeros(1, STEPS, FRAMES)
    whole = from_torch(module, example)
    assert whole.net.sizes == {}
    assert whole.net.notes[-1].startswith(f"The length of sequences is fixed at {STEPS}. ")
    model = from_torch(module, example, step=True)
    assert (model.net.sizes, model.net.delays) == ({"T": STEPS}, {"Y": delay})
    assert model.streamed() is model
    assert (once := whole.streamed()).streamed() is once
    x = np.random.default_rng(0).normal(size=(1, 2 * STEPS, FRAMES))
    found, wanted = streamed(model, tmp_path, x[0][:, None]), run(module, x)
    count = 2 * STEPS - delay
    np.testing.assert_allclose(found[delay:], wanted[:count], atol=2e-6)
    assert model_in(str(tmp_path / "model.py")).model.delays == {"Y": delay}
    done = lstmc.convert(model, tmp_path / "net", step=True, on=["interpreter"])
    assert done.passed
    assert [d.name for d in done.described] == ["Y"]


def test_the_last_step_is_what_is_known_so_far(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Lambda(
        lambda x, gru, out: out(torch.relu(gru(x)[0])[:, -1]),
        gru=nn.GRU(FRAMES, 4, batch_first=True),
        out=nn.Linear(4, 3),
    ).eval()
    model = from_torch(module, torch.zeros(1, STEPS, FRAMES))
    x = np.random.default_rng(0).normal(size=(1, STEPS, FRAMES)).astype(np.float32)
    found = streamed(model, tmp_path, x[0][:, None])
    with torch.no_grad():
        for t in range(STEPS):
            np.testing.assert_allclose(found[t], module(torch.from_numpy(x[:, : t + 1])).numpy(), atol=2e-6)


@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("last", [lambda y, h: y[:, -1], lambda y, h: h[0], lambda y, h: y[:, -1:]])
def test_a_late_last_step_is_that_of_the_source_before(
    last: Callable[..., Any], convolutions: int, tmp_path: Path
) -> None:
    torch.manual_seed(convolutions)
    parts = {f"c{number}": nn.Conv1d(FRAMES, FRAMES, 3, padding=1) for number in range(convolutions)}

    def scores(x: torch.Tensor, take: Callable[..., Any], gru: Any, out: Any, **parts: Any) -> Any:
        y = front(x)
        for convolution in parts.values():
            y = torch.tanh(convolution(y))
        return out(take(*gru(front(y))))

    parts |= {"gru": nn.GRU(FRAMES, 4, batch_first=True), "out": nn.Linear(4, 3)}
    model = from_torch(
        Lambda(lambda x, **m: scores(x, last, **m), **parts).eval(), torch.zeros(1, STEPS, FRAMES), step=True
    )
    assert model.net.delays == {"Y": convolutions}
    x = np.random.default_rng(0).normal(size=(1, STEPS, FRAMES))
    found = streamed(model, tmp_path, x[0][:, None]).reshape(STEPS, 3)
    every = run(Lambda(lambda x, **m: scores(x, lambda y, h: y, **m), **parts).eval(), x)[:, 0]
    np.testing.assert_allclose(found[convolutions:], every[: STEPS - convolutions], atol=2e-6)
    done = lstmc.convert(model, tmp_path / "net", step=True, on=["interpreter"])
    assert [(each.name, each.passed) for each in done.described] == [("Y", True)]
    wrong = {name: array + 0.1 for name, array in done.net.weights.items()}
    assert not check_net(model, replace(done.net.compiled, model=whole(model, tmp_path)), wrong)[0].passed


def whole(model: ImportedModel, folder: Path) -> Graph:
    return model_in(str(folder / "net" / "model.py")).model.graph(**model.net.sizes)


def test_last_steps_of_different_delays_are_not_joined() -> None:
    module = Lambda(
        lambda x, c, g: torch.cat([g(front(c(front(x))))[1][0], x[:, -1]], -1),
        c=nn.Conv1d(FRAMES, FRAMES, 3, padding=1), g=nn.GRU(FRAMES, 3, batch_first=True),
    ).eval()  # fmt: skip
    with pytest.raises(RefusedError) as raised:
        from_torch(module, torch.zeros(1, STEPS, FRAMES), step=True)
    assert "its operands are of different steps, 0 and 1 steps late; pad the convolutions before them" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: keywords(lambda x, c: front(c(front(x))), c=nn.Conv1d(FRAMES, 8, 5, stride=2)),
         "conv1d (parts.c): a convolution of width 5 over time has a stride of 2 frames; use a stride of 1 along time,"
         " or stream only the part after it"),
        (lambda: Lambda(lambda x, g: g(x)[0].mean(1), g=nn.GRU(FRAMES, 3, batch_first=True)),
         "it takes the mean of all steps, which are known after the last one only; read the last step, y[:, -1], or"
         " take the mean in the program that streams"),
        (lambda: Lambda(lambda x, g: g(x)[0].std(1), g=nn.GRU(FRAMES, 3, batch_first=True)),
         "it takes the mean of all steps"),
        (lambda: Lambda(lambda x, g: torch.roll(g(x)[0], 1, 1), g=nn.GRU(FRAMES, 3, batch_first=True)),
         "it reads the last step at every step; read each step, or compute it in the program that streams"),
        (lambda: keywords(lambda x, c, n: front(n(c(front(x)))), c=nn.Conv1d(FRAMES, 8, 3, padding=1),
                          n=nn.GroupNorm(2, 8)),
         "group_norm (parts.n): it computes each step from all steps of its input; stream the part behind it, or"
         " compute each step alone (a LayerNorm in place of a GroupNorm)"),
        (lambda: Lambda(lambda x, g, a: a(g(x)[0], x, x)[0], g=nn.GRU(FRAMES, FRAMES, batch_first=True),
                        a=nn.MultiheadAttention(FRAMES, 2, batch_first=True)),
         "(parts.a): it relates every step to all others, as attention over a whole sequence does, and cannot be"
         " streamed"),
        (lambda: Lambda(lambda x, c: front(c(front(x))), c=nn.Conv1d(FRAMES, 8, 3, padding=1)),
         "the model: it has no recurrent layer and no convolution that is padded in front alone"),
        (lambda: Lambda(lambda x, g, table: g(x + table.weight)[0], g=nn.GRU(FRAMES, 3, batch_first=True),
                        table=nn.Embedding(STEPS, FRAMES)),
         "it reads parts.table.weight, which has a value for each of 12 steps; compute it, or make it an input"),
        (lambda: Lambda(lambda x, g: g(x)[0], g=nn.GRU(FRAMES, 3, batch_first=True, bidirectional=True)),
         "gru (parts.g): it runs backwards, so its first step needs the last input; use a layer of one direction"),
    ],
)  # fmt: skip
def test_what_cannot_be_streamed_is_named_by_its_layer(
    made: Callable[[], nn.Module], said: str, tmp_path: Path
) -> None:
    """Each layer once, by its module, or else by the line of the model's code; also where the import was for all
    steps, and the net is then of one."""
    module, example = made().eval(), torch.zeros(1, STEPS, FRAMES)
    with pytest.raises(RefusedError) as raised:
        from_torch(module, example, step=True)
    text = str(raised.value)
    assert text.startswith("RefusedError: the module cannot be streamed: 1 problem\n")
    assert said in text
    assert re.search(r"^  (\w+ \((parts\.\w+|test_torch_modules.py:\d+)\)|the model): it|a con", text, re.MULTILINE)
    with pytest.raises(RefusedError) as again:
        lstmc.convert(from_torch(module, example), tmp_path / "net", step=True)
    assert str(again.value) == text


def test_a_position_for_each_step_keeps_the_length() -> None:
    table = nn.Embedding(STEPS, FRAMES)
    module = Lambda(lambda x, g, table: g(x + table.weight)[0], g=nn.GRU(FRAMES, 3, batch_first=True), table=table)
    model = from_torch(module.eval(), torch.zeros(1, STEPS, FRAMES))
    assert [*model.net.inputs.values()] == [(1, STEPS, FRAMES)]
    assert "parts.table.weight, which has a value for each of 12 steps" in model.net.notes[-1]


@pytest.mark.parametrize(("dynamic", "late"), [(False, True), (True, False), (True, True)])
def test_the_same_from_onnx(tmp_path: Path, dynamic: bool, late: bool) -> None:
    torch.manual_seed(0)
    module = LATE["padding on both sides"][1]() if late else CAUSAL["a linear layer"]()
    path, x = tmp_path / "m.onnx", torch.zeros(1, STEPS, FRAMES)
    axes = {"x": {1: "frames"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], output_names=["Y"], dynamic_axes=axes)
    model = lstmc.import_file(path, step=True)
    assert [*model.net.inputs.values()] == [named(("frames" if dynamic else "T", 1, FRAMES))]
    delay = model.net.delays.get("Y", 0)
    assert delay == (2 if late else 0)
    array = np.random.default_rng(0).normal(size=(1, STEPS, FRAMES))
    found = streamed(model, tmp_path / "out", array[0][:, None])
    np.testing.assert_allclose(found[delay:], run(module, array)[: STEPS - delay], atol=2e-6)


def test_the_library_has_the_cell() -> None:
    conv = nn.Conv1d(4, 3, 5)
    T, N, D = lstmc.dims("T=7 N=2 D=4")

    @lstmc.model
    def net(x=lstmc.Input(T, N, D)):  # type: ignore[no-untyped-def]
        return {"y": scan(causal_conv(H=3, K=5, name="conv"), x)[0]}

    x = np.random.default_rng(0).normal(size=(7, 2, 4))
    weight = conv.weight.detach().numpy().transpose(0, 2, 1).reshape(3, 20)
    weights = {"conv/W": weight, "conv/b": conv.bias.detach().numpy()}
    found = forward(net.graph(), {"x": x}, weights).outputs["y"]
    with torch.no_grad():
        wanted = conv(F.pad(torch.from_numpy(x.astype(np.float32)).permute(1, 2, 0), (4, 0))).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_attention_over_all_steps_is_refused_by_its_name() -> None:
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(3, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.gru(x)[0]
            found: torch.Tensor = self.attention(y, y, y)[0]
            return found

    with pytest.raises(RefusedError) as caught:
        from_torch(Attentive().eval(), torch.zeros(1, 6, 3), step=True)
    (refusal,) = caught.value.refusals
    assert "attention" in refusal.node
    assert refusal.why == (
        "it relates every step to all others, as attention over a whole sequence does, and cannot be streamed"
    )


def test_a_loop_without_states_needs_no_mask() -> None:
    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape or None)

    step = helper.make_graph([helper.make_node("Tanh", ["x_t"], ["y_t"])], "s", [value("x_t", 1, 4)], [value("y_t")])
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], kernel_shape=[3], pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[2, 0, 1]),
        helper.make_node("Scan", ["t"], ["y"], num_scan_inputs=1, body=step),
    ]
    weight = numpy_helper.from_array(np.ones((4, 3, 3), np.float32), "W")
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3, STEPS)], [value("y")], [weight])
    model = lstmc.from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), step=True)
    assert model.net.delays == {"y": 1}
    assert "where" not in model.files()["model.py"].decode()
