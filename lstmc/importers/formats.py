"""The formats that lstmc reads itself: each knows its files by their content, and reads a file as a net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.frontends.torch_graph import describe_program
from lstmc.importers.frontends.torch_names import describe_state_dict, groups_of
from lstmc.importers.read.keras_file import read_keras
from lstmc.importers.read.onnx_file import load_onnx, read_safetensors
from lstmc.importers.read.source import Source
from lstmc.importers.read.torch_file import entries, hints, read_torch
from lstmc.importers.read.torch_program import is_program, read_program
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes import KerasRuntime, OnnxRuntime, TorchLayers, TorchProgram
from lstmc.importers.sources import ImportOptions, NetSource, SourceNet, net_sources
from lstmc.plugins import need

ZIP, HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
PICKLE = b"\x80\x02\x8a\x0a"  # a pickle that begins with an integer of ten bytes, as PyTorch's first files
FIXED = "export the module again from an example of the shape wanted: torch.export.export(module, (example,))"


class TorchSource:
    """State dicts and programs of PyTorch."""

    summary = "a state dict or program of PyTorch (.pt, .pth, .pt2)"
    options = frozenset({"activation", "recurrent_only", "shapes", "values"})

    def knows(self, path: Path) -> bool:
        head = head_of(path)
        if head[:2] != ZIP:
            return head.startswith(PICKLE)
        names = entries(path)
        return is_program(names) or any(name.rpartition("/")[2] == "data.pkl" for name in names)

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        program = head_of(path)[:2] == ZIP and is_program(entries(path))
        if options.shapes or options.values:
            kind = "torch program" if program else "torch"
            raise SourceError(
                f"{path.name}: only a graph has inputs whose shapes and values can be given; this is {kind}",
                notes=[FIXED] if program else [],
            )
        if program:
            torch = need("torch", "PyTorch", "torch", SourceError)
            return of_program(torch, read_program(torch, path), path.name)
        return _of_tensors(read_torch(path), options)


class SafetensorsSource:
    """Files of safetensors, with the tensors of a state dict of PyTorch."""

    summary = ".safetensors"
    options = frozenset({"activation", "recurrent_only"})

    def knows(self, path: Path) -> bool:
        return head_of(path)[8:9] == b"{"

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        return _of_tensors(read_safetensors(path), options)


class OnnxSource:
    """Graphs of ONNX."""

    summary = "ONNX"
    options = frozenset({"shapes", "values"})

    def knows(self, path: Path) -> bool:
        head = head_of(path)
        return len(head) > 2 and head[:1] == b"\x08" and head[1] < 0x20  # the first field is a small version

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        net = describe_onnx(load_onnx(path), path.name, path.parent, options.shapes, options.values)
        return SourceNet(net, "ONNX", runtime=OnnxRuntime(path, net, options.values))


class KerasSource:
    """Models of Keras, and weights of Keras with the JSON of the model."""

    summary = "Keras (.keras, .h5)"
    options = frozenset({"config", "shapes"})

    def knows(self, path: Path) -> bool:
        head = head_of(path)
        return head[:8] == HDF5 or (head[:2] == ZIP and entries(path).keys() >= {"config.json", "model.weights.h5"})

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        keras = read_keras(path, options.config)
        net = describe_keras(keras, options.shapes)
        return SourceNet(net, f"Keras {keras.facts['version']}".strip(), runtime=KerasRuntime(keras, net))


OWN: Sequence[NetSource] = (TorchSource(), SafetensorsSource(), OnnxSource(), KerasSource())


def _of_tensors(tensors: Source, options: ImportOptions) -> SourceNet:
    net = describe_state_dict(tensors, hints(tensors), options.activation, options.recurrent_only)
    return SourceNet(net, tensors.kind, runtime=TorchLayers(groups_of(tensors)[0], net))


def of_program(torch: Any, program: Any, name: str) -> SourceNet:
    """Return the net of a program of torch.export."""
    net = describe_program(torch, program, name)
    return SourceNet(net, "a program of torch.export", runtime=TorchProgram(program, net))


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file. Raises :class:`SourceError` for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(16)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None


def source_of(path: Path) -> NetSource:
    """Return the source of a file: by its content, lstmc's own formats before those of packages.

    Raises :class:`SourceError` for a file that is not there, or that no source knows.
    """
    head = head_of(path)
    for source in chain(OWN, net_sources()):  # packages are loaded only for a file that none of OWN knows
        if source.knows(path):
            return source
    expected = ", ".join(source.summary for source in chain(OWN, net_sources()))
    raise SourceError(f"{path}: expected {expected}; found {_described(path, head)}")


def _described(path: Path, head: bytes) -> str:
    if head[:2] == ZIP:
        return f"a zip file of {', '.join([*entries(path)][:3]) or 'nothing'}"
    return f"a file that begins with {head.decode('ascii', 'replace')!r}" if head else "an empty file"
