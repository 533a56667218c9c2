"""PyTorch's containers, read without PyTorch; what is damaged, hostile or no model is refused in words."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lstmc
from lstmc.errors import LstmcError
from lstmc.importers import RefusedError, SourceError, import_file
from lstmc.importers.read.onnx_file import read_safetensors
from lstmc.importers.read.torch_file import read_torch
from lstmc.importers.sources import Source
from tests.importers.imported import assert_close, traced
from tests.importers.torch_files import CONTAINERS, mutants, save, tagger
from tests.on_demand.fuzz.mutate import changed_values


def read(path: Path, container: str) -> Source:
    return read_safetensors(path) if container == "safetensors" else read_torch(path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_has_the_same_tensors(tmp_path: Path, container: str) -> None:
    model = tagger()
    save(model, tmp_path / "model", container)
    found = read(tmp_path / "model", container).tensors
    assert set(found) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(found[name].read(), tensor.numpy())


def test_every_container_is_imported_and_needs_no_pytorch_for_it(tmp_path: Path) -> None:
    code = """
        import sys
        sys.modules["torch"] = sys.modules["safetensors"] = None  # importing them fails now
        from pathlib import Path
        from lstmc.importers import import_file
        for folder in map(Path, sys.argv[1:]):
            for name, content in import_file(folder / "model", recurrent_only=True).files().items():
                Path(folder, "out", name).write_bytes(content)
    """
    folders = [tmp_path / container for container in CONTAINERS]
    for folder in folders:
        (folder / "out").mkdir(parents=True)
        save(tagger(), folder / "model", folder.name)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), *folders], check=True)
    for folder in folders:
        made = import_file(folder / "model", recurrent_only=True).files()
        assert made
        for name, content in made.items():
            assert (folder / "out" / name).read_bytes() == content


def test_a_header_may_be_all_of_a_file(tmp_path: Path) -> None:
    header = b'{"empty": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert read_safetensors(tmp_path / "a.safetensors").tensors["empty"].read().shape == (0, 3)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_package_is_refused_by_its_name(tmp_path: Path) -> None:
    with torch.package.PackageExporter(tmp_path / "model") as exporter:
        exporter.extern("**")
        exporter.save_pickle("model", "model.pkl", tagger())
    with pytest.raises(SourceError, match=r"model: a torch\.package, whose modules are known only by running its code"):
        import_file(tmp_path / "model")


def test_a_view_is_read_by_its_strides(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    torch.save({"a": whole.t(), "b": whole[1:3, ::2], "c": whole[2]}, tmp_path / "views.pt")
    found = read_torch(tmp_path / "views.pt").tensors
    np.testing.assert_array_equal(found["a"].read(), whole.t())
    np.testing.assert_array_equal(found["b"].read(), whole[1:3, ::2])
    np.testing.assert_array_equal(found["c"].read(), whole[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_elements_of_every_kind_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 3], [2, 0, 1]]).to(dtype)
    torch.save({"a": tensor}, tmp_path / "a.pt")
    np.testing.assert_array_equal(read_torch(tmp_path / "a.pt").tensors["a"].read(), tensor.double().numpy())


def test_a_checkpoint_is_searched_and_a_module_says_what_its_state_dict_does_not(tmp_path: Path) -> None:
    model = torch.nn.RNN(3, 2, nonlinearity="relu")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 1, 3))[0].sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "tagger": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    imported = import_file(tmp_path / "checkpoint.pt", activation="relu", recurrent_only=True)
    assert set(imported.net.params) == {"tagger/W_x", "tagger/b", "tagger/W_h"}
    unused = set(read_torch(tmp_path / "checkpoint.pt").tensors) - {f"tagger.{name}" for name in model.state_dict()}
    assert set(imported.net.ignored) == unused
    torch.save(model, tmp_path / "module.pt")
    assert read_torch(tmp_path / "module.pt").facts["modules"][""]["mode"] == "RNN_RELU"
    assert "relu(" in import_file(tmp_path / "module.pt").files()["model.py"].decode()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_a_pickle_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    model = torch.nn.LSTM(3, 2)
    content = OrderedDict(evil=Evil(), **model.state_dict())
    torch.save(content, "evil.pt", _use_new_zipfile_serialization=not legacy)
    assert set(read_torch(Path("evil.pt")).tensors) == set(model.state_dict())
    assert not Path("ran").exists()
    torch.load("evil.pt", weights_only=False)
    assert Path("ran").exists()  # the file is one that does


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(f"archive/{name.replace('__', '/').replace('_pkl', '.pkl')}", content)
    return path


class Tensor:
    """Pickled, it is a tensor of PyTorch with whatever sizes it is told."""

    def __init__(self, count: int, offset: Any, shape: Any, strides: Any) -> None:
        self.told = count, offset, shape, strides

    def __reduce__(self) -> tuple[Any, ...]:
        count, offset, shape, strides = self.told
        storage = Storage(("storage", torch.FloatStorage, "0", "cpu", count))
        return torch._utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, OrderedDict())


class Storage:
    def __init__(self, told: Any) -> None:
        self.told = told


def pickled(thing: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return thing.told if isinstance(thing, Storage) else None

    out = io.BytesIO()
    Pickler(out, 2).dump(thing)
    return out.getvalue()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor(4, 0, (2, 3), (3, 1)), "tensor a of shape [2, 3] does not lie in its storage of 4 elements"),
        (Tensor(4, 2, (3,), (1,)), "tensor a of shape [3] does not lie in its storage of 4 elements"),
        (Tensor(4, 0, (999, 999), (0, 0)), "tensor a of shape [999, 999] does not lie in its storage of 4 elements"),
        (Tensor(4, -1, (2,), (1,)), "tensor a has no usable strides"),
        (Tensor(4, 0, (2,), (-1,)), "tensor a has no usable strides"),
        (Tensor(4, 0, (2, 2), (1,)), "tensor a has no usable strides"),
        (Tensor(4, 0, (2**40,), (0,)), "tensor a has no usable shape: (1099511627776,)"),
        (Tensor(4, 0, ("x",), (1,)), "tensor a has no usable shape: ('x',)"),
    ],
)
def test_sizes_that_lie_are_found_before_anything_is_read(tmp_path: Path, tensor: Tensor, said: str) -> None:
    path = archive(tmp_path / "lies.pt", data_pkl=pickled({"a": tensor}), data__0=bytes(16))
    with pytest.raises(SourceError) as caught:
        read_torch(path)
    assert str(caught.value) == f"SourceError: lies.pt: {said}"


def test_a_storage_that_is_short_or_missing_or_packed_is_named(tmp_path: Path) -> None:
    told = pickled({"a": Tensor(4, 0, (4,), (1,))})
    for entries, options, said in (
        ({"data__0": bytes(8)}, {}, "archive/data/0 should have 16 bytes, found 8"),
        ({}, {}, "it has no archive/data/0, where a tensor's elements should be"),
    ):
        path = archive(tmp_path / "short.pt", **options, data_pkl=told, **entries)  # type: ignore[arg-type]
        with pytest.raises(SourceError, match=said):
            read_torch(path).tensors["a"].read()
    path = archive(tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, data_pkl=told, data__0=bytes(16))
    with pytest.raises(SourceError, match=r"archive/data.pkl is compressed: expected entries"):
        read_torch(path)


def test_nested_things_cost_no_more_than_their_pickle(tmp_path: Path) -> None:
    bomb: Any = [Tensor(4, 0, (4,), (1,))]
    for _ in range(200):
        bomb = [bomb, bomb]  # 2 ** 200 paths to one tensor
    path = archive(tmp_path / "nested.pt", data_pkl=pickled({"a": [1, bomb[0]], "b": Tensor(4, 0, (4,), (1,))}))
    assert "b" in read_torch(path).tensors


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_thousand_mutants_are_read_or_refused_in_words(tmp_path: Path, container: str) -> None:
    save(tagger(), tmp_path / "model", container)
    content, path = (tmp_path / "model").read_bytes(), tmp_path / "mutant"
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for mutant in mutants(content, 1000 if container in ("zip", "legacy", "safetensors") else 200):
        path.write_bytes(mutant)
        try:
            import_file(path).files()
        except LstmcError:
            refused += 1
    assert refused > 80
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


def test_a_state_dict_of_no_recurrent_layer_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(RefusedError) as caught:
        import_file(tmp_path / "linear.pt")
    assert str(caught.value) == (
        "RefusedError: linear.pt cannot be imported: 1 problem\n"
        "  linear.pt: tensors weight, bias: no name is one that torch.nn.LSTM, GRU, RNN or their cells give,"
        " as weight_ih_l0 and weight_hh_l0; give the module itself to lstmc.from_torch"
    )


def test_all_refusals_come_at_once(tmp_path: Path) -> None:
    state = torch.nn.ModuleDict({"a": torch.nn.RNN(2, 2), "b": torch.nn.LSTM(2, 2, 2)}).state_dict()
    del state["b.weight_hh_l0"], state["b.weight_ih_l0"], state["b.bias_ih_l0"], state["b.bias_hh_l0"]
    torch.save(state, tmp_path / "two.pt")
    with pytest.raises(RefusedError) as caught:
        import_file(tmp_path / "two.pt")
    assert [(r.node, r.attribute, r.value) for r in caught.value.refusals] == [
        ("a", "nonlinearity", "unknown"),
        ("b", "layers", "[(1, False)]"),
    ]


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    known = (
        "expected a state dict or program of PyTorch (.pt, .pth, .pt2), .safetensors, ONNX, TFLite, Keras (.keras,"
        " .h5), a prototxt of Caffe (with its weights, a caffemodel)"
    )
    for content, found in (
        (b"", "an empty file"),
        (b"once upon\n", "a file that begins with 'once upon\\n'"),
    ):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(SourceError) as caught:
            import_file(tmp_path / "x")
        assert str(caught.value) == f"SourceError: {tmp_path / 'x'}: {known}; found {found}"
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(SourceError, match=r"found a zip file of a\.npy"):
        import_file(tmp_path / "x.npz")
    with pytest.raises(SourceError, match="no such file"):
        import_file(tmp_path / "none.pt")


@pytest.mark.slow
def test_an_lstm_of_ten_million_weights_takes_less_than_three_times_its_size(tmp_path: Path) -> None:
    torch.save(torch.nn.LSTM(1000, 1200).state_dict(), tmp_path / "large.pt")
    code = """
        import resource, sys
        from lstmc.importers import import_file
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        files = import_file(sys.argv[1]).files()
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print(grown / len(files["weights.npz"]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path / "large.pt"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 3


def program(path: Path, module: torch.nn.Module, *examples: torch.Tensor, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), examples, **options), path)
    return path


class Keywords(torch.nn.Module):
    """What a state dict does not say: the order of layers, a mask of numbers alone, results of several parts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.gru = torch.nn.GRU(4, 3, 2, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, *_ = self.norm(x.transpose(1, 2).clone(memory_format=torch.contiguous_format)).chunk(2, dim=2)
        y, last = self.gru(first.transpose(1, 2))
        return self.out(y + torch.arange(y.shape[1]).reshape(1, -1, 1) / 8).softmax(-1), last


@pytest.mark.slow
def test_a_program_of_torch_export_is_read_whole(tmp_path: Path) -> None:
    path = program(tmp_path / "keywords.pt2", Keywords(), torch.zeros(2, 6, 4))
    model = import_file(path)
    assert set(model.net.outputs) == {"Y_0", "Y_1"}
    used = {name for weight in model.net.params.values() for name in weight.sources}
    assert used | set(model.net.ignored) == set(Keywords().state_dict())
    done = lstmc.convert(path, tmp_path / "out", on=["interpreter"])
    assert done.passed
    assert done.source is not None
    assert (done.source.not_run, len(done.source.differences)) == (None, 2)


@pytest.mark.slow
def test_a_program_with_an_open_size_is_read_at_that_of_its_example(tmp_path: Path) -> None:
    batch = ({1: torch.export.Dim("batch", min=2, max=100)},)
    path = program(tmp_path / "open.pt2", tagger(), torch.zeros(6, 3, 5), dynamic_shapes=batch)
    assert lstmc.convert(path, tmp_path / "out", on=["interpreter"]).passed


class Overwriting(torch.nn.Module):
    """Operators in place, also on views, and some that PyTorch writes by others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Sequential(torch.nn.Conv1d(4, 3, 3, padding=1), torch.nn.ReLU(inplace=True))
        self.cell, self.drop = torch.nn.GRUCell(3, 3), torch.nn.Dropout1d(0.2)

    def forward(self, x: torch.Tensor, pad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = torch.nn.functional.softshrink(self.drop(self.conv(x)), 0.1).transpose(1, 2)
        h, y = torch.zeros(2, 3), torch.empty(2, 5, 3)
        for t in range(5):
            h = self.cell(maps[:, t], h)
            y[:, t] = h
        y[:, 1:3].mul_(2).add_(1)
        scores = (y @ y.mT).masked_fill_(pad[:, None] > 0, -torch.inf)
        return scores.softmax(-1) @ y, torch.zeros_like(y).scatter_(2, y.argmax(2, keepdim=True), 1.0)


@pytest.mark.slow
def test_a_program_with_operators_in_place_is_that_without_them(tmp_path: Path) -> None:
    module, x, pad = Overwriting().eval(), torch.randn(2, 4, 5), torch.tensor([[0.0, 0, 0, 0, 0], [0, 0, 0, 1, 1]])
    model = import_file(program(tmp_path / "m.pt2", module, x, pad))
    inputs = {"x": x.numpy(), "pad": pad.numpy()}
    found, (first, second) = traced(model.described).interpreted(inputs), module(x, pad)
    assert_close(found, {"Y_0": first.detach(), "Y_1": second.detach()})
    assert model.runtime is not None
    assert_close(model.runtime.run(inputs), {"Y_0": first.detach(), "Y_1": second.detach()})


@pytest.mark.slow
def test_a_program_of_bfloat16_is_imported_in_float32(tmp_path: Path) -> None:
    path = program(tmp_path / "m.pt2", tagger().to(torch.bfloat16), torch.zeros(5, 2, 5, dtype=torch.bfloat16))
    done = lstmc.convert(path, tmp_path / "out", on=["interpreter"])
    assert done.passed
    assert done.source is not None
    assert done.source.not_run == "the program rounds to bfloat16, which the imported model does not"


class Rolled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.erfinv() + torch.nn.functional.softshrink(x)


@pytest.mark.slow
def test_an_operator_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        import_file(program(tmp_path / "m.pt2", torch.nn.Sequential(Rolled()), torch.zeros(5, 2)))
    line = f"test_torch_read.py:{Rolled.forward.__code__.co_firstlineno + 1}"
    assert str(caught.value) == (
        "RefusedError: m.pt2 cannot be imported: 1 problem\n"
        f"  erfinv (0) at {line}: operator = aten.erfinv.default: it is not supported; write the model without it"
    )


def repacked(path: Path, change: Callable[[str, bytes], bytes], **more: bytes) -> Path:
    """The same file with entries changed and added."""
    made = path.with_name(f"changed_{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in more.items():
            new.writestr(name, content)
    return made


@pytest.mark.slow
def test_nothing_of_a_program_is_unpickled_or_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = program(tmp_path / "m.pt2", tagger(), torch.zeros(3, 1, 5))
    evil = pickle.dumps(Evil())

    def with_pickles(name: str, content: bytes) -> bytes:
        if name.endswith("sample_inputs/model.pt"):
            return evil
        if name.endswith("models/model.json"):
            told = json.loads(content)
            told["guards_code"] = ["__import__('os').system('touch ran')"]
            size = {"as_expr": {"expr_str": "__import__('os').system('touch ran')", "hint": {"as_int": 3}}}
            told["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = size
            told["range_constraints"] = {"__import__('os').system('touch ran')": {"min_val": 2, "max_val": 4}}
            return json.dumps(told).encode()
        return content

    assert set(import_file(repacked(path, with_pickles)).net.outputs) == {"Y"}

    def named_as_code(name: str, content: bytes) -> bytes:
        code = json.dumps("x=__import__('os').system('touch ran')").encode()
        return content.replace(b'"x"', code) if name.endswith("models/model.json") else content

    model = import_file(repacked(path, named_as_code))
    assert model.runtime is not None
    model.runtime.run({name: np.zeros((3, 1, 5)) for name in model.net.inputs})
    assert not Path("ran").exists()

    def pickled_weights(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else content

    with pytest.raises(SourceError, match="is stored as a pickle, which is not loaded"):
        import_file(repacked(path, pickled_weights))
    for operator in ("aten.from_file.default", "higher_order.cond", "prims.add.default"):

        def other(name: str, content: bytes, operator: str = operator) -> bytes:
            return content.replace(b"torch.ops.aten.lstm.input", f"torch.ops.{operator}".encode())

        with pytest.raises(SourceError, match="is not supported in a file"):
            import_file(repacked(path, other))
    assert not Path("ran").exists()


@pytest.mark.slow
def test_damaged_programs_are_refused_in_words(tmp_path: Path) -> None:
    path = program(tmp_path / "m.pt2", tagger(), torch.zeros(3, 1, 5))
    for content in mutants(path.read_bytes(), 60):
        path.write_bytes(content)
        with contextlib.suppress(LstmcError):  # anything else fails the test
            import_file(path).files()


def test_a_program_with_changed_values_is_read_or_refused_in_words(tmp_path: Path) -> None:
    path = program(tmp_path / "m.pt2", tagger(), torch.zeros(3, 1, 5))
    draw, read = random.Random(0), 0
    for number in range(40):
        part = "weights_config" if number % 4 == 0 else "models/model.json"

        def changed(name: str, content: bytes, part: str = part) -> bytes:
            return changed_values(content, draw) if part in name else content

        with contextlib.suppress(LstmcError):  # anything else fails the test
            read += bool(import_file(repacked(path, changed)).files())
    assert 0 < read < 40
