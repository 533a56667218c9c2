"""Live modules of PyTorch: what stands around recurrent layers, against PyTorch itself, and in real Caffe."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lstmc
from lstmc.importers import RefusedError, SourceError, from_torch
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import Imported, assert_close, imported
from tests.quick_sample import one_in


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleDict(parts)

    def forward(self, *xs: torch.Tensor) -> Any:
        return self.function(*xs, **self.parts)


class Speech(nn.Module):
    """A convolution over time, pooling, two recurrent layers, attention-free readouts: what users stack."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.rnn = nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.gru = nn.GRU(10, 4)
        self.ln = nn.LayerNorm(10)
        self.fc = nn.Linear(10, 3)
        self.cell = nn.LSTMCell(10, 4)

    def forward(self, x: torch.Tensor) -> Any:
        e = torch.relu(self.norm(self.conv(self.emb(x).transpose(1, 2))))
        y, (h, _) = self.rnn(nn.functional.max_pool1d(e, 2).permute(0, 2, 1))
        g, _ = self.gru(y.transpose(0, 1))
        z = self.ln(torch.tanh(y))
        first, c = self.cell(y[:, 0])
        second, _ = self.cell(y[:, 1], (first, c))
        return torch.log_softmax(self.fc(z[:, -1]), -1), h[-1], g.mean(0), second


class Crnn(nn.Module):
    """A picture becomes a sequence of its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, (3, 1)),
        )  # fmt: skip
        self.rnn = nn.LSTM(6, 5, bidirectional=True)
        self.fc = nn.Linear(10, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).permute(3, 0, 1, 2).flatten(2)
        found: torch.Tensor = torch.softmax(self.fc(self.rnn(y)[0]), -1)
        return found


def trained(module: nn.Module) -> nn.Module:
    """The module with numbers in its running statistics that are not those it begins with."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module


def compare(module: nn.Module, *xs: torch.Tensor) -> tuple[Imported, dict[str, Any], dict[str, Any]]:
    """The module imported; its inputs and its outputs in float64, by the written model's names."""
    torch.manual_seed(0)
    found = from_torch(trained(module).eval(), *xs)
    made = imported(found.described)
    used = {name for weight in found.net.params.values() for name in weight.sources}
    assert used | set(found.net.ignored) == set(module.state_dict())
    module.double()
    outputs = module(*(x.double() if x.is_floating_point() else x for x in xs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    names = ["Y"] if len(outputs) == 1 else [f"Y_{i}" for i in range(len(outputs))]
    inputs = {name: np.atleast_1d(x.numpy()).astype(float) for name, x in zip(found.described.inputs, xs, strict=True)}
    wanted = {name: output.detach().numpy() for name, output in zip(names, outputs, strict=True)}
    assert_close(made.interpreted(inputs), wanted, 1e-6)
    return made, inputs, wanted


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("module", "shape"),
    [(Speech(), (2, 7)), (Crnn(), (2, 1, 8, 9))],
    ids=["speech", "crnn"],
)
def test_a_whole_model_in_caffe(caffe: Runner, module: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) if len(shape) == 4 else torch.randint(0, 11, shape)
    made, inputs, wanted = compare(module, x)
    assert_close(made.in_caffe(caffe, inputs)[0], wanted)


F = nn.functional
ACTIVATIONS = [
    *(nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU(0.7), nn.SELU(), nn.LeakyReLU(0.2), nn.Hardtanh(-0.5, 0.8)),
    *(nn.Hardsigmoid(), nn.ReLU6(), nn.SiLU(), nn.Softplus(), nn.Softplus(0.5), nn.Softsign(), nn.CELU(0.6)),
    *(nn.LogSigmoid(), nn.Softmax(-1), nn.LogSoftmax(1), nn.Hardswish(), nn.GELU(), nn.GELU("tanh"), nn.Mish()),
    nn.PReLU(4),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_an_activation(activation: nn.Module) -> None:
    compare(activation, 2 * torch.randn(3, 4, 5))


X = (2, 3, 8)
OPERATORS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "matmul": (Lambda(lambda x, fc: x @ fc.weight.t(), fc=nn.Linear(8, 8)), X),
    "conv1d same": (nn.Conv1d(3, 4, 4, padding="same"), X),
    "norm": (Lambda(lambda x: x / torch.norm(x, dim=1, keepdim=True)), X),
    "batch norm 4": (nn.BatchNorm2d(2, affine=True), (2, 2, 3, 4)),
    "dropout": (nn.Dropout(0.4), X),
    "arithmetic": (Lambda(lambda x: (2 - x * 3) / 4 + x * x - x / (x * x + 1)), X),
    "maximum": (Lambda(lambda x: torch.maximum(x[:, :1], x[:, 1:2]) - torch.minimum(x[:, :1], x[:, 1:2])), X),
    "log softmax far": (Lambda(lambda x: torch.log_softmax(2000 * x, 1)), X),
    "slices": (Lambda(lambda x: torch.cat([x[:, 1:], x[..., -3:, :][:, :1], x[:, ::2]], 1)), X),
    "stack": (Lambda(lambda x: torch.stack(x.unbind(1), 2)), X),
    "chunks": (Lambda(lambda x: torch.cat([a.tanh() for a in x.chunk(3, 2)][::-1], 2)), X),
    "reshape": (Lambda(lambda x: x.transpose(1, 2).reshape(2, 4, 6).permute(2, 0, 1).flatten(1)), X),
    "means": (Lambda(lambda x: x.mean((0, 2), keepdim=True) + x.sum(1, keepdim=True).mean()), X),
    "powers": (Lambda(lambda x: (x * x + 1).sqrt() + (x * x + 1).rsqrt() + x**2), X),
    "windows": (Lambda(lambda x: (x.unfold(2, 3, 2), x.cumsum(2), F.pixel_shuffle(x.reshape(1, 8, 2, 3), 2))), X),
    "masks": (Lambda(lambda x: (torch.where(x > 0, x, -x), x.masked_fill(x <= 0.1, 2), x.sign())), X),
    "functions": (Lambda(lambda x: (F.glu(x, 2), 2**x, torch.erf(x), F.threshold(x, 0.1, 3))), X),
    "computed products": (
        Lambda(
            lambda x, fc: (x @ x.mT, torch.einsum("nab,nb->na", x, x[:, 0]), x.mT @ x[0, :, 0], fc.weight @ x.mT),
            fc=nn.Linear(8, 3),
        ),
        X,
    ),
    "attention": (Lambda(lambda x, a: a(x, x, x)[0], a=nn.MultiheadAttention(8, 2, batch_first=True)), X),
    "normalized images": (nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 5)),
    "root of squares": (nn.RMSNorm((3, 8)), X),
    "stored norm": (nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3)), X),
    "adaptive": (Lambda(lambda x: (F.adaptive_max_pool1d(x, 3), F.adaptive_avg_pool2d(x, (2, 5)))), X),
    "nearest": (nn.Upsample(scale_factor=2), (1, 2, 3, 4)),
    "first state": (Lambda(lambda x, h, gru: gru(x, h)[0], gru=nn.GRU(8, 4)), X),
}


@pytest.mark.parametrize("name", one_in(3, OPERATORS))
def test_an_operator(name: str) -> None:
    module, shape = OPERATORS[name]
    more = (torch.randn(1, 3, 4),) if name == "first state" else ()
    compare(module, torch.randn(shape), *more)


def test_all_that_is_not_known_is_refused_at_once() -> None:
    module = Lambda(lambda x: (torch.cos(torch.special.bessel_j0(x)), torch.atan(x), x.topk(65)[1]))
    with pytest.raises(RefusedError) as caught:
        from_torch(module, torch.ones(2, 70))
    assert [(r.node, r.attribute, r.value) for r in caught.value.refusals] == [
        ("special_bessel_j0 (aten.special_bessel_j0.default)", "operator", "aten.special_bessel_j0.default"),
        ("atan (aten.atan.default)", "operator", "aten.atan.default"),
        ("topk (aten.topk.default)", "k", "65"),
    ]


def test_places_and_whole_numbers() -> None:
    module = Lambda(
        lambda x: (
            x.argmax(1) + x.argmin(-1)[:, :1], x.argmax().float(), x.max(0)[1] + 1, x.topk(1, 1)[1],
            x.min(1, keepdim=True)[1], torch.floor(3 * x), torch.ceil(3 * x), torch.trunc(3 * x), torch.round(3 * x),
            (3 * x).long() + 0.5, torch.div(3 * x, 2, rounding_mode="floor"), (x > 0).to(torch.int32) * 2,
        )
    )  # fmt: skip
    compare(module, torch.randn(X))


@pytest.mark.caffe
def test_operators_in_caffe(caffe: Runner) -> None:
    module = Lambda(
        lambda x: (
            F.gelu(x), torch.erf(x), x @ x.mT, x.max(1)[0], x.repeat(1, 2, 1), torch.where(x > 0, x, x * x),
            x[:, :1] * x[..., :1], F.group_norm(x.mT, 4), x.var(2), F.adaptive_max_pool1d(x, 3), x.roll(1, 2),
        )
    )  # fmt: skip
    made, inputs, wanted = compare(module, torch.randn(X))
    assert_close(made.in_caffe(caffe, inputs)[0], wanted)


def test_a_module_is_left_in_the_mode_it_was_in() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    from_torch(module, torch.ones(1, 2))
    assert module.training


def test_a_program_of_torch_export_is_imported_as_it_is() -> None:
    module = nn.LSTM(3, 2).eval()
    x = torch.randn(4, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x,))
    made = imported(from_torch(program).described)
    wanted = module.double()(x.double())[0].detach().numpy()
    assert_close(made.interpreted({"input_2": x.numpy().astype(np.float64)}), {"Y_0": wanted}, 1e-6)


def test_a_layer_on_two_batches_is_two_of_the_same_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(3, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.gru(x)[0], self.gru(y)[0]

    module, x, y = Twice().eval(), torch.randn(5, 2, 3), torch.randn(4, 3, 3)
    made = imported(from_torch(module, x, y).described)
    wanted = [one.detach().numpy() for one in module(x, y)]
    found = made.interpreted({"x": x.numpy().astype(float), "y": y.numpy().astype(float)})
    assert_close(found, {"Y_0": wanted[0], "Y_1": wanted[1]})


class Packed(nn.Module):
    """A recurrent layer on packed sequences, whose data go through a layer before it."""

    def __init__(self, kind: str, batch_first: bool, is_sorted: bool, padding: float, steps: int | None) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.rnn = getattr(nn, kind)(3, 4, num_layers=1 + (kind == "LSTM"), bidirectional=True, batch_first=batch_first)
        self.pack: dict[str, Any] = {"batch_first": batch_first, "enforce_sorted": is_sorted}
        self.pad: dict[str, Any] = {"batch_first": batch_first, "padding_value": padding, "total_length": steps}

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, **self.pack)
        packed = packed._replace(data=torch.tanh(self.first(packed.data)))
        y, last = self.rnn(packed)
        return (
            nn.utils.rnn.pad_packed_sequence(packed, **self.pad)[0],
            *nn.utils.rnn.pad_packed_sequence(y, **self.pad),
            last,
        )


@pytest.mark.parametrize(
    ("kind", "batch_first", "is_sorted", "padding", "steps"),
    [("LSTM", True, False, 0.0, None), ("GRU", False, True, -1.5, 7), ("RNN", True, True, 0.0, 5)],
)
def test_packed_sequences_are_read_with_their_lengths(
    tmp_path: Path, kind: str, batch_first: bool, is_sorted: bool, padding: float, steps: int | None
) -> None:
    module = Packed(kind, batch_first, is_sorted, padding, steps)
    x = torch.randn(*((3, 5) if batch_first else (5, 3)), 3)
    lengths = torch.tensor([5, 4, 2] if is_sorted else [2, 5, 3])
    before = changed_in_export()
    model = from_torch(module, x, lengths)
    assert module.training
    assert changed_in_export() == before
    y, again, *last = (one.detach().numpy() for one in flat(module.eval()(x, lengths)))
    made = imported(model.described)
    wanted = {f"Y_{number}": array for number, array in enumerate([y, again, *last])}
    assert_close(
        made.interpreted({"x": x.numpy().astype(float), "lengths": lengths.numpy().astype(float)}), wanted, 1e-6
    )
    found = lstmc.convert(model, tmp_path, target="flat", on=["interpreter"])
    assert found.passed
    assert found.source is not None
    assert (found.source.not_run, len(found.source.differences)) == (None, len(wanted))


def changed_in_export() -> list[Any]:
    functions = (nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence)
    return [nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward, *(function.__code__ for function in functions)]


def flat(values: Any) -> list[Any]:
    return [one for value in values for one in flat(value)] if isinstance(values, tuple) else [values]


def test_a_packed_sequence_is_no_argument() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor([5, 3]))
    with pytest.raises(SourceError, match=r"torch\.export takes no packed sequence as an argument"):
        from_torch(nn.GRU(3, 4), packed)


def test_packed_data_are_read_row_by_row() -> None:
    def sums(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return nn.utils.rnn.pack_padded_sequence(x, lengths).data.sum(0)

    def data(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return nn.utils.rnn.pack_padded_sequence(x, lengths).data

    for function in (sums, data):
        with pytest.raises(
            RefusedError, match="data = of a packed sequence: it is only read row by row; pad it before"
        ):
            from_torch(Lambda(function), torch.zeros(5, 2, 3), torch.tensor([5, 3]))


def test_what_pytorch_does_not_export_is_told() -> None:
    class ByValue(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("of no use\nat all")

    with pytest.raises(
        SourceError, match=r"the module: torch\.export cannot take it on these arguments: ValueError: of no"
    ):
        from_torch(ByValue(), torch.zeros(2))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            (),
            "SourceError: from_torch needs an example of each argument of the module, found none\n"
            "  give an example tensor: from_torch(module, torch.zeros(1, 30, 20)), of your input's shape",
        ),
        (
            ((1, 4),),
            "SourceError: argument 1: expected a tensor, found the sizes (1, 4)\n"
            "  give an example tensor: from_torch(module, torch.zeros(1, 30, 20)), of your input's shape",
        ),
    ],
)
def test_a_module_needs_examples_that_are_tensors(arguments: tuple[Any, ...], error: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_torch(nn.Linear(4, 2), *arguments)
    assert str(caught.value) == error


def test_from_torch_takes_no_file() -> None:
    with pytest.raises(SourceError) as caught:
        from_torch("spotter.pt")
    assert str(caught.value) == (
        "SourceError: from_torch takes a module of PyTorch, found 'spotter.pt'\n"
        "  a file: lstmc.import_file(FILE), or lstmc.convert(FILE, FOLDER)"
    )
    with pytest.raises(SourceError, match=r"takes a module of PyTorch or a program of torch\.export, found int"):
        from_torch(3)


def _complex(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def _masked(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[torch.tensor([True, False, True])] = x[:2]
    return y


PLACES = torch.tensor([[0, 1], [2, 2], [3, 0]])
FUNCTIONS: dict[str, Any] = {
    "a value at repeated places": lambda x: x.scatter(1, PLACES, 5.0),
    "a value at computed places": lambda x: x.scatter(1, x.argsort(1)[:, :1].expand(3, 2), 5.0),
    "the two largest alone": lambda x: torch.full_like(x, -torch.inf).scatter(1, x.topk(2)[1], x.topk(2)[0]).softmax(1),
    "all but the largest": lambda x: x.scatter(1, x.argmax(1, True), -torch.inf).softmax(1),
    "all but the two largest": lambda x: x.scatter(1, x.topk(2)[1], torch.full_like(x[:, :2], -torch.inf)).softmax(1),
    "places of masked elements": lambda x: torch.where(x > x[:, 2:3], x, -torch.inf).topk(4)[1].float().square().sum(1),
    "rows of a mask": _masked,
    "remainders": lambda x: torch.remainder((9 * x).round() * 49, 49) + torch.fmod((9 * x).round() * 49, -49),
    "quotients": lambda x: (9 * x).round() * 49 // 49 + torch.div((9 * x).round() * 49, -49, rounding_mode="trunc"),
    "integers of an input": lambda x: (5 * x).int() + x.int().to(x.dtype),
    "a number less a complex one": lambda x: torch.view_as_real(2 - _complex(x)),
    "complex numbers and real ones": lambda x: torch.view_as_real(
        torch.cat([_complex(x), torch.ones(1, 2)]) + x[:1, :2]
    ),
    "a complex number and a real value": lambda x: torch.view_as_real(x + (1 + 2j)),
    "an inverse": lambda x: torch.view_as_real(1 / _complex(x)),
    "complex padding": lambda x: torch.view_as_real(F.pad(_complex(x), (1, 2), value=1.0)),
    "a complex transform of a real value": lambda x: torch.view_as_real(torch.fft.fft2(x) + x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_the_numbers_of_pytorch(name: str) -> None:
    torch.manual_seed(0)
    compare(Lambda(FUNCTIONS[name]), torch.randn(3, 4))


def test_a_power_of_a_negative_number_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"self = -2\.0: only powers of positive numbers"):
        from_torch(Lambda(lambda x: (-2.0) ** x), torch.randn(3, 4))
