"""The Caffe backend: its lists of passes, and its class, which forwards to the module of each capability.

Passes of stage MODEL rewrite all steps at once, on core ops; those of LEGAL turn core ops into layers, then layers that
the target allows; those of EXPANDED write every step's layers. A target's file chooses the list: this module names no
target.

A form is another net that computes the same for one target; ``lstmc compile --tune`` measures which is fastest.
``unit``: LSTMUnit wherever there is a gate tail, which is the default. ``packed``: no LSTMUnit; one Sigmoid over
neighbouring gates. ``separate``: a layer for each gate. ``...-in-loop``: products with the inputs step by step, not all
at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from lstmc import passes
from lstmc.backend import Artifact, Compiled, Finding, LintReport, Settings
from lstmc.backend.compiled import Trained, TrainingData, TrainingRequest
from lstmc.errors import BackendError
from lstmc.files.output import Content
from lstmc.loops.layer import RoundProducts
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.nets.session import LoadedNet, NetFiles, RunsFiles
from lstmc.numerics import device
from lstmc.ops import Array, Op, Price
from lstmc.passes import Pass, PassList
from lstmc.pipeline import LOOP_PASSES
from lstmc.runs import solver
from lstmc_caffe.legalize.blobs import reshape_once
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.legalize.legalize import legalization
from lstmc_caffe.legalize.lstm_unit import find_lstm_unit, has_lstm_unit
from lstmc_caffe.legalize.native import FindNativeLayers
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.legalize.unroll import CaffeTimeAxis, LimitFan
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS, Convolution, ReshapeLayer
from lstmc_caffe.readers import executor as reader_executor
from lstmc_caffe.readers import known
from lstmc_caffe.rows.constants import Constants, FoldedConstants
from lstmc_caffe.rows.layout import FixedBlobs
from lstmc_caffe.rows.matrix_rows import OneRow, RowsTimeAxis
from lstmc_caffe.rows.narrow import Narrow, RenameBlobs, embed_products, half_steps
from lstmc_caffe.rows.views import SettleViews, fit_readers
from lstmc_caffe.runtime import executor, locate, runner
from lstmc_caffe.targets.lint import lint_file, lint_op, listed_layers
from lstmc_caffe.targets.target import Summaries, Target, load_target, target_faults
from lstmc_caffe.train import net as training
from lstmc_caffe.write import program
from lstmc_caffe.write.artifact import SUFFIX, artifact, layers_text
from lstmc_caffe.write.net import MOST_BYTES, WEIGHTS_SUFFIX, lint_copies, parts, read_weights

Passes = tuple[Pass, ...]
TIDY: Passes = (passes.Simplify(), passes.Cse(), passes.Dead())  # simpler nodes, equal ones once, no unread ones
Gates = Literal["unit", "packed", "separate"]


def _layers(target: Target, gates: Gates, hoisted: bool = True, native: bool = False) -> Passes:
    """Return the passes that write layers for every step; with ``native``, first Caffe's own LSTM and RNN layers."""
    keep_axis = passes.KeepTimeAxis(has_lstm_unit, ReshapeLayer)
    return (
        *(*TIDY, passes.fuse_linears),
        *(() if gates == "separate" else (passes.fuse_horizontal,)),
        *((passes.Hoist(), passes.Sink()) if hoisted else (passes.Sink(),)),
        *(*TIDY, passes.peel),
        *(*legalization(target.trained), passes.Cse(), reshape_once, passes.Dead()),
        *((FindNativeLayers(), passes.Cse(), passes.Dead()) if native else ()),
        *((keep_axis, find_lstm_unit, passes.Cse(), passes.Dead()) if gates == "unit" else ()),
        *(Narrow(target), passes.Cse(), passes.Dead()),
        *(passes.Expand(CaffeTimeAxis()), passes.Dead(), LimitFan(), Constants(target)),
    )


def _of_parameters(target: Target) -> Passes:
    """Return the passes that turn functions of parameters into weights: none for a target whose nets are trained."""
    if target.trained:
        return ()
    if not target.allows("Convolution"):
        return (passes.fold_convs, passes.ConvProducts(), passes.Precompute())
    unequal = lint_op(Convolution(dilation=(1, 2), kernel=(2, 2)), [], [], target)
    return (passes.fold_convs, *((passes.spread_kernels,) if unequal else ()), passes.Precompute())


def _decompositions(target: Target) -> Passes:
    """Return the passes that replace Embed, if the target lacks it, and in float16 large factors of step functions."""
    embed: Passes = () if target.allows("Embed") else (embed_products,)
    return (*embed, half_steps) if target.float16 else embed


def _rows(target: Target) -> Passes:
    """Return the passes for targets whose blobs are matrices, [T, N, D] as [T*N, D]."""
    return (
        *(*TIDY, *_of_parameters(target)),
        *(passes.fuse_linears, passes.fuse_horizontal, passes.Hoist(), passes.Sink()),
        *(*_decompositions(target), *TIDY, passes.peel),
        *_matrices(target),
    )


def _rows_of_steps(target: Target) -> Passes:
    """Return the passes for matrices without Slice: gates and weights are not packed, steps are not joined."""
    return (
        *(*_decompositions(target), *TIDY),
        *(*_of_parameters(target), passes.roll_in, passes.split_products, passes.fixed_products),
        *(*TIDY, passes.peel),
        *_matrices(target),
    )


def _matrices(target: Target) -> Passes:
    """Return the last passes of a target whose blobs are matrices: they write layers that the readers accept."""
    rows, dead = target.before_one_row, (passes.Dead(),) if target.one_row or target.time == "steps" else ()
    return (
        *(*legalization(target.trained), Narrow(rows), passes.Cse(), passes.Expand(RowsTimeAxis(rows)), passes.Dead()),
        *((fit_readers, passes.Dead()) if target.time == "steps" else ()),
        *(SettleViews(rows, first=True), Constants(rows)),
        *((OneRow(target),) if target.one_row else ()),
        *(passes.Cse(), *dead, SettleViews(target), *dead),
        FixedBlobs(target),
        *((FoldedConstants(target),) if target.folds_constants else ()),
        *(() if target.names == "model" else (RenameBlobs(target),)),
    )


def passes_of(name: str, products: ProductNumbers = FLOAT32) -> Passes:
    """Return a target's list of passes; raise BackendError for fields that do not go together. Linear recurrences take
    the cheapest form if the target's file has a price. ``products`` are the formats of products in generated layers."""
    target = load_target(name)
    listed = _passes(target)
    if products != FLOAT32 and target.scans != "fused":
        expected = f"expected a target with these, as caffe-fused, found {target.name}"
        raise BackendError(f"numbers: products in {products.format} are of generated layers: {expected}")
    if products != FLOAT32:
        listed = (*listed, RoundProducts(products))
    if target.price is None:
        return listed
    return tuple(passes.with_time(PassList(listed), "auto", target.trained, target.price))


@cache
def _passes(target: Target) -> Passes:
    match (target.layout, target.time, target.scans):
        case ("blobs", "slice", "unrolled"):
            return _layers(target, "unit" if target.allows("LSTMUnit") else "packed")
        case ("blobs", "slice", "layers"):
            return _layers(target, "packed", native=True)
        case ("blobs", "slice", "fused"):
            return (*LOOP_PASSES, *legalization(target.trained, fused=True), passes.Cse())
        case ("rows", "slice", "unrolled"):
            return _rows(target)
        case ("rows", "steps", "unrolled"):
            return _rows_of_steps(target)
        case (layout, time, scans):
            raise BackendError(
                f"target {target.name} has layout {layout}, time {time} and scans {scans}, which do not go together:"
                " expected blobs with slice, or rows with slice or steps; scans as layers or fused with blobs and slice"
            )


@cache
def forms_of(target: Target) -> Mapping[str, Passes]:
    """Return the passes of each form of a target, by the form's name. Only targets with LSTMUnit have forms."""
    if target.layout == "rows" or target.scans != "unrolled" or not target.allows("LSTMUnit"):
        return {}
    gates: tuple[Gates, ...] = ("unit", "packed", "separate")
    return {name + end: _layers(target, name, hoisted=not end) for end in ("", "-in-loop") for name in gates}


class CaffeBackend(RunsFiles):
    """Writes nets of stock BVLC Caffe 1.0 layers; runs, trains them in real Caffe. ``products``: see ``passes_of``."""

    name = "caffe"
    summary = "stock BVLC Caffe 1.0: prototxt, caffemodel and manifest"
    targets: ClassVar[Mapping[str, str]] = Summaries()
    ops: ClassVar[tuple[type[Op], ...]] = (*CAFFE_OPS, *HOST_OPS, FusedScan)
    most_weights = MOST_BYTES // 4
    options: ClassVar[Mapping[str, str]] = {
        "numbers": "of products in generated layers: float32, cpu-bf16, cpu-int8 or FILE.toml; float32"
    }

    def __init__(self, products: ProductNumbers = FLOAT32) -> None:
        self.products = products

    def with_options(self, values: Mapping[str, str]) -> CaffeBackend:
        return CaffeBackend(device.products_of(values["numbers"])) if "numbers" in values else self

    def passes(self, target: str) -> tuple[Pass, ...]:
        return passes_of(target, self.products)

    emit = staticmethod(artifact)
    explain = staticmethod(layers_text)
    layers = staticmethod(listed_layers)
    parts = staticmethod(parts)
    read_weights = staticmethod(read_weights)
    net_suffix: ClassVar[str] = ".prototxt"
    weights_suffix: ClassVar[str] = WEIGHTS_SUFFIX
    training_targets: ClassVar[Collection[str]] = Summaries(trained=True)

    # methods, because a compilation does not load the modules that these need
    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        return program.stream_program(compiled, artifact, language)

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        return executor.artifact_seconds(artifacts)

    def build(self) -> str:
        return executor.build()

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        return executor.loaded_net(files, gpu)

    def settings(self, own: object | None, overrides: Sequence[str]) -> solver.Solver:
        return solver.resolve_solver(own, overrides)

    def ranks(self, count: int | None, gpu: bool) -> training.CaffeRanks:
        return training.CaffeRanks(count, gpu)

    def price(self, target: str) -> Price | None:
        return load_target(target).price

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        return forms_of(load_target(target))

    def built(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return locate.libraries(files) if any(name.endswith(SUFFIX) for name in files) else {}

    def lint(self, net: Path, target: str) -> LintReport:
        """Check a prototxt against a target, and copies of parameters in the caffemodel beside it."""
        report = lint_file(net, load_target(target))
        return replace(report, violations=(*report.violations, *lint_copies(net)))

    def executors(self) -> Sequence[executor.CaffeExecutor]:
        """Return Caffe on the CPU and on a GPU, each in its own worker process: they are different builds."""
        return tuple(executor.CaffeExecutor(runner.Runner(for_gpu=kind == "gpu"), kind) for kind in ("cpu", "gpu"))

    @property
    def readers(self) -> Collection[str]:  # type: ignore[override]  # they are looked for when they are asked for
        """The programs of the entry-point group ``lstmc_caffe.readers``."""
        return known.reader_names()

    def reader(self, name: str) -> reader_executor.ReaderExecutor:
        return reader_executor.ReaderExecutor(known.load_reader(name))

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        return reader_executor.reader_python(known.load_reader(reader))

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """Return the training net, its solver, a manifest for the trained weights, and HDF5 files of the data."""
        assert isinstance(settings, solver.Solver)
        return training.training_files(compiled, settings, data)

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train by Caffe's own solver, in a worker process; ``trainer.py`` documents snapshots and resuming."""
        assert isinstance(settings, solver.Solver)
        with runner.Runner(for_gpu=run.gpu) as caffe:
            return training.train(caffe, compiled, weights, settings, run)

    def doctor(self) -> Iterator[Finding]:
        """Yield findings on Caffe, its candidates and its GPU, on the readers, and on faulty rules and targets."""
        yield from locate.findings()
        yield from reader_executor.reader_findings()
        yield from (Finding(f"rules {name}", False, fault, faulty=True) for name, fault in rules().faults.items())
        yield from (Finding(f"target {name}", False, fault, faulty=True) for name, fault in target_faults())
