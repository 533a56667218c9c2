"""Running a written net in real Caffe from its files: what a session of the core needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lstmc.ops import Array
from lstmc.session import NetFiles, StepSession, find_files, run_net
from lstmc.stored import AnyArray
from lstmc_caffe.run.loaded_net import Net
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.write.caffemodel import SUFFIX, read_blobs


@dataclass(frozen=True)
class _InCaffe:
    net: Net

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        return self.net.run(blobs, want=wanted).blobs


@contextmanager
def _loaded(files: NetFiles, gpu: bool) -> Iterator[_InCaffe]:
    """The net in a worker of its own, its weights checked against the manifest before."""
    read_blobs(files.weights, files.manifest.blobs)
    with (
        Runner(for_gpu=gpu) as runner,
        runner.load(files.net, weights=files.weights, mode="gpu" if gpu else "cpu") as net,
    ):
        yield _InCaffe(net)


def run_files(prototxt: Path, inputs: Mapping[str, AnyArray], caffemodel: Path | None, gpu: bool) -> dict[str, Array]:
    """One forward pass of ``NAME.prototxt``. Raises as :func:`~lstmc.session.run_net`, and what Caffe says."""
    files = find_files(prototxt, caffemodel, SUFFIX)
    return run_net(files, lambda: _loaded(files, gpu), inputs)


def step_session(prototxt: Path, caffemodel: Path | None, gpu: bool) -> StepSession:
    """A one-step net; Caffe starts with the first step."""
    files = find_files(prototxt, caffemodel, SUFFIX)
    return StepSession(files, lambda: _loaded(files, gpu))
