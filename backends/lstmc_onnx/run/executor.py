"""Running a written net in ONNX Runtime, as the compiler's differential check wants it run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.differential import wanted_gradients
from lstmc.errors import BackendError
from lstmc.interp import named_rng
from lstmc.ir import Ref
from lstmc.ops import Array, Input
from lstmc_onnx.packages import onnx, onnxruntime
from lstmc_onnx.run.file import read_model
from lstmc_onnx.run.runtime import load
from lstmc_onnx.write.graph import value_names

FORWARD_ONLY = "an ONNX net has no backward pass"
PACKED = "it is part of an initializer"


class RuntimeExecutor:
    """ONNX Runtime on the CPU: the net as it was written, and again with every value as an output."""

    name = "onnx-cpu"

    def unavailable(self) -> str | None:
        """Why ONNX Runtime cannot be used here, or None."""
        try:
            onnxruntime()
        except BackendError as error:
            return error.message
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """One forward pass. What optimisation leaves out is there too: the net is run once without, once with it."""
        graph = compiled.expanded
        names = value_names(graph)
        given = _given(compiled, arrays.inputs)
        with tempfile.TemporaryDirectory(prefix="lstmc-") as folder:
            for file, content in artifact.files.items():
                Path(folder, file).write_bytes(content)
            path = Path(folder, f"{compiled.name}.onnx")
            model = read_model(path, data=False)
            told = [output.name for output in model.graph.output]
            found = dict(load(path, threads=1).forward(given, told))
            more = [name for name in names.values() if name not in {*given, *told}]
            stored = {tensor.name for tensor in model.graph.initializer}
            model.graph.output.extend(onnx().helper.make_empty_tensor_value_info(n) for n in more if n not in stored)
            path.write_bytes(model.SerializeToString())
            found |= {
                tensor.name: onnx().numpy_helper.to_array(tensor) for tensor in read_model(path).graph.initializer
            }
            found |= load(path, threads=1).forward(given, [name for name in more if name not in stored])
        outputs = {graph.value_name(o.ref): found[name] for name, o in zip(told, graph.outputs, strict=True)}
        values = {graph.value_name(ref): found[name] for ref, name in names.items() if name in found}
        untold = [*wanted_gradients(compiled, arrays.cotangents), *arrays.weights]
        refs = (Ref(node.name, out) for node in graph for out in range(len(node.types)))
        absent = {graph.value_name(ref): PACKED for ref in refs if ref not in names}
        return Execution(given | values | outputs, {}, {}, absent, dict.fromkeys(untold, FORWARD_ONLY))

    def close(self) -> None:
        pass


def _given(compiled: Compiled, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """An array for each input; one that has a fill and is not given is drawn."""
    found = {}
    for node in compiled.expanded:
        if isinstance(node.op, Input):
            given = inputs.get(node.name)
            if given is None:
                assert node.op.fill is not None, node.name
                given = node.op.fill.draw(named_rng(seed, node.name), node.op.shape)
            found[node.name] = np.asarray(given, np.float32)
    return found
