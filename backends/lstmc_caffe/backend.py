"""The Caffe backend: its class, which forwards each capability to the module that has it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from lstmc.backend import Artifact, Compiled, Finding, Layer, LintReport, Settings
from lstmc.data.request import Trained, TrainingData, TrainingRequest
from lstmc.files.output import Content
from lstmc.ir import Graph
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.numerics import products_of
from lstmc.ops import Array, Op
from lstmc.passes import Pass
from lstmc.runs.solver import Solver, resolve_solver
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS
from lstmc_caffe.pipelines import forms_of, passes_of
from lstmc_caffe.readers.executor import ReaderExecutor, reader_findings, reader_python
from lstmc_caffe.readers.known import load_reader, reader_names
from lstmc_caffe.runtime.executor import CaffeExecutor, artifact_seconds, build, loaded_net
from lstmc_caffe.runtime.locate import findings, libraries
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import lint_file
from lstmc_caffe.targets.load import Summaries, load_target, target_faults
from lstmc_caffe.targets.shapes import listed_layers
from lstmc_caffe.train.net import CaffeRanks, train, training_files
from lstmc_caffe.write.artifact import artifact, layers_text
from lstmc_caffe.write.net import MOST_BYTES, WEIGHTS_SUFFIX, read_weights
from lstmc_caffe.write.stream import stream_program


class CaffeBackend(RunsFiles):
    """Writes nets of stock BVLC Caffe 1.0 layers, and runs and trains them in real Caffe.

    ``products`` are the numbers that generated layers multiply.
    """

    name = "caffe"
    summary = "stock BVLC Caffe 1.0: prototxt, caffemodel and manifest"
    targets: Mapping[str, str] = Summaries()
    ops: tuple[type[Op], ...] = (*CAFFE_OPS, *HOST_OPS, FusedScan)
    most_weights = MOST_BYTES // 4
    options: Mapping[str, str] = {
        "numbers": "of products in generated layers: float32, cpu-bf16, cpu-int8 or FILE.toml; float32",
    }

    def __init__(self, products: ProductNumbers = FLOAT32) -> None:
        self.products = products

    def with_options(self, values: Mapping[str, str]) -> CaffeBackend:
        """Return the backend with other numbers in generated layers."""
        return CaffeBackend(products_of(values["numbers"])) if "numbers" in values else self

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the target's list, as ``pipelines.py`` writes it out."""
        return passes_of(target, self.products)

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.prototxt``, ``NAME.caffemodel`` and ``NAME.manifest.json``. Same input, same bytes."""
        return artifact(compiled, weights)

    def explain(self, graph: Graph) -> str:
        """Return the plans of generated layers."""
        return layers_text(graph)

    def built(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """``NAME.layers.so`` of ``NAME.layers.cpp``, for the Caffe that is used."""
        return libraries(files)

    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        """``NAME_stream.py`` or ``NAME_stream.cpp``, for the program that the target's file names."""
        return stream_program(compiled, artifact, language)

    def layer_cost(self, target: str) -> float | None:
        """Return the cost in the target's file."""
        return load_target(target).layer_cost

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """Return the forms of targets with LSTMUnit: with and without LSTMUnit, gates packed or apart, products hoisted
        or not.
        """
        return forms_of(load_target(target))

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Return minimum times, measured in turns in one worker on the CPU."""
        return artifact_seconds(artifacts)

    def build(self) -> str:
        """Return the Caffe that is used, and the processor it runs on."""
        return build()

    def lint(self, net: Path, target: str) -> LintReport:
        """Check a prototxt against ``targets/TARGET.toml``."""
        return lint_file(net, load_target(target))

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        """Return every layer of a prototxt, with the shapes of its tops."""
        return listed_layers(net)

    weights_suffix: ClassVar[str] = WEIGHTS_SUFFIX

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Parameters from a caffemodel, which need not be the one written: Caffe keeps the names of layers."""
        return read_weights(trained, manifest)

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        """Load a net in real Caffe."""
        return loaded_net(files, gpu)

    def executors(self) -> Sequence[CaffeExecutor]:
        """Caffe on the CPU and on a GPU, each in its own worker process: they are different builds."""
        return (CaffeExecutor(Runner(), "cpu"), CaffeExecutor(Runner(for_gpu=True), "gpu"))

    @property
    def readers(self) -> Collection[str]:
        """The programs of the entry-point group ``lstmc_caffe.readers``."""
        return reader_names()

    def reader(self, name: str) -> ReaderExecutor:
        """Return one of them, in processes of its own that start with its first net."""
        return ReaderExecutor(load_reader(name))

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        """Return the Python in which a reader's nets run."""
        return reader_python(load_reader(reader))

    training_targets: Collection[str] = Summaries(trained=True)

    def settings(self, solver: object, overrides: Sequence[str] = ()) -> Solver:
        """Return a model's own :class:`Solver`, or one of defaults, with texts ``key=value`` put over it."""
        return resolve_solver(solver, overrides)

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """``NAME.train.prototxt``, ``NAME.solver.prototxt``, a manifest for the weights that they train, and HDF5."""
        assert isinstance(settings, Solver)
        return training_files(compiled, settings, data)

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train by Caffe's own solver, in a worker process; ``trainer.py`` documents the snapshots and how a run is
        resumed.
        """
        assert isinstance(settings, Solver)
        with Runner(for_gpu=run.gpu) as runner:
            return train(runner, compiled, weights, settings, run)

    def ranks(self, count: int | None, gpu: bool) -> CaffeRanks:
        """Processes with Caffe's own solver in each; gradients are added up by MPI before each update."""
        return CaffeRanks(count, gpu)

    def doctor(self) -> Iterator[Finding]:
        """Yield findings on Caffe, its candidates and its GPU, on other runtimes, rules and targets."""
        yield from findings()
        yield from reader_findings()
        yield from (Finding(f"rules {name}", False, fault, faulty=True) for name, fault in rules().faults.items())
        yield from (Finding(f"target {name}", False, fault, faulty=True) for name, fault in target_faults())
