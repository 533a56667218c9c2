"""The format of a file by its content; names and extensions are not considered."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lstmc.importers.read.torch_file import entries
from lstmc.importers.read.torch_program import is_program
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import NetSource, net_sources

Format = Literal["torch", "torch program", "safetensors", "onnx", "keras"]
KNOWN = "a state dict or program of PyTorch (.pt, .pth, .pt2), .safetensors, ONNX, Keras (.keras, .h5)"


def supported_formats() -> str:
    """Return all formats, in words."""
    return ", ".join((KNOWN, *(source.summary for source in net_sources())))


def sniff(path: Path) -> Format | NetSource:
    """Return the format of a file, or the source of a package that knows it.

    Raises :class:`SourceError` for one that is not there or not known.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    if head[:2] == b"PK":
        return _zipped(path)
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "keras"
    if head[:4] == b"\x80\x02\x8a\x0a":  # a pickle that begins with an integer of ten bytes
        return "torch"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x08" and len(head) > 2 and head[1] < 0x20:  # a message whose first field is a small version
        return "onnx"
    for source in net_sources():
        if source.knows(path):
            return source
    raise SourceError(f"{path}: expected {supported_formats()}; found {_described(head)}")


def _zipped(path: Path) -> Format:
    names = entries(path)
    if is_program(names):
        return "torch program"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    raise SourceError(
        f"{path}: expected {supported_formats()}; found a zip file of {', '.join([*names][:3]) or 'nothing'}"
    )


def _described(head: bytes) -> str:
    if not head:
        return "an empty file"
    text = head.decode("ascii", "replace")
    return f"a file that begins with {text!r}"
