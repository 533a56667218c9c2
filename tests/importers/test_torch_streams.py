"""Recurrences and shifts of PyTorch as people write them, streamed: each way of reading the past is a state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lstmc.importers import from_torch
from lstmc.importers.checks import to_source
from lstmc.importers.printer import traced
from lstmc.interp import forward
from tests.importers.imported import assert_close
from tests.importers.test_torch_modules import Lambda

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


STREAMS: dict[str, Any] = {
    "Mamba": Lambda(selective, make=nn.Linear(4, 12), read=nn.Linear(4, 3)),
    "SRU": Lambda(gated, make=nn.Linear(4, 15), own=nn.Linear(5, 5, bias=False)),
    "joined": Lambda(joined, step=nn.Linear(9, 5), out=nn.Linear(5, 2)),
    "concatenated shift": Lambda(
        lambda x, g: g(x - torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))[0], g=gru(4)
    ),
    "padded shift": Lambda(lambda x, g: g(0.3 * x + 0.7 * before(x, 1))[0] + before(g(x)[0], 2), g=gru(4)),
    "window": Lambda(
        lambda x, g: g(torch.cat([F.pad(x, (0, 0, 2, 0))[:, at : at + 9] for at in range(3)], 2))[0], g=gru(12)
    ),
    "cumulative sum": Lambda(lambda x, g: torch.cumsum(F.softplus(g(torch.cumsum(x, 1))[0]), 1), g=gru(4)),
    "static input": Lambda(
        lambda x, s, g: g(torch.cat([x, s[:, None].expand(-1, x.shape[1], -1)], 2))[0] * s[:, None, :1], g=gru(7)
    ),
    "cumulative product": Lambda(lambda x: (torch.cumprod(torch.sigmoid(x), 1), torch.logcumsumexp(x, 1))),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(name: str) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 9, 4), torch.randn(2, 3)][: 1 + (name == "static input")]
    module = STREAMS[name].eval()
    found = from_torch(module, *inputs, step=True)
    assert not found.net.delays
    assert found.net.time
    names = [*found.described.inputs]
    fed = {new: x.numpy() for new, x in zip(names, inputs, strict=True)}
    graph = traced(found.net, {str(size): 9 for size in found.net.time})
    own = {n: np.transpose(array, found.net.axes.get(n, range(array.ndim))) for n, array in fed.items()}
    weights = {n: weight.array() for n, weight in found.net.params.items()}
    outputs = {n: to_source(found.net, n, y) for n, y in forward(graph, own, weights).outputs.items()}
    expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert_close(outputs, dict(zip(outputs, (y.detach() for y in expected), strict=True)))
