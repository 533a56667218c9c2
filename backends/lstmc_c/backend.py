"""The backend of plain C: its passes, its files, and running them on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

from lstmc.backend import Artifact, Compiled, Finding
from lstmc.errors import BackendError
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.ops import Array, Op
from lstmc.passes import CheckOps, Cse, Dead, Expand, FuseLinears, Pass, Simplify
from lstmc.process.status import gc_paused
from lstmc_c.artifact import LAYOUTS, Source, artifact
from lstmc_c.code import OPS
from lstmc_c.numbers import FLOAT32, Numbers, read_limits
from lstmc_c.runtime import SUFFIX, GccExecutor, findings, loaded_net


def _check(op: Op) -> None:
    if not isinstance(op, OPS):
        raise BackendError(f"{op.name} has no C code")


PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), Simplify(), Cse(), Dead()),
    *(CheckOps("C", _check), Expand(), Dead()),
)


@dataclass(frozen=True)
class CBackend(RunsFiles):
    """Writes one step of a net as a C file without a library, and runs it by gcc.

    ``numbers`` are those that it computes in. Weights are in the source, or in a file of their own.
    ``layout`` is one of the folders in ``LAYOUTS``.
    """

    numbers: Numbers = FLOAT32
    weights_in_file: bool = False
    layout: str = "files"
    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "plain C: one step as NAME.c and NAME.h, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {"c": "C99 without a library or a heap: microcontrollers, audio threads"}
    ops: ClassVar[tuple[type[Op], ...]] = OPS
    one_step: ClassVar[bool] = True
    options: ClassVar[Mapping[str, str]] = {
        "numbers": "float32, c-fp16-weights, c-int8-weights, c-a16w8 or c-a8w8 in integers, or FILE.toml; float32",
        "ranges": "for integers: the range of each value, a file that lstmc numbers ranges wrote",
        "layout": "files, or the folders of an arduino library or of an esp-idf component; files",
        "weights": "source, or file: NAME.bin, which is loaded as the program runs; source",
    }

    def with_options(self, values: Mapping[str, str]) -> CBackend:
        """Return the backend with other numbers, or weights elsewhere."""
        weights = values.get("weights", "file" if self.weights_in_file else "source")
        if weights not in ("source", "file"):
            raise BackendError(f"weights={weights}: expected source or file")
        limits = read_limits(values["ranges"]) if "ranges" in values else self.numbers.limits
        numbers = Numbers.of(values["numbers"], limits) if "numbers" in values else self.numbers
        layout = values.get("layout", self.layout)
        if layout not in LAYOUTS:
            raise BackendError(f"layout={layout}: expected {', '.join(LAYOUTS)}")
        return replace(self, numbers=numbers, weights_in_file=weights == "file", layout=layout)

    weights_suffix: ClassVar[str] = SUFFIX

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the list of passes."""
        return PASSES

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.c``, ``NAME.h`` and ``NAME.manifest.json``; if asked for, ``NAME.bin``."""
        with gc_paused():
            return artifact(Source(compiled, weights, self.numbers, self.weights_in_file), self.layout)

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        """Compile a net by gcc, and load it."""
        return loaded_net(files, gpu)

    def executors(self) -> Sequence[GccExecutor]:
        """This machine, by gcc."""
        return (GccExecutor(self.numbers),)

    def doctor(self) -> Iterator[Finding]:
        """Yield the finding on gcc."""
        return findings()
