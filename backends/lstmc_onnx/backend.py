"""The ONNX backend: its lists of passes, written out, and its class. A form is another net with the same results:
``lstm-op`` has only ONNX's LSTM, GRU and RNN, ``scan`` a Scan for each scan, ``unrolled`` plain operators."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lstmc import passes
from lstmc.backend import Artifact, Compiled, LintReport, Parts
from lstmc.errors import BackendError
from lstmc.ir import Builder, Ref, Scan
from lstmc.nets.session import RunsFiles
from lstmc.ops import Array, Input, Linear, Op
from lstmc.passes import BiasApart, CheckOps, Cse, Dead, Expand, Hoist, Pass, Simplify, Sink
from lstmc.pipeline import MODEL_PASSES
from lstmc.plugins import need
from lstmc.process.status import gc_paused
from lstmc_onnx import runtime
from lstmc_onnx.artifact import artifact
from lstmc_onnx.layers import FindLayers
from lstmc_onnx.lowerings import lowerings, onnxruntime
from lstmc_onnx.runtime import SUFFIX, RuntimeExecutor


@dataclass(frozen=True)
class CheckForms(CheckOps):
    """Reject losses, scores, and ops without a lowering."""

    nets: str = "ONNX"
    check: Callable[[Op], object] = lowerings.of
    name = "check_forms"


def _is_matmul(b: Builder, product: Linear, bias: Ref) -> bool:
    """Return whether ONNX writes a product as MatMul, which has no bias, so that product and sum are two values."""
    return product.axis != 1


ROLLED: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), passes.fuse_linears, passes.fuse_horizontal, Hoist(), Sink()),
    *(Simplify(), Cse(), Dead()),
)
# Each scan as a layer if it is one, else as a loop; a single step is no loop.
CHOSEN: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), Hoist(), CheckForms(), FindLayers()),
    *(*ROLLED, Expand(loops=lambda scan: scan.length > 1), Dead(), BiasApart(_is_matmul)),
)
FORMS: Mapping[str, tuple[Pass, ...]] = {
    "lstm-op": (
        *(Simplify(), Cse(), Dead(), Hoist(), CheckForms(), FindLayers(all=True)),
        *(*ROLLED, Expand(), Dead(), BiasApart(_is_matmul)),
    ),
    "scan": (*ROLLED, CheckForms(), Expand(loops=lambda scan: True), Dead(), BiasApart(_is_matmul)),
    "unrolled": (*MODEL_PASSES, CheckForms(), Expand(), Dead(), BiasApart(_is_matmul)),
}


@dataclass(frozen=True)
class OnnxBackend(RunsFiles):
    """Writes ONNX, for inference, and runs it in ONNX Runtime. ``opset`` is the version of ONNX's operators; ``open``
    are the dimensions that stay open if possible."""

    opset: int = 17
    open: tuple[str, ...] = ("T", "N")
    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "ONNX: one file with its weights, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {"onnx": "ONNX Runtime, and whatever else reads ONNX"}
    options: ClassVar[Mapping[str, str]] = {
        "opset": "the version of ONNX's operators, from 13 to the newest that the onnx package knows; 17",
        "open": "the dimensions that the net leaves open where it can, with commas between them; T,N",
    }

    def with_options(self, options: Mapping[str, str]) -> OnnxBackend:
        opset = options.get("opset", str(self.opset))
        if not re.fullmatch("[0-9]{1,3}", opset):
            raise BackendError(f"opset={opset}: expected an integer")
        dims = options.get("open", ",".join(self.open))
        return replace(self, opset=int(opset), open=tuple(filter(None, dims.split(","))))

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        unrolled = any(node.steps for node in compiled.expanded)
        return [dim for dim in self.open if dim != "T" or not unrolled]

    @property
    def ops(self) -> tuple[type[Op], ...]:  # type: ignore[override]  # packages that are installed have some
        return (Input, Scan, *lowerings)

    def passes(self, target: str) -> tuple[Pass, ...]:
        return CHOSEN

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        return FORMS

    seconds = staticmethod(runtime.artifact_seconds)
    build = staticmethod(runtime.build)

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        with gc_paused():
            return artifact(compiled, weights, self.opset)

    def lint(self, net: Path, target: str) -> LintReport:
        return runtime.lint_file(net)

    layers = staticmethod(runtime.listed_layers)

    def parts(self, file: str, content: bytes) -> Parts | None:
        return runtime.model_parts(content) if file.endswith(SUFFIX) else None

    net_suffix: ClassVar[str] = SUFFIX
    weights_suffix: ClassVar[str] = SUFFIX

    read_weights = staticmethod(runtime.read_weights)
    loaded = staticmethod(runtime.loaded_net)

    def executors(self) -> Sequence[RuntimeExecutor]:
        return (RuntimeExecutor(),)

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        """Return this Python, which must have ONNX Runtime with its quantiser, or NNCF for ``openvino``."""
        if reader == "openvino":
            need("nncf", "NNCF, which quantises for OpenVINO,", "nncf", BackendError)
        else:
            onnxruntime()
        return Path(sys.executable), os.environ

    doctor = staticmethod(runtime.findings)
