"""How long nets take in ONNX Runtime, measured side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from lstmc.backend import Artifact
from lstmc.interp import named_rng
from lstmc.manifest import InputPlace, parse_manifest
from lstmc.ops import Array
from lstmc.tune import processor
from lstmc_onnx.packages import onnxruntime
from lstmc_onnx.run.runtime import Loaded, load

SECONDS = 4.0  # for all nets together
LEAST, MOST = 5, 2000  # rounds


def artifact_seconds(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Seconds of a forward pass of each written net on one thread of the CPU: minima of passes that take turns."""
    nets = {}
    with ExitStack() as opened:
        for form, artifact in artifacts.items():
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="lstmc-")))
            for name, content in artifact.files.items():
                (folder / name).write_bytes(content)
            described = next(content for name, content in artifact.files.items() if name.endswith(".manifest.json"))
            inputs = parse_manifest(described).inputs
            fed = {b: part for n, e in inputs.items() for b, part in e.place.fed(_drawn(n, e))}
            nets[form] = load(folder / artifact.net, threads=1), fed
        return least_seconds(nets)


def least_seconds(nets: Mapping[str, tuple[Loaded, Mapping[str, Array]]]) -> dict[str, float]:
    """The least seconds of a pass of each net on these inputs."""
    found = dict.fromkeys(nets, float("inf"))
    rounds, end = 0, perf_counter() + SECONDS
    while rounds < LEAST or (rounds < MOST and perf_counter() < end):
        rounds += 1
        for form, (net, fed) in nets.items():
            began = perf_counter()
            net.forward(fed, net.outputs)
            found[form] = min(found[form], perf_counter() - began)
    return found


def build() -> str:
    """The ONNX Runtime that measures, and the processor that it runs on."""
    return f"onnxruntime {onnxruntime().__version__} {processor()}"


def _drawn(name: str, entry: InputPlace) -> Array:
    rng, shape = named_rng(0, name), entry.place.shape
    return rng.normal(size=shape) if entry.values is None else entry.values.draw(rng, shape)
