"""Models of PyTorch as people write them, from live modules: what each has that others have not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.importers.test_torch_modules import Lambda, compare
from tests.quick_sample import one_in

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
F = nn.functional
LENGTHS = torch.tensor([7, 3])


def gru(width: int, units: int = 5) -> nn.GRU:
    return nn.GRU(width, units, batch_first=True)


class Sinc(nn.Module):
    """Filters that are computed of their cut-off frequencies (SincNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.band = nn.Parameter(torch.linspace(30, 900, 4)[:, None]), nn.Parameter(torch.full((4, 1), 400.0))
        self.register_buffer("times", 2 * math.pi * torch.arange(-7, 0.0)[None] / 8000)
        self.gru = gru(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = 50 + self.low.abs()
        high = torch.clamp(low + self.band.abs(), 50, 4000)
        left = (torch.sin(high @ self.times) - torch.sin(low @ self.times)) / (self.times / 2)
        filters = torch.cat([left, 2 * (high - low), left.flip(1)], 1)[:, None] / (2 * (high - low)[:, :, None])
        return self.gru(F.conv1d(x, filters, stride=4).abs().transpose(1, 2))[1]


class Normed(nn.Module):
    """Weights with constraints, whose values follow from parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))
        self.orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(5, 5))
        self.old, self.gru = nn.utils.spectral_norm(nn.Linear(5, 2)), gru(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.old(self.gru(self.orthogonal(self.spectral(x)))[0])


class Spectrogram(nn.Module):
    """A mask of magnitudes between a transform and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.mask = gru(9), nn.Linear(5, 9)
        self.register_buffer("window", torch.hann_window(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.stft(x, 16, 8, window=self.window, return_complex=True)
        y, _ = self.gru(torch.log1p(z.abs()).transpose(1, 2))
        return torch.istft(z * torch.sigmoid(self.mask(y)).transpose(1, 2), 16, 8, window=self.window)


class Decoder(nn.Module):
    """A decoder that reads its own output, with two heads, and names that the written model has too."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.cell_cell, self.net = nn.GRUCell(4, 6), nn.Linear(6, 4), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        h, y, first, second = x.new_zeros(2, 6), x[:, 0], [], []
        for _ in range(4):
            h = self.cell(y, h)
            y = self.cell_cell(h)
            first.append(y)
            second.append(torch.sigmoid(self.net(h)))
        return torch.stack(first, 1), torch.stack(second, 1)


class Clockwork(nn.Module):
    """Units that are updated at some steps alone: slices that may have no elements."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.h = nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, ys = x.new_zeros(2, 6), []
        for t in range(x.shape[1]):
            new, k = torch.tanh(self.i(x[:, t]) + self.h(h)), 2 * sum(t % period == 0 for period in (1, 2, 4))
            h = torch.cat([new[:, :k], h[:, k:]], 1)
            ys.append(h)
        return torch.stack(ys, 1)


def in_log_space(x: torch.Tensor, z: nn.Module, h: nn.Module) -> torch.Tensor:
    """MinGRU in parallel."""
    gate, value = z(x), h(x)
    put = -F.softplus(-gate) + torch.where(value >= 0, (F.relu(value) + 0.5).log(), -F.softplus(-value))
    kept = F.pad(torch.cumsum(-F.softplus(gate), 1), (0, 0, 1, 0))
    first = torch.full((2, 1, 5), 0.5).log()
    return torch.exp(kept + torch.logcumsumexp(torch.cat([first, put], 1) - kept, 1))[:, 1:]


def attentive(x: torch.Tensor, lengths: torch.Tensor, g: nn.Module, score: nn.Module) -> Any:
    """Scores that a mask hides, and the last step that is there."""
    y, _ = g(x)
    there = torch.arange(x.shape[1])[None] < lengths[:, None]
    weights = score(y).squeeze(2).masked_fill(~there, -torch.inf).softmax(1)
    last = y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, 5)).squeeze(1)
    return torch.einsum("nt,nth->nh", weights, y), last + y[torch.arange(2), lengths - 1], y[:, :, 0].topk(3)[0].mean(1)


def hours(x: torch.Tensor, g: nn.Module, emb: nn.Module) -> torch.Tensor:
    """Places in a table by integer division."""
    e = emb(torch.arange(7) // 3 % 2)[None].expand(2, -1, -1)
    return torch.cumsum(g(torch.cat([x / x.abs().mean(1, keepdim=True).clamp_min(1e-3), e], 2))[0], 1)


X = torch.randn(2, 7, 4)
MODELS: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "SincNet": (Sinc(), (torch.randn(2, 1, 80),)),
    "norms": (Normed(), (X,)),
    "spectrogram": (Spectrogram(), (torch.randn(1, 64),)),
    "decoder": (Decoder(), (X,)),
    "clockwork": (Clockwork(), (X,)),
    "log space": (Lambda(in_log_space, z=nn.Linear(4, 5), h=nn.Linear(4, 5)), (X,)),
    "attention": (Lambda(attentive, g=gru(4), score=nn.Linear(5, 1)), (X, LENGTHS)),
    "hours": (Lambda(hours, g=gru(6), emb=nn.Embedding(2, 2)), (X,)),
    "frames": (
        Lambda(
            lambda x, g: F.fold(
                g(F.unfold(x[:, None, None], (1, 8), stride=(1, 4)).mT)[0].mT, (1, 24), (1, 8), stride=(1, 4)
            ),
            g=gru(8, 8),
        ),
        (torch.randn(2, 24),),
    ),
    "a number": (Lambda(lambda x, by, g: (g(x)[0] / by).softmax(2), g=gru(4)), (X, torch.tensor(0.5))),
    "left out": (nn.Sequential(nn.Dropout1d(), nn.RReLU(inplace=True), nn.AlphaDropout(), nn.Hardswish(True)), (X,)),
    "resized": (Lambda(lambda x, g: F.interpolate(g(x)[0].mT, size=11, mode="linear"), g=gru(4)), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", one_in(3, MODELS))
def test_a_model(name: str) -> None:
    module, inputs = MODELS[name]
    compare(module, *inputs)


def test_a_parameter_in_another_order_keeps_its_name() -> None:
    made, *_ = compare(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)), torch.randn(2, 3, 5, 4))
    assert list(made.net.params) == ["v0_scale", "v0_shift", "v1_weight", "v1_bias"]
    made, *_ = compare(Lambda(lambda x, bn, g: g(bn(x).mT)[0], bn=nn.BatchNorm1d(4), g=gru(4)), torch.randn(1, 4, 7))
    assert {"parts_bn_scale", "parts_bn_shift"} < {*made.net.params}
    assert made.net.params["parts_bn_scale"].recipe.count(" as [") == 1
