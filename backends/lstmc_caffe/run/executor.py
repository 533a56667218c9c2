"""Running a written net in real Caffe, as the compiler's differential check wants it run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.verify.differential import wanted_gradients
from lstmc.interp import backward, forward
from lstmc.ir import Graph
from lstmc.manifest import parse_manifest
from lstmc.ops import Array, Param
from lstmc_caffe.ops import Scale
from lstmc_caffe.run.locate import CaffeNotFound
from lstmc_caffe.run.runner import Mode, Phase, Runner
from lstmc_caffe.write.artifact import blobs_in_place
from lstmc_caffe.write.feeds import blob_gradients, fed_inputs, feed_blobs, given_arrays, host_values, input_gradients
from lstmc_caffe.write.generated import layers_source

LOST = "Caffe's Scale overwrites it at each step"
OVERWRITTEN = "overwritten in place"


class CaffeExecutor:
    """Caffe on the CPU (``caffe-cpu``) or on a GPU (``caffe-gpu``). Several may share one :class:`Runner`."""

    def __init__(self, runner: Runner, mode: Mode) -> None:
        self.runner = runner
        self.mode: Mode = mode
        self.name = f"caffe-{mode}"
        self.hardware = "GPU" if mode == "gpu" else ""

    def unavailable(self) -> str | None:
        """Why this Caffe cannot be used here, or None."""
        try:
            gpu = self.runner.gpu if self.mode == "gpu" else None
            location = self.runner.location
        except CaffeNotFound as error:
            return str(error)
        if gpu is not None and not gpu.usable:
            return f"{location.python}: {gpu.reason}" + (f"\nfix: {gpu.mend}" if gpu.mend else "")
        return None

    def emulation(self) -> str | None:
        """Why it is used only where it is asked for: an emulated device repeats the CPU's work, slowly."""
        if self.mode == "gpu" and self.runner.gpu.emulated:
            return f"{self.runner.gpu.device}; only a request for {self.name} runs it"
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """One forward and backward pass of the artifact's own prototxt and caffemodel, every blob read back."""
        return self._run(compiled, artifact, arrays, "TEST")

    def run_training(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """The same in the phase TRAIN, in which Dropout draws."""
        return self._run(compiled, artifact, arrays, "TRAIN")

    def _run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays, phase: Phase) -> Execution:
        """Each output gets a reader of its own (a probe), so that a gradient can enter at a blob that other layers
        read too. Gradients of two outputs that are one blob add up.
        """
        graph = compiled.expanded
        given = blob_gradients(graph, arrays.cotangents)
        inputs = given_arrays(compiled.model, graph, arrays.inputs)
        fed = feed_blobs(graph, inputs)
        blobs_of = {fed.node.name: [blob[0] for blob in fed.blobs if blob is not None] for fed in fed_inputs(graph)}
        wanted = [blob for name in wanted_gradients(compiled, arrays.cotangents) for blob in blobs_of.get(name, ())]
        self.runner.open_layers(layers_source(graph))
        with tempfile.TemporaryDirectory(prefix="lstmc-") as folder:
            caffemodel = Path(folder, "net.caffemodel")
            caffemodel.write_bytes(artifact.files[f"{compiled.name}.caffemodel"])
            net = self.runner.load(
                artifact.files[f"{compiled.name}.prototxt"].decode(),
                weights=caffemodel,
                phase=phase,
                gradients=wanted,
                probes=given,
                mode=self.mode,
            )
        with net:
            result = net.run(
                fed,
                want="all",
                backward=given,
                want_diffs=wanted,
                want_param_diffs=True,
            )
        names = {name for node in graph for name in node.names}
        blobs = {name: array for name, array in result.blobs.items() if name in names}
        lost = parameters_that_lose_gradients(graph)
        manifest = artifact.files[f"{compiled.name}.manifest.json"]
        gradients = _parameter_gradients(manifest, arrays.weights, result.param_diffs)
        return Execution(
            values=inputs | blobs | host_values(graph, blobs),
            input_gradients=input_gradients(graph, result.diffs),
            param_gradients={name: array for name, array in gradients.items() if name not in lost},
            absent={graph.value_name(ref): OVERWRITTEN for ref in blobs_in_place(compiled)},
            untold=dict.fromkeys(lost, LOST),
            device=self.runner.gpu.device if self.mode == "gpu" else "",
        )

    def close(self) -> None:
        self.runner.close()


def parameters_that_lose_gradients(graph: Graph) -> list[str]:
    """The parameters in blobs whose gradient a Scale overwrites where it should add to it, for several layers have it.

    It does so where it covers x from its first axis on, or from one of size 1 on (``scale_layer.cpp``, Backward_cpu).
    Legalisation for targets that train avoids it; others need the Scale.
    """
    readers = graph.readers()
    blobs = [
        graph.args(node.name)[1]
        for node in graph
        if isinstance(node.op, Scale) and node.op.learned and prod(node.types[0].shape[: node.op.axis]) == 1
    ]
    needed = graph.needed(ref for ref in dict.fromkeys(blobs) if readers[ref] > 1)
    return [node.name for node in graph if isinstance(node.op, Param) and node.name in needed]


def _parameter_gradients(
    manifest: bytes, weights: Mapping[str, Array], blob_gradients: Mapping[str, Array]
) -> dict[str, Array]:
    """From gradients of a net's blobs to those of the parameters that its manifest says the blobs are made of."""
    graph = parse_manifest(manifest).weights
    return backward(forward(graph, params=weights), blob_gradients).params
