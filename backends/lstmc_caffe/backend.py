"""The Caffe backend: what it offers to the compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lstmc.backend import Artifact, Compiled, Finding
from lstmc.ir import parse_graph
from lstmc.ops import Array, Op
from lstmc.passes import Cse, Dead, Expand, KeepTimeAxis, Pass, collector_paused
from lstmc.weights import unpack_weights
from lstmc_caffe.bound_fan import BoundFan
from lstmc_caffe.emit import WrittenNet, prototxt, write_net
from lstmc_caffe.executor import CaffeExecutor
from lstmc_caffe.in_place import overwritten
from lstmc_caffe.legalize import Legalize
from lstmc_caffe.locate import attempt_all, gpu_state
from lstmc_caffe.manifest import manifest, manifest_json, read_manifest, step_blobs
from lstmc_caffe.ops import CAFFE_OPS, ReshapeLayer
from lstmc_caffe.reroll_gates import RerollGates
from lstmc_caffe.reroll_layers import RerollLayers
from lstmc_caffe.runner import Runner
from lstmc_caffe.time_axis import CaffeTimeAxis
from lstmc_caffe.weights import caffemodel, read_blobs

INSTALL = "python -m lstmc_caffe.install"

GATES = RerollGates()
LEGAL_PASSES: Mapping[str, tuple[Pass, ...]] = {
    "caffe": (Legalize(), Cse(), Dead(), KeepTimeAxis(GATES.applies, ReshapeLayer), GATES, Cse(), Dead()),
    "caffe-native": (Legalize(), Cse(), Dead(), RerollLayers(), Cse(), Dead()),
}


def written_net(compiled: Compiled) -> WrittenNet:
    """The net of a compiled model, activations in place except on blobs that the manifest names."""
    return write_net(compiled.expanded, overwritten(compiled.expanded, step_blobs(compiled)))


class CaffeBackend:
    """Writes nets of stock BVLC Caffe 1.0 layers, and runs them in real Caffe."""

    name = "caffe"
    summary = "stock BVLC Caffe 1.0: prototxt, caffemodel and manifest"
    targets: Mapping[str, str] = {
        "caffe": "training and inference in Caffe, CPU and GPU",
        "caffe-native": "scans as Caffe's own LSTM and RNN layers, for readers of those; others are refused",
    }
    ops: tuple[type[Op], ...] = CAFFE_OPS

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Legalise and re-roll on the one-step bodies, then expand."""
        return (*LEGAL_PASSES[target], Expand(CaffeTimeAxis()), Dead(), BoundFan())

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.prototxt``, ``NAME.caffemodel`` and ``NAME.manifest.json``. Same input, same bytes."""
        with collector_paused():
            return self._artifact(compiled, weights)

    def _artifact(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        net = written_net(compiled)
        described = manifest(compiled, net)
        return Artifact(
            files={
                f"{compiled.name}.prototxt": prototxt(compiled, net).encode(),
                f"{compiled.name}.caffemodel": caffemodel(net, weights),
                f"{compiled.name}.manifest.json": manifest_json(described).encode(),
            },
            layers=sum(1 for _ in net.layers()),
            inputs={n: entry["blob"] for n, entry in described["inputs"].items() if not entry["filled"]},
            outputs={n: entry["blob"] for n, entry in described["outputs"].items()},
        )

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Parameters from a caffemodel, which need not be the one written: Caffe keeps the names of layers."""
        described = read_manifest(manifest)
        weights = parse_graph(described["weights"])
        found = unpack_weights(weights, read_blobs(trained, described["blobs"]))
        return found, [name for name in described["parameters"] if name not in found]

    def executors(self) -> Sequence[CaffeExecutor]:
        """Caffe on the CPU and on a GPU, in one worker process."""
        runner = Runner()
        return (CaffeExecutor(runner, "cpu"), CaffeExecutor(runner, "gpu"))

    def doctor(self) -> Iterator[Finding]:
        """Which Caffe there is, what was tried, and whether a GPU can be used."""
        location = None
        for attempt in attempt_all():
            location = location or attempt.location
            yield Finding(f"Caffe at {attempt.place}", attempt.location is not None, attempt.reason or "real Caffe")
            if location is not None:
                break
        if location is None:
            yield Finding("Caffe", False, "no Python here has real Caffe", INSTALL)
            return
        gpu = gpu_state(location)
        yield Finding("Caffe in use", True, f"{location.python} ({location.found_by})")
        yield Finding("caffe program", location.caffe_binary is not None, str(location.caffe_binary or "not known"))
        yield Finding("GPU", gpu.usable, gpu.reason or "usable")
