"""How long nets take in real Caffe, measured side by side in one worker (``worker/timing.py``)."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.backend import Artifact
from lstmc.errors import BackendError
from lstmc.manifest import parse_manifest
from lstmc.nets.tune import processor
from lstmc_caffe.run.locate import locate
from lstmc_caffe.run.runner import Mode, Runner
from lstmc_caffe.worker import TIMING
from lstmc_caffe.write.generated import read_sources

SECONDS = 4.0  # for all nets together
MOST_ROUNDS = 200


def artifact_seconds(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Seconds of a forward and backward pass of each written net on the CPU: minima of passes that take turns."""
    nets = {}
    for form, artifact in artifacts.items():
        (text,) = (content.decode() for name, content in artifact.files.items() if name.endswith(".prototxt"))
        (described,) = (content for name, content in artifact.files.items() if name.endswith(".manifest.json"))
        nets[form] = with_loss(text, parse_manifest(described).output_blobs)
    sources = [source for a in artifacts.values() for source in read_sources(a.files).values()]
    with Runner() as runner:
        for source in sources:
            runner.open_layers(source)
        return measured(runner, nets)


def build() -> str:
    """The Caffe that measures, and the processor that it runs on."""
    location = locate()
    return f"{location.python} {location.pythonpath} {processor()}"


def with_loss(text: str, outputs: list[str]) -> str:
    """The net with a layer that makes a loss of each output, so that Caffe goes backward."""
    layers = [
        f'layer {{ name: "clock/{i}" type: "Power" bottom: "{blob}" top: "clock/{i}" loss_weight: 1 }}'
        for i, blob in enumerate(outputs)
    ]
    return "\n".join([text, *layers, ""])


def measured(runner: Runner, nets: Mapping[str, str], mode: Mode = "cpu") -> dict[str, float]:
    """The least seconds of a forward and backward pass of each prototxt, by name, in ``runner``'s worker.

    Raises :class:`BackendError` for an emulated device, whose times say nothing about a GPU's.
    """
    if mode == "gpu" and runner.gpu.emulated:
        raise BackendError(f"expected a GPU to time nets on, found {runner.gpu.device}")
    args = {"mode": mode, "nets": dict(nets), "rounds": MOST_ROUNDS, "seconds": SECONDS}
    return dict(runner.call(TIMING, "nets_seconds", args, timeout=600).value)
