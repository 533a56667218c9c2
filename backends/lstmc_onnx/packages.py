"""The two packages of the extra, ``onnx`` and ``onnxruntime``, which are imported where they are first needed."""

from __future__ import annotations

from typing import Any

from lstmc.errors import BackendError
from lstmc.plugins import need


def onnx() -> Any:
    """The package that writes, checks and reads ONNX. Raises :class:`BackendError` where it is not installed."""
    return need("onnx", "The onnx package", "onnx", BackendError)


def onnxruntime() -> Any:
    """The package that runs ONNX. Raises :class:`BackendError` where it is not installed."""
    return need("onnxruntime", "ONNX Runtime", "onnx", BackendError)
