"""ONNX Runtime, which executes operators and no code of the file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lstmc.importers.frontends.onnx_quantized import ROUNDED
from lstmc.importers.ir.net import Net
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes.installed import not_installed
from lstmc.ops import Array

_KINDS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class OnnxRuntime:
    """Runs a graph from its file or its bytes; ``values`` are of inputs that were made constants."""

    name = "ONNX Runtime"

    def __init__(self, model: Path | bytes, net: Net, values: Mapping[str, Array]) -> None:
        self.model, self.net, self.values = model, net, values

    def unavailable(self) -> str | None:
        """Return the reason why it cannot run here, or None."""
        if ROUNDED in self.net.notes:
            return "the source rounds to 8 bits while it runs, which the imported model does not"
        return not_installed("onnxruntime")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raises :class:`SourceError` for a graph that ONNX Runtime does not run."""
        runtime = importlib.import_module("onnxruntime")
        arrays = {self.net.called[name]: array for name, array in inputs.items()} | dict(self.values)
        called = {name: self.net.called[name] for name in self.net.outputs}
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # what keeps all digits
        try:
            model = self.model if isinstance(self.model, bytes) else str(self.model)
            session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            fed: dict[str, Array] = {}
            for entry in session.get_inputs():
                kind = _KINDS.get(entry.type, np.float32)
                shape = [size if isinstance(size, int) else 1 for size in entry.shape]
                fed[entry.name] = np.asarray(arrays.get(entry.name, np.zeros(shape)), kind)  # one not given is not read
            results = session.run(list(called.values()), fed)
        except Exception as error:  # of its own kinds, which differ from version to version
            raise SourceError(f"ONNX Runtime does not run this graph: {str(error).splitlines()[0][:200]}") from None
        return dict(zip(called, results, strict=True))
