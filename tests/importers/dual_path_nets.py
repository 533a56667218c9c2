"""Small nets over bands and frames, in the manner of published ones, with random weights: [N, C, T, F] in and out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def over_bands(x: Tensor, layer: Any) -> Tensor:
    """A recurrent layer over the bands of each frame: [N, C, T, F] in and out."""
    n, c, t, f = x.shape
    y, _ = layer(x.permute(0, 2, 3, 1).reshape(n * t, f, c))
    return y.reshape(n, t, f, -1).permute(0, 3, 1, 2)


def over_time(x: Tensor, layer: Any) -> Tensor:
    """A recurrent layer over the frames of each band."""
    n, c, t, f = x.shape
    y, _ = layer(x.permute(0, 3, 2, 1).reshape(n * f, t, c))
    return y.reshape(n, f, t, -1).permute(0, 3, 2, 1)


class Path(nn.Module):
    """One of the two paths: a recurrent layer, a product and a norm, added to what comes in."""

    def __init__(self, channels: int, recurrent: nn.Module, size: int, bands: bool) -> None:
        super().__init__()
        self.layer, self.bands = recurrent, bands
        self.product, self.norm = nn.Linear(size, channels), nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = over_bands(x, self.layer) if self.bands else over_time(x, self.layer)
        return x + self.norm(self.product(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def causal(x: Tensor, conv: Any, steps: int) -> Tensor:
    return conv(pad(x, (0, 0, steps, 0)))


class Dprnn(nn.Module):
    """DPRNN: LSTMs along both paths."""

    def __init__(self) -> None:
        super().__init__()
        both = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.first, self.out = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1)
        self.paths = nn.Sequential(Path(4, both, 6, True), Path(4, nn.LSTM(4, 5, batch_first=True), 5, False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.paths(self.first(x))))


class Dpcrn(nn.Module):
    """DPCRN: convolutions with a stride over bands, LSTMs along both paths, and the way back with what was skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(2, 4, (2, 5), (1, 2), (0, 2)), nn.BatchNorm2d(4)
        both = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.paths = nn.Sequential(Path(4, both, 6, True), Path(4, nn.LSTM(4, 4, batch_first=True), 4, False))
        self.up = nn.ConvTranspose2d(8, 2, (1, 4), (1, 2), (0, 1))

    def forward(self, x: Tensor) -> Tensor:
        skipped = torch.relu(self.norm(causal(x, self.down, 1)))
        return torch.sigmoid(self.up(torch.cat([self.paths(skipped), skipped], 1))) * x


class UlUnas(nn.Module):
    """UL-UNAS: depthwise convolutions with a dilation over time, an attention over time by a GRU on the mean power."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.act = nn.Conv2d(2, 6, 1), nn.PReLU(6)
        self.deep = nn.Conv2d(6, 6, (3, 3), padding=(4, 1), dilation=(2, 1), groups=6)
        self.power, self.gate = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 6)
        both = nn.GRU(6, 3, batch_first=True, bidirectional=True)
        self.paths = nn.Sequential(Path(6, both, 6, True), Path(6, nn.GRU(6, 6, batch_first=True), 6, False))
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.deep(self.act(self.point(x)))[:, :, : x.shape[2]]  # as a convolution that is cut off behind
        mean, _ = self.power((y * y).mean(3).transpose(1, 2))
        y = y * torch.sigmoid(self.gate(mean)).transpose(1, 2)[..., None]
        return self.out(self.paths(y)) * x


class DpdfNet(nn.Module):
    """DPDFNet: features of bands in one vector, two dual paths, and a filter over the last three frames."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 3), padding=(0, 1))
        one, two = (nn.GRU(4, 2, batch_first=True, bidirectional=True) for _ in range(2))
        self.paths = nn.Sequential(
            Path(4, one, 4, True),
            Path(4, nn.GRU(4, 4, batch_first=True), 4, False),
            Path(4, two, 4, True),
            Path(4, nn.GRU(4, 4, batch_first=True), 4, False),
        )
        self.vector, self.taps = nn.GRU(4 * 8, 16, batch_first=True), nn.Linear(16, 3 * 8)

    def forward(self, x: Tensor) -> Tensor:
        n, _, t, f = x.shape
        y = self.paths(torch.relu(causal(x, self.first, 2)))
        y, _ = self.vector(y.permute(0, 2, 1, 3).reshape(n, t, -1))
        taps = torch.tanh(self.taps(y)).reshape(n, 1, t, 3, f)
        past = pad(x, (0, 0, 2, 0))
        frames = [past[:, :, i : i + t] * taps[:, :, :, i] for i in range(3)]
        return frames[0] + frames[1] + frames[2]


NETS = {"dprnn": Dprnn, "dpcrn": Dpcrn, "ul-unas": UlUnas, "dpdfnet": DpdfNet}
