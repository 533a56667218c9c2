"""Nets of one frame with states as inputs and outputs, of PyTorch, as ONNX; and the same nets with look-alikes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from torch import Tensor, nn

F, H, L = 6, 5, 4  # features of a frame, units, steps of a cache
Shapes = Sequence[tuple[int, ...]]
Step = Callable[..., Any]


class Frame(nn.Module):
    """A function of a frame and states, with layers by name."""

    def __init__(self, step: Step, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.step = step

    def forward(self, *inputs: Tensor) -> Any:
        return self.step(*inputs, **dict(self.layers.items()))


@dataclass(frozen=True)
class Case:
    """A net of one frame. ``states`` are the shapes of its states; those ``unproved`` must be named by the user."""

    step: Step
    states: Shapes
    layers: Callable[[], dict[str, nn.Module]] = dict
    frame: tuple[int, ...] = (1, F)
    proved: bool = True
    more: Shapes = field(default=())  # further inputs of each step

    def model(self) -> onnx.ModelProto:
        """The net as ONNX: inputs x, more_0, ..., in_0, ...; outputs y, out_0, ..."""
        names = ["x", *(f"more_{i}" for i in range(len(self.more))), *(f"in_{i}" for i in range(len(self.states)))]
        torch.manual_seed(1)
        return exported(Frame(self.step, **self.layers()), (self.frame, *self.more, *self.states), names, self.outputs)

    @property
    def outputs(self) -> list[str]:
        return ["y", *(f"out_{i}" for i in range(len(self.states)))]

    @property
    def pairs(self) -> dict[str, str]:
        return {f"in_{i}": f"out_{i}" for i in range(len(self.states))}


def exported(module: nn.Module, shapes: Shapes, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    file = io.BytesIO()
    examples = tuple(torch.rand(shape) for shape in shapes)
    torch.onnx.export(
        module.eval(), examples, file, input_names=inputs, output_names=outputs, dynamo=False, opset_version=17
    )
    return onnx.load_from_string(file.getvalue())


def tcn(x: Tensor, *caches: Tensor, **convs: nn.Module) -> Any:
    following = []
    for (name, conv), cache in zip(convs.items(), caches, strict=True):
        window = torch.cat([cache, x], 2)
        following.append(window[:, :, -cache.shape[2] :])
        x = torch.relu(conv(window)) if name != "last" else conv(window)
    return x, *following


def stacked_tcn(x: Tensor, cache: Tensor, **convs: nn.Module) -> Any:
    y, *following = tcn(x, *cache.unbind(0), **convs)
    return y, torch.stack(following)


def stacked_cells(x: Tensor, h: Tensor, a: Any, b: Any) -> Any:
    first = a(x, h[0])
    second = b(first, h[1])
    return second * 2, torch.stack([first, second])


def lstm_in_one(x: Tensor, s: Tensor, a: Any, b: Any, o: Any) -> Any:
    h, c = a(x, (s[0, :, :, 0], s[0, :, :, 1]))
    g, d = b(h, (s[1, :, :, 0], s[1, :, :, 1]))
    return o(g), torch.stack([torch.stack([h, c], -1), torch.stack([g, d], -1)])


def written_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any) -> Any:
    i, f, o, g = w(torch.cat([x, h], 1)).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h.sum(1, keepdim=True), h, c


def written_gru(x: Tensor, h: Tensor, u: Any, w: Any, v: Any) -> Any:
    z, r = torch.sigmoid(u(x) + w(h)).chunk(2, 1)
    n = torch.tanh(v(torch.cat([x, r * h], 1)))
    h = z * h + (1 - z) * n
    return h, h


def operator(x: Tensor, *states: Tensor, r: Any) -> Any:
    """A recurrent layer of PyTorch on a sequence of one step."""
    y, last = r(x[None], states[0] if len(states) == 1 else states)
    return y[0] + 1, *(last if isinstance(last, tuple) else (last,))


def gates_of(x: Tensor, h: Tensor, c: Tensor, r: Any) -> Any:
    h, c = r(x, (h, c))
    return h * 3, h, c


def two_cells(x: Tensor, h: Tensor, g: Tensor, a: Any, b: Any) -> Any:
    h = a(x, h)
    g = b(h, g)
    return g - 1, h, g


def two_lstm_cells(x: Tensor, h: Tensor, c: Tensor, g: Tensor, d: Tensor, a: Any, b: Any) -> Any:
    h, c = a(x, (h, c))
    g, d = b(h, (g, d))
    return g + h, h, c, g, d


def fifo(x: Tensor, ring: Tensor, w: Any) -> Any:
    ring = torch.cat([ring[:, 1:], x[:, None]], 1)
    return w(ring.flatten(1)), ring


def rolled(x: Tensor, ring: Tensor, w: Any) -> Any:
    ring = torch.cat([x[:, None], torch.roll(ring, 1, 1)[:, 1:]], 1)
    return w(ring.flatten(1)), ring


def attention(x: Tensor, keys: Tensor, values: Tensor, q: Any, k: Any, v: Any) -> Any:
    keys, values = (torch.cat([old[:, 1:], f(x)[:, None]], 1) for old, f in ((keys, k), (values, v)))
    weights = torch.softmax((q(x)[:, None] * keys).sum(2), 1)
    return (weights[:, :, None] * values).sum(1), keys, values


def two_attentions(x: Tensor, caches: Tensor, a: Any, b: Any, c: Any, d: Any) -> Any:
    following = []
    for i, (k, v) in enumerate(((a, b), (c, d))):
        y, *both = attention(x, caches[2 * i], caches[2 * i + 1], q=k, k=k, v=v)
        x, following = y + x, [*following, *both]
    return x, torch.stack(following)


def masked_attention(x: Tensor, keys: Tensor, mask: Tensor, q: Any, k: Any) -> Any:
    keys, mask = torch.cat([keys[:, 1:], k(x)[:, None]], 1), torch.cat([mask[:, 1:], x[:, :1] * 0 + 1], 1)
    weights = torch.softmax((q(x)[:, None] * keys).sum(2) + (mask - 1) * 100, 1)
    return (weights[:, :, None] * keys).sum(1), keys, mask


def conv_and_gru(x: Tensor, cache: Tensor, h: Tensor, c: Any, g: Any) -> Any:
    window = torch.cat([cache, x], 2)
    bands = torch.relu(c(window))[0, :, 0].T  # [F', C]
    y, last = g(bands[None], h)
    return torch.sigmoid(y), window[:, :, 1:], last


def window_of_audio(x: Tensor, buffer: Tensor, w: Any) -> Any:
    buffer = torch.cat([buffer[:, F:], x], 1)
    return torch.relu(w(buffer)), buffer


def gru_of(size: int) -> nn.Module:
    return nn.GRUCell(size, H)


CASES = {
    "gru cell": Case(lambda x, h, r: ((h := r(x, h)) * 2, h), [(1, H)], lambda: {"r": gru_of(F)}),
    "gru cell whose state is its output": Case(lambda x, h, r: ((h := r(x, h)), h), [(1, H)], lambda: {"r": gru_of(F)}),
    "two gru cells": Case(two_cells, [(1, H)] * 2, lambda: {"a": gru_of(F), "b": gru_of(H)}),
    "two gru cells in one state": Case(stacked_cells, [(2, 1, H)], lambda: {"a": gru_of(F), "b": gru_of(H)}),
    "gru": Case(operator, [(1, 1, H)], lambda: {"r": nn.GRU(F, H)}),
    "gru of two layers": Case(operator, [(2, 1, H)], lambda: {"r": nn.GRU(F, H, 2)}),
    "gru with reset before": Case(
        written_gru, [(1, H)], lambda: {"u": nn.Linear(F, 2 * H), "w": nn.Linear(H, 2 * H), "v": nn.Linear(F + H, H)}
    ),
    "lstm cell": Case(gates_of, [(1, H)] * 2, lambda: {"r": nn.LSTMCell(F, H)}),
    "two lstm cells": Case(two_lstm_cells, [(1, H)] * 4, lambda: {"a": nn.LSTMCell(F, H), "b": nn.LSTMCell(H, H)}),
    "lstm": Case(operator, [(1, 1, H)] * 2, lambda: {"r": nn.LSTM(F, H)}),
    "lstm of two layers": Case(operator, [(2, 1, H)] * 2, lambda: {"r": nn.LSTM(F, H, 2)}),
    "lstm states in one": Case(
        lstm_in_one, [(2, 1, H, 2)], lambda: {"a": nn.LSTMCell(F, H), "b": nn.LSTMCell(H, H), "o": nn.Linear(H, F)}
    ),
    "lstm on one product": Case(written_lstm, [(1, H)] * 2, lambda: {"w": nn.Linear(F + H, 4 * H)}),
    "rnn": Case(operator, [(1, 1, H)], lambda: {"r": nn.RNN(F, H)}),
    "convolution": Case(tcn, [(1, F, 2)], lambda: {"a": nn.Conv1d(F, H, 3)}, (1, F, 1)),
    "convolution of width 2": Case(tcn, [(1, F, 1)], lambda: {"a": nn.Conv1d(F, H, 2)}, (1, F, 1)),
    "dilated convolutions": Case(
        tcn,
        [(1, F, 2), (1, H, 4), (1, H, 8)],
        lambda: {"a": nn.Conv1d(F, H, 3), "b": nn.Conv1d(H, H, 3, dilation=2), "last": nn.Conv1d(H, F, 3, dilation=4)},
        (1, F, 1),
    ),
    "convolutions in one state": Case(
        stacked_tcn, [(3, 1, F, 2)], lambda: {n: nn.Conv1d(F, F, 3) for n in ("a", "b", "last")}, (1, F, 1)
    ),
    "convolution of images": Case(
        tcn, [(1, 2, 2, F)], lambda: {"a": nn.Conv2d(2, 3, (3, 3), padding=(0, 1))}, (1, 2, 1, F)
    ),
    "depthwise convolution": Case(
        tcn, [(1, 4, 4, F)], lambda: {"a": nn.Conv2d(4, 4, (3, 1), dilation=(2, 1), groups=4)}, (1, 4, 1, F)
    ),
    "convolution and gru": Case(
        conv_and_gru, [(1, 2, 2, F), (1, F, H)], lambda: {"c": nn.Conv2d(2, 3, (3, 1)), "g": nn.GRU(3, H)}, (1, 2, 1, F)
    ),
    "frames in a queue": Case(fifo, [(1, L, F)], lambda: {"w": nn.Linear(L * F, F)}),
    "frames in a queue that is rolled": Case(rolled, [(1, L, F)], lambda: {"w": nn.Linear(L * F, F)}),
    "audio": Case(window_of_audio, [(1, 4 * F)], lambda: {"w": nn.Linear(4 * F, 2 * F)}),
    "attention": Case(attention, [(1, L, H)] * 2, lambda: {n: nn.Linear(F, H) for n in "qkv"}),
    "two attentions in one state": Case(two_attentions, [(4, 1, L, F)], lambda: {n: nn.Linear(F, F) for n in "abcd"}),
    "attention with a mask": Case(masked_attention, [(1, L, H), (1, L)], lambda: {n: nn.Linear(F, H) for n in "qk"}),
    "a mean of the past": Case(lambda x, m: (x - (m := 0.9 * m + 0.1 * x), m), [(1, F)], proved=False),
    "the frame before": Case(lambda x, p: (torch.relu(x - p), x * 1.0), [(1, F)], proved=False),
    "a written rnn": Case(
        lambda x, h, w, u: ((h := torch.tanh(w(x) + u(h))) * 2, h),
        [(1, H)],
        lambda: {"w": nn.Linear(F, H), "u": nn.Linear(H, H)},
        proved=False,
    ),
}


def _fused(step: Step) -> Step:
    """Another input of a state's shape, added to the output: it is no state."""
    return lambda x, other, *states, **layers: _with(
        step(x, *states, **layers), lambda y, rest: (y + other.sum(), *rest)
    )


def _passed(step: Step) -> Step:
    """Half of an input goes on as it is, half of it is computed: a coupling layer."""

    def run(x: Tensor, other: Tensor, *states: Tensor, **layers: Any) -> Any:
        y, *rest = step(x, *states, **layers)
        a, b = other.flatten().chunk(2) if other.numel() > 1 else (other.flatten(), other.flatten()[:0])
        return y, torch.cat([a, b + torch.tanh(a.sum() + x.sum())]).reshape(other.shape), *rest

    return run


def _gated(step: Step) -> Step:
    """A highway layer: in place, and yet no state."""

    def run(x: Tensor, other: Tensor, *states: Tensor, **layers: Any) -> Any:
        y, *rest = step(x, *states, **layers)
        gate = torch.sigmoid(other * 2 + x.mean())
        return y, gate * other + (1 - gate) * torch.tanh(other + x.sum()), *rest

    return run


def _shown(step: Step) -> Step:
    """An output that shows an input of a state's shape, turned round, and another that is the frame itself."""

    def run(x: Tensor, other: Tensor, *states: Tensor, **layers: Any) -> Any:
        y, *rest = step(x, *states, **layers)
        return y, other.flatten().flip(0).reshape(other.shape) + 0 * x.sum(), *rest

    return run


def _swapped(step: Step) -> Step:
    """The halves of an input change places, one of them computed from the other: a Feistel network."""

    def run(x: Tensor, other: Tensor, *states: Tensor, **layers: Any) -> Any:
        y, *rest = step(x, *states, **layers)
        half = other.numel() // 2
        a, b = other.flatten()[:half], other.flatten()[half:]
        return y, torch.cat([b, a + torch.tanh(b[:half] + x.sum())]).reshape(other.shape), *rest

    return run


def _with(results: Any, change: Callable[..., Any]) -> Any:
    y, *rest = results
    return change(y, rest)


PLANTS = {"fused": _fused, "passed": _passed, "gated": _gated, "shown": _shown, "swapped": _swapped}


def planted(case: Case, kind: str) -> onnx.ModelProto:
    """The net of a case with an input ``in_extra`` of a state's shape, and mostly an output ``out_extra``, no state."""
    torch.manual_seed(2)
    inputs = ["x", "in_extra", *(f"in_{i}" for i in range(len(case.states)))]
    outputs = case.outputs if kind == "fused" else ["y", "out_extra", *case.outputs[1:]]
    module = Frame(PLANTS[kind](case.step), **case.layers())
    return exported(module, (case.frame, case.states[0], *case.states), inputs, outputs)
