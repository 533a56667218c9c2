"""What programs of PyTorch do between layers: overwrite, write into places, mask, compute of numbers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lstmc.importers import RefusedError, from_torch, import_file
from lstmc.importers.ir.values import named
from tests.importers.imported import assert_close, traced
from tests.importers.test_torch_modules import Lambda, compare
from tests.quick_sample import one_in

pytestmark = pytest.mark.slow  # PyTorch loads its table of decompositions, and exports each module
F = nn.functional
X = (2, 5, 4)


def test_functions_in_place_are_those_that_are_not() -> None:
    def front(x: torch.Tensor, conv: nn.Module, norm: nn.Module, gru: nn.Module) -> Any:
        maps = norm(conv(x))
        maps += 1
        maps[:, :1].mul_(2)
        return gru(maps.mean(2).permute(2, 0, 1))[0]

    conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True))
    compare(Lambda(front, conv=conv, norm=nn.BatchNorm2d(4), gru=nn.GRU(4, 3)), torch.randn(2, 1, 4, 5))


class Loop(nn.Module):
    """A cell in a loop, whose outputs are written into an array that was made before."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.cell, self.time = nn.LSTMCell(4, 3), time

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[1 - self.time]
        h, c = x.new_zeros(n, 3), torch.zeros(n, 3)
        y = x.new_empty(*x.shape[:2], 3)
        for t in range(x.shape[self.time]):
            h, c = self.cell(x.select(self.time, t), (h, c))
            y.select(self.time, t).copy_(h)
        return y


@pytest.mark.parametrize("time", [0, 1])
def test_outputs_that_are_written_into_an_array_are_a_scan(time: int) -> None:
    made, *_ = compare(Loop(time), torch.randn(5, 2, 4) if time == 0 else torch.randn(2, 5, 4))
    assert made.text.count("scan(") == 1


class Normalized(nn.Module):
    """A step with products that are normalized before they are added, from a state made by new_zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.wx, self.wh, self.nx, self.nh = nn.Linear(4, 6), nn.Linear(6, 6), nn.LayerNorm(6), nn.LayerNorm(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, ys = x.new_zeros(x.shape[0], 6), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.nx(self.wx(x[:, t])) + self.nh(self.wh(h)))
            ys.append(h)
        return torch.stack(ys, 1)


def test_a_state_of_another_shape_than_the_input() -> None:
    made, *_ = compare(Normalized(), torch.randn(X))
    assert made.text.count("scan(") == 1


def written(x: torch.Tensor) -> Any:
    y = torch.zeros(2, 5, 6)
    y[:, 1:3, :4] = x[:, :2]
    y[0] = 3
    y[:, -1] = y[:, 1] * 2
    x[:, 0] = 0
    return y, x


def shifted(x: torch.Tensor) -> Any:
    y = torch.full_like(x, 0.5)
    y[:, 1:] = x[:, :-1]
    return y + x.new_full((2, 5, 4), 0.25) * torch.ones_like(x) + x.new_ones(4) * 2


def hidden(x: torch.Tensor) -> Any:
    scores = x @ x.mT
    added = (scores + torch.triu(torch.full((5, 5), -torch.inf), 1)).softmax(-1)
    put = scores.masked_fill(~torch.tril(torch.ones(5, 5)).bool(), -torch.inf).softmax(-1)
    return added @ x, put, x.masked_fill(x < 0, -torch.inf).max(1).values


def attended(x: torch.Tensor) -> Any:
    keep = torch.tensor([[True, True, False, True, True]] * 5)
    return (
        F.scaled_dot_product_attention(x, x, x, is_causal=True),
        F.scaled_dot_product_attention(x, x, x, keep),
        F.scaled_dot_product_attention(x, x, x, torch.arange(5.0)),
    )


PROGRAMS: dict[str, Any] = {
    "written": written,
    "shifted": shifted,
    "hidden": hidden,
    "attended": attended,
    "made of others": lambda x: (
        *(F.softshrink(x, 0.3), F.hardshrink(x, 0.3), torch.addcmul(x, x, x, value=0.3), torch.lerp(x, x * 2, 0.3)),
        *(
            torch.outer(x[0, 0], x[1, 1]),
            x.swapaxes(1, 2),
            torch.diff(x, dim=1),
            torch.tensordot(x, x, dims=([2], [2])),
        ),
        *(torch.special.expit(x), F.cosine_similarity(x, x.flip(0), dim=-1), torch.baddbmm(x @ x.mT, x, x.mT)),
    ),
    "functions": lambda x: (
        *(torch.log1p(x * x), torch.expm1(x), x.exp2(), (x * x + 1).log2(), (x * x + 1).log10(), x.ne(0) * x),
        *(x.sin(), torch.cos(2 * x)),
        *(torch.logsumexp(x, (0, 2)), torch.logsumexp(x, -1, keepdim=True), torch.clamp(x, min=x.tanh() * 0.5)),
        *torch.var_mean(x, 1),
    ),
    "products of several": lambda x: (torch.einsum("bij,bkj,bil->bkl", x, x, x), torch.einsum("ij,jk", x[0], x[1].T)),
    "complex numbers": lambda x: (
        *(
            torch.fft.irfft(torch.fft.rfft(x, n=5) * torch.polar(x[..., :3], x[..., 1:]) / (2 + 1j), n=4),
            torch.fft.fft(x).imag,
        ),
        torch.view_as_real(torch.fft.ifft2(torch.complex(x, x * x)).exp().transpose(0, 1) + x.transpose(0, 1)),
        torch.view_as_real((torch.complex(x, x) @ torch.complex(x, 1 - x).conj().mT).sum(1) - 1j).flip(0),
        (torch.complex(x, -x) * x).abs(),
    ),
    "short Fourier transforms": lambda x: (
        torch.stft(x.flatten(1), 8, 4, window=torch.hann_window(8, dtype=x.dtype), return_complex=True).abs(),
        torch.istft(torch.complex(x, x * x).mT, 6, 3, window=torch.ones(6, dtype=x.dtype), length=11),
    ),
    "a scale": lambda x: (
        x.masked_fill(x > 1, torch.inf).clamp(max=2.0) + x[:, torch.arange(5) % 3] + (x % 0.7)[..., 4:].sum()
    ),
    "numbers alone": lambda x: (
        *(torch.eye(4).to(x.dtype) @ x[0].T, F.one_hot(torch.tensor([1, 2]), 4).to(x.dtype) @ x[0].T),
        x * torch.linspace(0, 1, 4).exp() + (torch.arange(5) % 2 == 0)[:, None],
    ),
}


@pytest.mark.parametrize("name", one_in(3, PROGRAMS))
def test_a_program(name: str) -> None:
    compare(Lambda(lambda x: PROGRAMS[name](x.clone())), torch.randn(X))


@pytest.mark.parametrize("name", one_in(3, PROGRAMS))
def test_a_file_of_a_program_is_the_program(name: str, tmp_path: Path) -> None:
    program = torch.export.export(Lambda(lambda x: PROGRAMS[name](x.clone())), (torch.randn(X),))
    torch.export.save(program, tmp_path / "model.pt2")
    read, made = (
        model.files()["model.py"].decode().partition("from lstmc")[2]
        for model in (import_file(tmp_path / "model.pt2"), from_torch(program))
    )
    assert read
    assert read == made


class Causal(nn.Module):
    """A mask that is kept as a buffer, and a table of places as one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tril(torch.ones(8, 8)))
        self.register_buffer("places", torch.randn(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.mask, torch.Tensor)
        assert isinstance(self.places, torch.Tensor)
        x = x + self.places[: x.shape[1]]
        return (x @ x.mT).masked_fill(self.mask[:5, :5] == 0, -torch.inf).softmax(-1) @ x


def test_a_mask_of_a_buffer_is_numbers_and_a_table_a_weight() -> None:
    made, *_ = compare(Causal(), torch.randn(X))
    assert {name for weight in made.net.params.values() for name in weight.sources} == {"places"}
    assert made.net.notes == ("An infinite number is 1e+09 here: under a softmax or a maximum it does the same.",)


class Counting(nn.Module):
    """It keeps its state from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.state, torch.Tensor)
        self.state.copy_(torch.tanh(self.state + x[0, 0]))
        return x + self.state


def test_a_buffer_that_is_overwritten_is_told() -> None:
    found = from_torch(Counting(), torch.randn(X))
    assert list(found.net.outputs) == ["Y"]
    assert found.net.notes == (
        "The module overwrites state: what they hold afterwards is no output, and the next call begins with what they"
        " hold now.",
    )


def test_what_has_no_counterpart_is_refused() -> None:
    module = Lambda(
        lambda x, mask: (
            x.sort(2)[0][:, mask[0] > 0], torch.rand(4) * x, x + torch.nan, x * torch.inf, x[:, :, :1].var(-1),
        )
    )  # fmt: skip
    with pytest.raises(RefusedError) as caught:
        from_torch(module, torch.ones(X), torch.ones(5, 5))
    assert [(r.node, r.attribute, r.value) for r in caught.value.refusals] == [
        ("index (aten.index.Tensor)", "indices", "a mask computed by the model"),
        ("rand (aten.rand.default)", "operator", "aten.rand.default"),
        ("add_4 (aten.add.Tensor)", "aten.add.Tensor", "add of a number that is not finite"),
        ("mul_3 (aten.mul.Tensor)", "aten.mul.Tensor", "mul of a number that is not finite"),
        ("var (aten.var.dim)", "correction", "1"),
    ]


class Padded(nn.Module):
    """A batch of which zeros are made, and a product of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.cell, self.fc = nn.GRU(4, 3, batch_first=True), nn.GRUCell(6, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, y, ys = torch.zeros(x.shape[0], 5), self.gru(x, torch.zeros(1, x.shape[0], 3))[0], []
        last = torch.zeros(x.shape[0], 3)
        for t in range(3):
            h = self.cell(torch.cat([y[:, t], last], 1), h)
            last = y[:, t]
            ys.append(h)
        rows = torch.stack(ys, 1).reshape(x.shape[0] * 3, -1).view(-1, 5)
        return self.fc(rows).view(x.shape[0], 3, 2)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about its own recurrent layers
@pytest.mark.parametrize("file", [False, True])
def test_a_batch_that_is_open_in_the_program_stays_open(file: bool, tmp_path: Path) -> None:
    module = Padded().eval()
    program = torch.export.export(module, (torch.zeros(4, 3, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "m.pt2")
    found = import_file(tmp_path / "m.pt2") if file else from_torch(program)
    assert (found.described.inputs, found.net.sizes["N"]) == ({"x": named(("N", 3, 4))}, 4)
    for n in (2, 5):
        x = torch.randn(n, 3, 4)
        made = traced(found.described, {**found.net.sizes, "N": n})
        assert_close(made.interpreted({"x": x.numpy()}), {"Y": module(x).detach()})


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about its own recurrent layers
def test_a_batch_that_a_layer_needs_as_a_number_is_that_of_the_example() -> None:
    module = Lambda(lambda x, gru: gru(x)[0] / (1 + torch.arange(x.shape[1]))[:, None], gru=nn.GRU(5, 4))
    program = torch.export.export(module, (torch.zeros(6, 3, 5),), dynamic_shapes=(({1: torch.export.Dim("batch")},),))
    found = from_torch(program)
    assert found.described.inputs == {"xs_0": (6, 3, 5)}
    assert found.net.notes == (
        "The example's N=3 is fixed: arange (aten.arange.default) needs a number (a bound must be known here, and is N"
        ").",
    )
