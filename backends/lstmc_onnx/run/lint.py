"""A net against ONNX's own rules, by ``onnx.checker``, and against what ONNX Runtime takes."""

from __future__ import annotations

from pathlib import Path

from lstmc.backend import LintReport, Violation
from lstmc.errors import BackendError
from lstmc_onnx.packages import onnx
from lstmc_onnx.run.file import read_model
from lstmc_onnx.run.runtime import load

CHECKER = "https://onnx.ai/onnx/api/checker.html"
RUNTIME = "https://onnxruntime.ai/docs/reference/compatibility.html"


def lint_file(path: Path) -> LintReport:
    """What the checker says of the whole net, with all shapes inferred; then what ONNX Runtime says of it."""
    model = read_model(path, data=False)
    layers, name = len(model.graph.node), model.graph.name or path.stem
    checker = onnx().checker
    try:
        checker.check_model(str(path), full_check=True)
    except Exception as error:  # its own, and of shape inference
        what = Violation(name, "graph", _first_line(error), "a valid ONNX model", "onnx.checker refuses it", CHECKER)
        return LintReport((what,), (), layers)
    try:
        load(path, threads=1)
    except BackendError as error:
        found = _first_line(error)
        what = Violation(name, "graph", found, "a net that it loads", "ONNX Runtime on the CPU lacks it", RUNTIME)
        return LintReport((what,), (), layers)
    return LintReport((), (), layers)


def _first_line(error: Exception) -> str:
    text = error.message if isinstance(error, BackendError) else str(error)
    return next((line for line in text.splitlines() if line.strip()), type(error).__name__)
