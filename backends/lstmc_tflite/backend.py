"""The TFLite backend: its targets, its files, and running them in LiteRT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from lstmc.backend import Artifact, Compiled, Finding
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.ops import Array, Full, Input, Op
from lstmc.passes import Pass
from lstmc.process.status import gc_paused
from lstmc_tflite.artifact import SUFFIX, artifact
from lstmc_tflite.lowerings import lowerings
from lstmc_tflite.passes import PASSES
from lstmc_tflite.runtime import MicroExecutor, TfliteExecutor, findings, loaded_net


@dataclass(frozen=True)
class TfliteBackend(RunsFiles):
    """Writes one step of a net as a .tflite file, states as inputs and outputs, and runs it in LiteRT."""

    name: ClassVar[str] = "tflite"
    summary: ClassVar[str] = "TFLite: one step as NAME.tflite, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {"tflite": "LiteRT on phones and computers"}
    ops: ClassVar[tuple[type[Op], ...]] = (Input, Full, *lowerings())
    one_step: ClassVar[bool] = True
    net_suffix: ClassVar[str] = SUFFIX
    weights_suffix: ClassVar[str] = SUFFIX

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the list of passes."""
        return PASSES

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.tflite`` and ``NAME.manifest.json``."""
        with gc_paused():
            return artifact(compiled, weights)

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        """Load a net in LiteRT."""
        return loaded_net(files, gpu)

    def executors(self) -> Sequence[TfliteExecutor]:
        """LiteRT, and TFLite Micro, on the CPU."""
        return (TfliteExecutor(), MicroExecutor())

    def doctor(self) -> Iterator[Finding]:
        """Yield the finding on LiteRT."""
        return findings()
