"""Running a written net in real Caffe from its files: what a session of the core needs of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc.nets.session import LoadedOnce, NetFiles, StepSession, find_files, run_net
from lstmc.stored import AnyArray
from lstmc_caffe.fused.code import PREFIX, Source
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.run.loaded_net import Net
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.write import caffemodel
from lstmc_caffe.write.generated import SUFFIX, stored_source

# Layers of Caffe that read or write files that the net names; and what a text must have to have one, as it could be
# written with escapes or in pieces.
FILE_LAYERS = ("Data", "HDF5Data", "HDF5Output", "ImageData", "InfogainLoss", "Python", "WindowData")
_MAY_HAVE_ONE = re.compile(rb"Data|HDF5|Infogain|Python|\\|[\"']\s*[\"']")


@dataclass(frozen=True)
class _InCaffe:
    net: Net

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        return self.net.run(blobs, want=wanted).blobs


@contextmanager
def _loaded(files: NetFiles, gpu: bool) -> Iterator[_InCaffe]:
    """The net in a worker of its own, its weights checked against the manifest before."""
    _check_layers(files.net)
    caffemodel.read_blobs(files.weights, files.manifest.blobs)
    source = _layers_source(files.net)
    with Runner(for_gpu=gpu) as runner:
        runner.open_layers(source)
        with runner.load(files.net, weights=files.weights, mode="gpu" if gpu else "cpu") as net:
            yield _InCaffe(net)


def _layers_source(path: Path) -> Source | None:
    """The source of a net's generated layers, which stands beside it; None where it has none."""
    if f'"{PREFIX}'.encode() not in path.read_bytes():
        return None
    beside = path.with_name(path.name.removesuffix(".prototxt") + SUFFIX)
    if not beside.exists():
        raise BackendError(f"{path} has generated layers: expected their source in {beside}, found no such file")
    return stored_source(beside)


def _check_layers(path: Path) -> None:
    """Raise :class:`BackendError` for a net that would read or write other files: lstmc writes none such to be run."""
    text = path.read_bytes()
    if _MAY_HAVE_ONE.search(text) is None:
        return
    for layer in net_from_text(text.decode(errors="replace")).layer:
        if layer.type in FILE_LAYERS:
            raise BackendError(
                f"{path}: layer {layer.name} is of type {layer.type}, which reads or writes files: expected a net that"
                " takes its inputs and gives its outputs as arrays"
            )


def run_files(prototxt: Path, inputs: Mapping[str, AnyArray], weights: Path | None, gpu: bool) -> dict[str, Array]:
    """One forward pass of ``NAME.prototxt``. Raises as :func:`~lstmc.nets.session.run_net`, and what Caffe says."""
    files = find_files(prototxt, weights, caffemodel.SUFFIX)
    return run_net(files, lambda: _loaded(files, gpu), inputs)


def opened(prototxt: Path, weights: Path | None, gpu: bool) -> LoadedOnce:
    """A net for many passes; Caffe starts with the first pass."""
    files = find_files(prototxt, weights, caffemodel.SUFFIX)
    return LoadedOnce(files, lambda: _loaded(files, gpu))


def step_session(prototxt: Path, weights: Path | None, gpu: bool) -> StepSession:
    """A one-step net; Caffe starts with the first step."""
    return StepSession(opened(prototxt, weights, gpu))
