"""What ``lstmc doctor`` says of ONNX: which packages there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lstmc.backend import Finding
from lstmc.errors import BackendError
from lstmc_onnx.packages import onnx, onnxruntime


def findings() -> Iterator[Finding]:
    """The package that writes nets, and the one that runs them; without either the backend does less, not nothing."""
    yield _package("onnx, to write nets", onnx, lambda found: f"{found.__version__}, opsets up to {newest(found)}")
    yield _package("ONNX Runtime, to run them", onnxruntime, lambda found: str(found.__version__))


def newest(onnx: Any) -> int:
    """The newest version of the operators' set that the package knows."""
    return int(onnx.defs.onnx_opset_version())


def _package(subject: str, get: Callable[[], Any], detail: Callable[[Any], str]) -> Finding:
    try:
        return Finding(subject, True, detail(get()))
    except BackendError as error:
        return Finding(subject, False, error.message)  # an extra: nothing is broken without it
