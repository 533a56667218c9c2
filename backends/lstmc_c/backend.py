"""The backend of plain C: its passes, its files, and running them on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from lstmc.backend import Artifact, Compiled, Finding
from lstmc.errors import BackendError
from lstmc.ir import Graph, Scan, Stage
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.ops import Arg, Array, Op
from lstmc.passes import Cse, Dead, Expand, FuseLinears, Pass, PassResult, Simplify
from lstmc.process.status import gc_paused
from lstmc_c.artifact import artifact
from lstmc_c.code import OPS
from lstmc_c.runtime import SUFFIX, GccExecutor, findings, loaded_net


@dataclass(frozen=True)
class CheckOps(Pass):
    """Refuse what cannot be written in C: a loss or a score, and an op without C code."""

    name = "check_ops"
    after = Stage.LEGAL

    def requires(self, graph: Graph) -> None:
        for node in graph:
            if isinstance(node.op, Scan):
                for body in node.op.bodies:
                    self.requires(body)
            elif node.op.for_training:
                raise BackendError(
                    f"{node.op.name} is for training, and C nets are not trained: expected the model as it is deployed,"
                    " without losses and scores",
                    loc=node.loc,
                )
            elif not isinstance(node.op, (*OPS, Arg)):
                raise BackendError(f"{node.op.name} has no C code", loc=node.loc)

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph, False)


PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), Simplify(), Cse(), Dead()),
    *(CheckOps(), Expand(), Dead()),
)


@dataclass(frozen=True)
class CBackend(RunsFiles):
    """Writes one step of a net as a C file without a library, and runs it by gcc."""

    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "plain C: one step as NAME.c and NAME.h, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {"c": "C99 without a library or a heap: microcontrollers, audio threads"}
    ops: ClassVar[tuple[type[Op], ...]] = OPS
    one_step: ClassVar[bool] = True
    weights_suffix: ClassVar[str] = SUFFIX

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the list of passes."""
        return PASSES

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.c``, ``NAME.h`` and ``NAME.manifest.json``."""
        with gc_paused():
            return artifact(compiled, weights)

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        """Compile a net by gcc, and load it."""
        return loaded_net(files, gpu)

    def executors(self) -> Sequence[GccExecutor]:
        """This machine, by gcc."""
        return (GccExecutor(),)

    def doctor(self) -> Iterator[Finding]:
        """Yield the finding on gcc."""
        return findings()
