"""Run a written net in real Caffe: for the differential check, from its files as a session, and for timing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from lstmc.backend import Artifact, Compiled, Execution, Executor, RunArrays
from lstmc.errors import BackendError
from lstmc.interp import backward, forward
from lstmc.ir import Graph
from lstmc.loops.code import PREFIX, Source
from lstmc.manifest import Manifest, parse_manifest
from lstmc.nets.session import NetFiles
from lstmc.nets.tune import processor
from lstmc.ops import Array, Param
from lstmc.verification.differential import wanted_gradients
from lstmc.weights import parameters
from lstmc_caffe.ops import Scale
from lstmc_caffe.ops.inputs import host_values
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.runtime.locate import CaffeNotFound, locate
from lstmc_caffe.runtime.runner import Mode, Net, Phase, Runner
from lstmc_caffe.worker import TRAINING
from lstmc_caffe.write.artifact import SUFFIX, blobs_in_place, read_sources, stored_source
from lstmc_caffe.write.net import read_blobs

LOST = "Caffe's Scale overwrites it at each step"
OVERWRITTEN = "overwritten in place"
SECONDS = 4.0  # of measurements, for all nets together
MOST_ROUNDS = 200
# Layers of Caffe that read or write files that the net names; and a pattern that every text with such a layer matches,
# even if the text writes the layer's type with escapes or in pieces.
FILE_LAYERS = ("Data", "HDF5Data", "HDF5Output", "ImageData", "InfogainLoss", "Python", "WindowData")
_MAY_HAVE_ONE = re.compile(rb"Data|HDF5|Infogain|Python|\\|[\"']\s*[\"']")


class CaffeExecutor(Executor):
    """Caffe on the CPU (``caffe-cpu``) or on a GPU (``caffe-gpu``). Several may share one :class:`Runner`."""

    trains = True

    def __init__(self, runner: Runner, mode: Mode) -> None:
        self.runner = runner
        self.mode: Mode = mode
        self.name = f"caffe-{mode}"
        self.hardware = "GPU" if mode == "gpu" else ""

    def unavailable(self) -> str | None:
        """Return why this Caffe cannot be used, or None."""
        try:
            gpu = self.runner.gpu if self.mode == "gpu" else None
            location = self.runner.location
        except CaffeNotFound as error:
            return str(error)
        if gpu is not None and not gpu.usable:
            return f"{location.python}: {gpu.reason}" + (f"\nfix: {gpu.mend}" if gpu.mend else "")
        return None

    def emulation(self) -> str | None:
        """Return why only a request by name runs this (an emulated device slowly repeats the CPU's work), or None."""
        if self.mode == "gpu" and self.runner.gpu.emulated:
            return f"{self.runner.gpu.device}; only a request for {self.name} runs it"
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run one forward and backward pass of the artifact's own prototxt and caffemodel, every blob read back."""
        return self._run(compiled, artifact, arrays, "TEST")

    def run_training(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run the net in the phase TRAIN, in which Dropout draws masks."""
        return self._run(compiled, artifact, arrays, "TRAIN")

    def _run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays, phase: Phase) -> Execution:
        """Run a net with a probe for each output: an additional reader, at which a gradient can enter a blob that other
        layers read too. Gradients of two outputs that are one blob add up."""
        graph = compiled.expanded
        manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
        fed = arrays.fed(compiled.model)
        inputs = {name: fed[name] for name, entry in manifest.inputs.items() if not entry.filled}
        cotangents = dict[str, Array]()
        for name, cotangent in arrays.cotangents.items():
            for blob, part in manifest.outputs[name].fed(np.asarray(cotangent)) if name in manifest.outputs else ():
                cotangents[blob] = cotangents[blob] + part if blob in cotangents else part
        places = {name: entry.place for name, entry in manifest.inputs.items() if entry.in_net}
        wanted = [name for name in wanted_gradients(compiled, arrays.cotangents) if name in places]
        input_blobs = [blob for name in wanted for blob in places[name].names]
        for source in read_sources(artifact.files).values():
            self.runner.open_layers(source)
        prototxt, caffemodel = (artifact.files[f"{compiled.name}.{suffix}"] for suffix in ("prototxt", "caffemodel"))
        with self.runner.load(
            prototxt.decode(), weights=caffemodel, phase=phase, gradients=input_blobs, probes=cotangents, mode=self.mode
        ) as net:
            result = net.run(
                manifest.fed(inputs),
                want=net.blobs,
                backward=cotangents or None,  # without a gradient: no backward pass
                want_diffs=input_blobs if cotangents else (),
                want_param_diffs=bool(cotangents),
            )
        names = {name for node in graph for name in node.names}
        blobs = {name: array for name, array in result.blobs.items() if name in names}
        lost = parameters_that_lose_gradients(graph)
        gradients = backward(forward(manifest.weights, params=arrays.weights), result.param_diffs).params
        return Execution(
            values=inputs | blobs | host_values(graph, blobs),
            input_gradients={name: places[name].read(result.diffs) for name in wanted if cotangents},
            param_gradients={name: array for name, array in gradients.items() if name not in lost},
            absent={graph.value_name(ref): OVERWRITTEN for ref in blobs_in_place(compiled)},
            not_available=dict.fromkeys(lost, LOST),
            device=self.runner.gpu.device if self.mode == "gpu" else "",
            files=artifact.run_files,
            settings=tuple(written_settings(prototxt, manifest)),
        )

    def close(self) -> None:
        self.runner.close()


def parameters_that_lose_gradients(graph: Graph) -> list[str]:
    """Return the parameters that several layers share and whose gradient a Scale layer overwrites, not adds to: a Scale
    with no axis of several elements in x before the axes of its factor (``scale_layer.cpp``, Backward_cpu).
    Legalisation for targets that train avoids such a Scale; nets of other targets contain it."""
    readers = graph.readers()
    blobs = [
        graph.args(node.name)[1]
        for node in graph
        if isinstance(node.op, Scale) and node.op.learned and prod(node.types[0].shape[: node.op.axis]) == 1
    ]
    needed = graph.needed(ref for ref in dict.fromkeys(blobs) if readers[ref] > 1)
    return [node.name for node in graph if isinstance(node.op, Param) and node.name in needed]


def written_settings(prototxt: bytes, manifest: Manifest) -> Iterator[tuple[str, float]]:
    """Yield lr_mult and decay_mult of each parameter, as the text has them, once for each blob that contains it."""
    graph = manifest.weights
    blobs = {o.name: parameters(graph).keys() & graph.needed([o.ref]) for o in graph.outputs}
    for layer in net_from_text(prototxt.decode()).layer:
        for spec in layer.param:
            for name in blobs.get(spec.name, ()):
                yield f"lr_mult of {name}", spec.lr_mult
                yield f"decay_mult of {name}", spec.decay_mult


def artifact_seconds(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Return the least seconds of a forward and backward pass of each net on the CPU, by form. The nets take turns."""
    nets = {}
    for form, artifact in artifacts.items():
        (text,) = (content.decode() for name, content in artifact.files.items() if name.endswith(".prototxt"))
        (described,) = (content for name, content in artifact.files.items() if name.endswith(".manifest.json"))
        nets[form] = with_loss(text, parse_manifest(described).output_blobs)
    with Runner() as runner:
        for artifact in artifacts.values():
            for source in read_sources(artifact.files).values():
                runner.open_layers(source)
        return fastest_seconds(runner, nets)


def build() -> str:
    """Return the identity of the Caffe and of the processor for measurements."""
    location = locate()
    return f"{location.python} {location.pythonpath} {processor()}"


def with_loss(text: str, outputs: list[str]) -> str:
    """Return the net with a loss for each output, so that Caffe runs the backward pass."""
    layer = 'layer {{ name: "clock/{0}" type: "Power" bottom: "{1}" top: "clock/{0}" loss_weight: 1 }}'
    return "\n".join([text, *(layer.format(i, blob) for i, blob in enumerate(outputs)), ""])


def fastest_seconds(runner: Runner, nets: Mapping[str, str], mode: Mode = "cpu") -> dict[str, float]:
    """Return the least seconds of a forward and backward pass of each prototxt, by name, in ``runner``'s worker. Raises
    BackendError for an emulated device, whose times say nothing about a GPU's."""
    if mode == "gpu" and runner.gpu.emulated:
        raise BackendError(f"expected a GPU to time nets on, found {runner.gpu.device}")
    args = {"mode": mode, "nets": dict(nets), "rounds": MOST_ROUNDS, "seconds": SECONDS}
    return dict(runner.call(TRAINING, "nets_seconds", args, timeout=600).value)


@contextmanager
def loaded_net(files: NetFiles, gpu: bool) -> Iterator[Net]:
    """Load a net in a worker of its own, after its weights are checked against the manifest."""
    _check_layers(files.net)
    read_blobs(files.weights, files.manifest.blobs)
    with Runner(for_gpu=gpu) as runner:
        runner.open_layers(_layers_source(files.net))
        with runner.load(files.net, weights=files.weights, mode="gpu" if gpu else "cpu") as net:
            yield net


def _layers_source(path: Path) -> Source | None:
    """Return the source of a net's generated layers, from the file beside the net; None without such layers."""
    if f'"{PREFIX}'.encode() not in path.read_bytes():
        return None
    beside = path.with_name(path.name.removesuffix(".prototxt") + SUFFIX)
    if not beside.exists():
        raise BackendError(f"{path} has generated layers: expected their source in {beside}, found no such file")
    return stored_source(beside)


def _check_layers(path: Path) -> None:
    """Raise BackendError for a net that would read or write other files: no net that lstmc wrote and runs does so."""
    text = path.read_bytes()
    if _MAY_HAVE_ONE.search(text) is None:
        return
    for layer in net_from_text(text.decode(errors="replace")).layer:
        if layer.type in FILE_LAYERS:
            raise BackendError(
                f"{path}: layer {layer.name} is of type {layer.type}, which reads or writes files: expected a net that"
                " takes its inputs and gives its outputs as arrays"
            )
