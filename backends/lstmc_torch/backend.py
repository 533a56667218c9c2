"""The PyTorch backend: what it offers to the compiler. It imports PyTorch when it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstmc.backend import Artifact, Compiled, Execution, Finding, RunArrays, Settings
from lstmc.backend.compiled import OpenSizes
from lstmc.data.request import Trained, TrainingRequest
from lstmc.errors import BackendError
from lstmc.files.format import text_templates
from lstmc.ir import Ref, Scan
from lstmc.loops.layer import GeneratedScan, GenerateLoops
from lstmc.ops import Array, Full, Input, Op
from lstmc.passes import Dead, Pass
from lstmc.pipeline import LOOP_PASSES
from lstmc.plugins import need
from lstmc.runs.solver import Solver, resolve_solver
from lstmc.text import plain
from lstmc.version import __version__
from lstmc.weights import parameters
from lstmc_torch.lowerings import LOWERINGS, TEXTS
from lstmc_torch.program import program_of

_TEMPLATES = text_templates("lstmc_torch", ".")


def _shape(sizes: OpenSizes, ref: Ref) -> str:
    return f"[{', '.join(map(str, sizes.shape(ref)))}]"


def _torch(module: str) -> Any:
    return need(module, "PyTorch", "torch", BackendError)


@dataclass(frozen=True)
class TorchExecutor:
    """PyTorch on the CPU: with ``native`` loops, or by the program as it is written, step by step."""

    name: str
    native: bool

    def unavailable(self) -> str | None:
        """Return why PyTorch cannot be used here, or None."""
        try:
            _torch("torch")
        except BackendError as error:
            return str(error)
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run forward and backward: the outputs, and the gradients of inputs and parameters."""
        execution: Execution = _torch("lstmc_torch.execution").run(compiled, artifact, arrays, self.native)
        return execution

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class TorchBackend:
    """Writes models as programs of PyTorch, and runs them there, their scans as generated loops."""

    name = "torch"
    summary = "PyTorch: a module in Python, and its weights"
    targets: Mapping[str, str] = {"torch": "PyTorch, for training and inference"}
    ops: tuple[type[Op], ...] = (Input, Full, Scan, GeneratedScan, *TEXTS, *LOWERINGS)

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the passes before a program is written."""
        return (*LOOP_PASSES, GenerateLoops(any_batch=True), Dead())

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        """Return T and N."""
        return ("T", "N")

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.py``, a module that needs PyTorch alone, and ``NAME.pt``, its weights."""
        graph, sizes = compiled.expanded, OpenSizes.from_graphs(compiled.expanded, compiled.resized)
        inputs = {node.name: _shape(sizes, Ref(node.name)) for node in graph if isinstance(node.op, Input)}
        outputs = {output.name: _shape(sizes, output.ref) for output in graph.outputs}
        text = _TEMPLATES.get_template("module.j2").render(
            name=compiled.name,
            source=plain(compiled.source),
            version=__version__,
            program=program_of(sizes).text,
            inputs=inputs,
            outputs=outputs,
            parameters=parameters(graph),
        )
        files = {
            f"{compiled.name}.py": text.encode(),
            f"{compiled.name}.pt": _torch("lstmc_torch.execution").saved(graph, weights),
        }
        return Artifact(files, sum(isinstance(node.op, Scan) for node in graph), inputs, outputs)

    def executors(self) -> Sequence[TorchExecutor]:
        """PyTorch on the CPU, with native loops and without."""
        return (TorchExecutor("torch-cpu", True), TorchExecutor("torch-steps", False))

    training_targets: Collection[str] = ("torch",)

    def settings(self, own: object | None, overrides: Sequence[str]) -> Solver:
        """Return a model's own :class:`Solver`, or one of defaults, with texts ``key=value`` put over it."""
        return resolve_solver(own, overrides)

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train in this process, by the updates of Caffe's solvers."""
        trained: Trained = _torch("lstmc_torch.trainer").train(compiled, weights, settings, run)
        return trained

    def build(self) -> str:
        """Return the PyTorch that trains."""
        return f"torch {_torch('torch').__version__}"

    def doctor(self) -> Iterator[Finding]:
        """Yield whether PyTorch is there."""
        reason = TorchExecutor("torch-cpu", True).unavailable()
        detail = reason or str(_torch("torch").__version__)
        yield Finding("torch", reason is None, detail, group="PyTorch")
