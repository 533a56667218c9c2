"""Running a written net in ONNX Runtime from its files: what a session of the core needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc.session import LoadedOnce, NetFiles, StepSession, find_files, run_net
from lstmc.stored import AnyArray
from lstmc_onnx.packages import onnx, onnxruntime
from lstmc_onnx.run.file import SUFFIX, read_initializers, read_model

GPU = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Loaded:
    """A net in ONNX Runtime."""

    session: Any

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs."""
        return [put.name for put in self.session.get_outputs()]

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        """One forward pass; inputs that the net does not read are left out."""
        names = list(wanted)
        fed = {put.name: np.asarray(blobs[put.name], np.float32) for put in self.session.get_inputs()}
        found = self.session.run(names, fed) if names else ()  # without names it gives all
        return dict(zip(names, found, strict=True))


def load(net: Path | bytes, gpu: bool = False, threads: int = 0) -> Loaded:
    """A net from its file or its bytes, on this many threads (0: as many as ONNX Runtime thinks best).

    Raises :class:`BackendError` with what ONNX Runtime says of a net that it cannot load, and where it has no GPU.
    """
    runtime = onnxruntime()
    if gpu and GPU not in runtime.get_available_providers():
        raise BackendError(
            f"ONNX Runtime {runtime.__version__} is one for the CPU: expected one with {GPU}, as of onnxruntime-gpu"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone: they are raised
    try:
        session = runtime.InferenceSession(
            net if isinstance(net, bytes) else str(net), options, providers=[GPU if gpu else "CPUExecutionProvider"]
        )
    except Exception as error:  # its own, which have no common base
        raise BackendError(f"ONNX Runtime {runtime.__version__} cannot load the net: {error}") from None
    return Loaded(session)


@contextmanager
def _loaded(files: NetFiles, gpu: bool) -> Iterator[Loaded]:
    """The net; with the weights of another file where one is given."""
    if files.weights == files.net:
        yield load(files.net, gpu)
        return
    model = read_model(files.net)
    given = read_initializers(files.weights, files.manifest.blobs)
    for tensor in model.graph.initializer:
        if tensor.name in given:
            tensor.CopyFrom(onnx().numpy_helper.from_array(given[tensor.name], tensor.name))
    yield load(model.SerializeToString(), gpu)


def run_files(net: Path, inputs: Mapping[str, AnyArray], weights: Path | None, gpu: bool) -> dict[str, Array]:
    """One forward pass of ``NAME.onnx``. Raises as :func:`~lstmc.session.run_net`, and what ONNX Runtime says."""
    files = find_files(net, weights, SUFFIX)
    return run_net(files, lambda: _loaded(files, gpu), inputs)


def opened(net: Path, weights: Path | None, gpu: bool) -> LoadedOnce:
    """A net for many passes; it is loaded with the first pass."""
    files = find_files(net, weights, SUFFIX)
    return LoadedOnce(files, lambda: _loaded(files, gpu))


def step_session(net: Path, weights: Path | None, gpu: bool) -> StepSession:
    """A one-step net; it is loaded with the first step."""
    return StepSession(opened(net, weights, gpu))
