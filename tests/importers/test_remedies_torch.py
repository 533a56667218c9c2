"""Remedies of refused PyTorch models are tried: one module of all refused operators, and one of the changed ones."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstmc.importers import RefusedError, SourceError, from_torch, import_file
from lstmc.importers.frontends.torch_state_dict import ALONE, SAVE_PROGRAM
from tests.importers.remedies import remedies
from tests.importers.test_torch_modules import Lambda

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
F = nn.functional
PARAMETER = nn.Parameter(torch.ones(3, 3, 1))
PLACES = torch.tensor([0, 2, 1])


def written(x: torch.Tensor, places: Any, value: float = 0.0) -> torch.Tensor:
    y = x.clone()
    y[places] = value
    return y


# By remedy: what is refused, and what is written instead, of x [3, 4] and integers k [3].
TRIED: dict[str, tuple[Any, Any]] = {
    "export the module after .eval()": (
        lambda x, k: F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True),
        lambda x, k: F.batch_norm(x, torch.zeros(4), torch.ones(4)),
    ),
    "give dims": (lambda x, k: x.roll(1), lambda x, k: x.roll(1, dims=1)),
    "keep it as a parameter": (
        lambda x, k: F.conv1d(x[None], x[:, :3, None]), lambda x, k: F.conv1d(x[None], PARAMETER)
    ),
    "leave it out": (
        lambda x, k: F.avg_pool2d(x[None], 2, divisor_override=3), lambda x, k: F.avg_pool2d(x[None], 2)
    ),
    "pool without it": (lambda x, k: F.max_pool1d(x, 2, dilation=2), lambda x, k: F.max_pool1d(x, 2)),
    "scale the input itself": (
        lambda x, k: torch.ops.aten.elu.default(x, 1.0, 1.0, 2.0), lambda x, k: F.elu(2 * x)
    ),
    "use correction=0": (lambda x, k: x[:, :1].var(1), lambda x, k: x[:, :1].var(1, correction=0)),
    "use gather": (lambda x, k: x[k, k], lambda x, k: x.gather(1, k[:, None])),
    "use its magnitude": (lambda x, k: (-2.0) ** x, lambda x, k: 2.0**x),
    "use one of these": (
        lambda x, k: torch.linalg.vector_norm(x, 3), lambda x, k: torch.linalg.vector_norm(x, 2)
    ),
    "use slices, or where": (
        lambda x, k: written(x, (k, k)), lambda x, k: torch.where(torch.arange(4) == k[:, None], 0.0, x)
    ),
    "use truth values": (lambda x, k: (k & k) * 1.0, lambda x, k: ((k > 0) & (k < 2)) * 1.0),
    "write it in real and imaginary parts": (
        lambda x, k: torch.view_as_real(torch.fft.rfft(x).tanh()), lambda x, k: torch.fft.rfft(x).real.tanh()
    ),
    "write the model without it": (lambda x, k: torch.special.bessel_j0(x), lambda x, k: x),
    "pad with zeros": (lambda x, k: F.pad(x, (1, 1), mode="circular"), lambda x, k: F.pad(x, (1, 1))),
    "write it without dots, or by other functions": (
        lambda x, k: torch.einsum("...i,i->...", x, x[0]), lambda x, k: torch.einsum("ji,i->j", x, x[0])
    ),
    "use where": (lambda x, k: x[x > 0].sum(), lambda x, k: torch.where(x > 0, x, 0.0).sum()),
    "make it smaller": (
        lambda x, k: torch.ones(200_000, 200_000)[0, 0] + x, lambda x, k: torch.ones(2, 2)[0, 0] + x
    ),
}  # fmt: skip
# What only the output or the whole of a model says: the modules of both.
WHOLE: dict[str, tuple[Any, Any]] = {
    "return the values, or leave it out": (
        lambda x, k: F.adaptive_max_pool1d(x, 2, return_indices=True)[1], lambda x, k: F.adaptive_max_pool1d(x, 2)
    ),
    "return torch.view_as_real of it": (
        lambda x, k: torch.fft.rfft(x), lambda x, k: torch.view_as_real(torch.fft.rfft(x))
    ),
    "pad it before, by pad_packed_sequence": (
        lambda x, k: pack_padded_sequence(x, k + 1, enforce_sorted=False).data,
        lambda x, k: pad_packed_sequence(
            pack_padded_sequence(x, k + 1, enforce_sorted=False), total_length=3
        )[0],
    ),
}  # fmt: skip
# What says it, and what is done then; files are written into a folder.
GRU2, RNN, PLAIN, X3 = nn.GRU(4, 3, 2), nn.RNN(4, 3), nn.Linear(4, 3), torch.zeros(3, 2, 4)
STATES = GRU2.state_dict()
FIRST = {name: tensor for name, tensor in STATES.items() if name.endswith("l0")}
SECOND = {name: tensor for name, tensor in STATES.items() if name.endswith("l1")}
FEWER = {name: tensor[1:] if name == "weight_hh_l0" else tensor for name, tensor in FIRST.items()}
MIXED = Lambda(lambda x, gru, plain: gru(plain(x))[0], gru=nn.GRU(3, 2), plain=PLAIN)
FILES: dict[str, tuple[Any, Any]] = {
    "give it by activation: tanh or relu": (
        lambda path: read(path, RNN.state_dict()), lambda path: read(path, RNN.state_dict(), activation="tanh")
    ),
    "give the module itself to lstmc.from_torch": (
        lambda path: read(path, PLAIN.state_dict()), lambda path: from_torch(PLAIN, X3)
    ),
    "save the whole module": (lambda path: read(path, SECOND), lambda path: read(path, STATES)),
    "save the whole module's state dict": (lambda path: read(path, FEWER), lambda path: read(path, FIRST)),
    "{SAVE_PROGRAM}; {ALONE} imports the recurrent layers alone": (
        lambda path: read(path, MIXED.state_dict()),
        lambda path: [
            read(path, MIXED.state_dict(), recurrent_only=True), from_torch(MIXED, X3),
            torch.export.save(torch.export.export(MIXED.eval(), (X3,)), path.with_suffix(".pt2")),
            import_file(path.with_suffix(".pt2")),
        ],
    ),
    "give an example tensor: from_torch(module, torch.zeros(1, 30, 20)), of your input's shape": (
        lambda path: from_torch(PLAIN), lambda path: from_torch(PLAIN, X3)
    ),
    "give it the padded sequence and the lengths, and call pack_padded_sequence in its forward": (
        lambda path: from_torch(RNN, pack_padded_sequence(X3, torch.tensor([3, 2]))),
        lambda path: from_torch(
            Lambda(lambda x, n, rnn: pad_packed_sequence(rnn(pack_padded_sequence(x, n))[0])[0], rnn=RNN),
            X3, torch.tensor([3, 2]),
        ),
    ),
    "call the module on them first; replace branches on their values by one branch": (
        lambda path: from_torch(Lambda(lambda x: x if x.sum() > 0 else -x), X3),
        lambda path: from_torch(Lambda(lambda x: torch.where(x.sum() > 0, x, -x)), X3),
    ),
    'save its model instead: torch.save(model.state_dict(), "model.pt"), or a program of torch.export': (
        lambda path: packaged(path), lambda path: read(path, RNN.state_dict(), activation="tanh")
    ),
    "save it again, by PyTorch 2.9 or newer: files of older releases have other parts": (
        lambda path: program(path, without="model_weights_config.json"), lambda path: program(path, without=None)
    ),
}  # fmt: skip
UNTRIED = {
    "check the program": "a damaged program",
    "fold it in the source": "constants are computed before: only such of open sizes come here",
    "rewrite this part of the model": "a shape that PyTorch takes and lstmc does not: none is known",
    "{origin}: its tensors are big-endian; save it on a little-endian machine": "a file of another machine",
    "{self.origin}: its tensors are big-endian; save it again on a little-endian machine": "a file of another machine",
}


OF_ONNX = {"use such a scale", "check the model"}  # in code that all frontends share


def read(path: Path, tensors: Any, **options: Any) -> Any:
    torch.save(tensors, path)
    return import_file(path, **options)


def packaged(path: Path) -> Any:
    with torch.package.PackageExporter(path) as exporter:
        exporter.save_pickle("model", "model.pkl", {"w": torch.zeros(2)})
    return import_file(path)


def program(path: Path, without: str | None) -> Any:
    """Read a saved program without the entry ``without``, which PyTorch 2.8 does not write."""
    content = BytesIO()
    torch.export.save(torch.export.export(nn.Linear(4, 2), (torch.ones(3, 4),)), content)
    with ZipFile(content) as old, ZipFile(path, "w") as new:
        for name in old.namelist():
            if name.rpartition("/")[2] != without:
                new.writestr(name, old.read(name))
    return import_file(path)


def mends(module: nn.Module, *xs: torch.Tensor) -> list[str]:
    with pytest.raises(RefusedError) as raised:
        from_torch(module.eval(), *xs)
    return [one.mend for one in raised.value.refusals]


def all_of(place: int) -> nn.Module:
    return Lambda(lambda x, k: tuple(pair[place](x, k) for pair in TRIED.values()))


def test_every_remedy_is_known() -> None:
    own = ("frontends/torch_", "read/torch_", "torch_export", "importer", "frontends/layers", "frontends/shape_ops")
    assert remedies(*own) == {*TRIED, *WHOLE, *FILES, *UNTRIED} | OF_ONNX


def test_operators_are_refused_with_their_remedies() -> None:
    assert mends(all_of(0), torch.randn(3, 4), PLACES) == [*TRIED]


def test_the_remedies_of_operators_help() -> None:
    from_torch(all_of(1).eval(), torch.randn(3, 4), PLACES)


@pytest.mark.parametrize("remedy", WHOLE)
def test_a_remedy_of_an_output_helps(remedy: str) -> None:
    (refused, changed), xs = WHOLE[remedy], (torch.randn(3, 3, 4), PLACES)
    assert mends(Lambda(refused), *xs) == [remedy]
    from_torch(Lambda(changed).eval(), *xs)


@pytest.mark.parametrize("remedy", FILES)
def test_a_remedy_of_a_file_or_a_module_helps(remedy: str, tmp_path: Path) -> None:
    refused, changed = FILES[remedy]
    with pytest.raises((SourceError, RefusedError)) as raised:
        refused(tmp_path / "model.pt")
    said = remedy.format(SAVE_PROGRAM=SAVE_PROGRAM, ALONE=ALONE.in_python())
    assert said in "".join(map(str, raised.value.notes)) + str(raised.value)
    changed(tmp_path / "model.pt")
