"""The PyTorch backend: its class and its executor. PyTorch is imported when it is first needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from lstmc.backend import Artifact, Compiled, Execution, Executor, Finding, Parts, Ranks, RunArrays, Settings
from lstmc.backend.compiled import Trained, TrainingRequest, open_shape
from lstmc.errors import BackendError
from lstmc.files.templates import text_templates
from lstmc.ir import Ref, Scan, weight_graph
from lstmc.loops.layer import GeneratedScan, GenerateLoops
from lstmc.loops.memory import header
from lstmc.loops.native import FLAGS, PROGRAM
from lstmc.manifest import describe_tensors
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.ops import Array, Full, Input, Op
from lstmc.passes import Dead, Pass
from lstmc.pipeline import LOOP_PASSES
from lstmc.plugins import need, problem_with
from lstmc.runs.solver import resolve_solver
from lstmc.text import quoted
from lstmc.types import TensorType
from lstmc.version import __version__
from lstmc.weights import parameters
from lstmc_torch.program import LOWERINGS, TEXTS, program_of

NET, SUFFIX, LAYERS = "_torch.py", ".pt", ".layers.cpp"  # NAME.py may be the model's own file
_TEMPLATES = text_templates("lstmc_torch", ".")
_TEMPLATES.filters["quoted"] = quoted
# the part of autograd.py in a written program with native code: all but its docstring
NATIVE = files("lstmc_torch").joinpath("autograd.py").read_text(encoding="utf-8").partition("\n\n")[2].rstrip()


def _shape(type_: TensorType) -> str:
    return f"[{', '.join(map(str, open_shape(type_)))}]"


def _torch(module: str) -> Any:
    return need(module, "PyTorch", "torch", BackendError)


Form = Literal["module", "built", "steps"]


def build_path() -> str:
    """Return a PATH that also has the programs beside this Python, such as ninja, to build a written module."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")))


@dataclass(frozen=True)
class TorchExecutor(Executor):
    """PyTorch on the CPU: a module with native loops, or the written files with or without their build()."""

    name: str
    form: Form

    def unavailable(self) -> str | None:
        if problem := problem_with(lambda: _torch("torch")):
            return problem
        needed = (PROGRAM, "ninja") if self.form == "built" else ()
        missing = [program for program in needed if shutil.which(program, path=build_path()) is None]
        return f"build() of a written module needs {' and '.join(missing)}" if missing else None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        execution: Execution = _torch("lstmc_torch.modules").execute(compiled, artifact, arrays, self.form)
        return execution


class TorchBackend(RunsFiles):
    """Writes models as programs of PyTorch, and runs them there, their scans as generated loops."""

    name = "torch"
    summary = "PyTorch: a module in Python, and its weights"
    targets: ClassVar[Mapping[str, str]] = {"torch": "PyTorch, for training and inference"}
    ops: ClassVar[tuple[type[Op], ...]] = (Input, Full, Scan, GeneratedScan, *TEXTS, *LOWERINGS)

    def passes(self, target: str) -> tuple[Pass, ...]:
        return (*LOOP_PASSES, GenerateLoops(any_batch=True), Dead())

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        return ("T", "N")

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """Return ``NAME_torch.py``, which needs only PyTorch; its weights; the C++ of its scans; and a manifest."""
        graph, program = compiled.written(program_of)
        inputs = {node.name: _shape(node.types[0]) for node in graph if isinstance(node.op, Input)}
        outputs = {output.name: _shape(graph.type(output.ref)) for output in graph.outputs}
        stem = f"{compiled.name}{NET.removesuffix('.py')}"
        # the namespace of the operators, which all models in a process share: its name depends on the content
        library = program.cpp and f"lstmc_{hashlib.sha256(program.cpp.encode()).hexdigest()[:16]}"
        text = _TEMPLATES.get_template("module.j2").render(
            name=compiled.name, stem=stem, library=library,
            flags=["-DLSTMC_TORCH", *(flag for flag in FLAGS if not flag.startswith("-std")), "-fvisibility=hidden"],
            linked=["-fopenmp", "-Wl,-Bsymbolic"], source=quoted(compiled.source, "comment"), version=__version__,
            program=program.text, native=NATIVE, inputs=inputs, outputs=outputs, parameters=parameters(graph),
        )  # fmt: skip
        written = {f"{stem}.py": text.encode(), f"{stem}{SUFFIX}": _torch("lstmc_torch.modules").saved(graph, weights)}
        if library:
            operator = _TEMPLATES.get_template("operator.cpp.j2").render(
                library=library, layers=program.cpp, native=header("native.cpp")
            )
            written[f"{stem}{LAYERS}"] = operator.encode()
        stored = weight_graph(compiled.expanded, [Ref(name) for name in parameters(compiled.expanded)])
        fed, read = ({name: name for name in names} for names in (inputs, outputs))  # tensors have the model's names
        manifest = describe_tensors(compiled, weights, fed, read, stored, graph)
        written[f"{stem}.manifest.json"] = manifest.text().encode()
        return Artifact(written, sum(isinstance(node.op, Scan) for node in graph), inputs, outputs)

    def executors(self) -> Sequence[TorchExecutor]:
        forms: Mapping[str, Form] = {"torch-cpu": "module", "torch-built": "built", "torch-steps": "steps"}
        return tuple(TorchExecutor(name, form) for name, form in forms.items())

    def parts(self, file: str, content: bytes) -> Parts | None:
        return _torch("lstmc_torch.modules").weight_parts(content) if file.endswith(SUFFIX) else None

    net_suffix: ClassVar[str] = NET
    weights_suffix: ClassVar[str] = SUFFIX

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        weights: tuple[dict[str, Array], list[str]] = _torch("lstmc_torch.modules").read_weights(trained, manifest)
        return weights

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        net: LoadedNet = _torch("lstmc_torch.modules").LoadedModule(files, gpu)
        return nullcontext(net)

    training_targets: ClassVar[Collection[str]] = ("torch",)

    settings = staticmethod(resolve_solver)

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        trained: Trained = _torch("lstmc_torch.trainer").train(compiled, weights, settings, run)
        return trained

    def ranks(self, count: int | None, gpu: bool) -> Ranks:
        ranks: Ranks = _torch("lstmc_torch.ranks").TorchRanks(count)
        return ranks

    def build(self) -> str:
        return f"torch {_torch('torch').__version__}"

    def doctor(self) -> Iterator[Finding]:
        yield Finding.of("torch", lambda: _torch("torch"), lambda torch: str(torch.__version__), "PyTorch")
