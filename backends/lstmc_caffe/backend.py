"""The Caffe backend: what it offers to the compiler."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lstmc.backend import Artifact, Compiled, Finding, LintReport, Settings
from lstmc.collector import collector_paused
from lstmc.ir import parse_graph
from lstmc.ops import Array, Op
from lstmc.passes import Pass
from lstmc.training import Source, Trained, TrainingRun
from lstmc.weights import unpack_weights
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS
from lstmc_caffe.pipelines import FORMS, PIPELINES
from lstmc_caffe.place.place import INSTALL, INSTALL_CUDA, gpu_state
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.locate import CaffeNotFound, attempt_all, locate, locate_for_gpu
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.run.session import StepSession, find_files, run_net
from lstmc_caffe.run.timing import measured, processor, with_loss
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import load_target, targets
from lstmc_caffe.train.net import TARGETS as TRAINING_TARGETS
from lstmc_caffe.train.net import train, training_files
from lstmc_caffe.train.solver import Solver, SolverError, parse_overrides
from lstmc_caffe.write.caffemodel import caffemodel, read_blobs
from lstmc_caffe.write.in_place import overwritten
from lstmc_caffe.write.manifest import manifest, manifest_json, output_blobs, read_manifest, step_blobs
from lstmc_caffe.write.net import WrittenNet, write_net
from lstmc_caffe.write.prototxt import prototxt


def written_net(compiled: Compiled) -> WrittenNet:
    """The net of a compiled model; for Caffe itself activations are in place, but not on blobs the manifest names."""
    target = load_target(compiled.target)
    in_place = {} if target.rows_only else overwritten(compiled.expanded, step_blobs(compiled))
    return write_net(compiled.expanded, target, in_place)


class CaffeBackend:
    """Writes nets of stock BVLC Caffe 1.0 layers, and runs them in real Caffe."""

    name = "caffe"
    summary = "stock BVLC Caffe 1.0: prototxt, caffemodel and manifest"
    targets: Mapping[str, str] = {name: target.summary for name, target in targets().items()}
    training_targets: tuple[str, ...] = TRAINING_TARGETS
    ops: tuple[type[Op], ...] = CAFFE_OPS + HOST_OPS

    def passes(self, target: str) -> tuple[Pass, ...]:
        """The target's list, as ``pipelines.py`` writes it out."""
        return PIPELINES[target]

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """For Caffe itself: with and without LSTMUnit, gates packed or apart, products hoisted or not."""
        return FORMS.get(target, {})

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Minima of passes that take turns in one worker, on the CPU."""
        nets = {}
        for form, artifact in artifacts.items():
            (text,) = (content.decode() for name, content in artifact.files.items() if name.endswith(".prototxt"))
            (described,) = (content for name, content in artifact.files.items() if name.endswith(".manifest.json"))
            nets[form] = with_loss(text, output_blobs(json.loads(described)))
        with Runner() as runner:
            return measured(runner, nets)

    def build(self) -> str:
        """The Caffe that is used, and the processor it runs on."""
        location = locate()
        return f"{location.python} {location.pythonpath} {processor()}"

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.prototxt``, ``NAME.caffemodel`` and ``NAME.manifest.json``. Same input, same bytes."""
        with collector_paused():
            return self._artifact(compiled, weights)

    def _artifact(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        target = load_target(compiled.target)
        net = written_net(compiled)
        described = manifest(compiled, net)
        return Artifact(
            files={
                f"{compiled.name}.prototxt": prototxt(compiled, net).encode(),
                f"{compiled.name}.caffemodel": caffemodel(net, weights, target.sharers_carry_blobs),
                f"{compiled.name}.manifest.json": manifest_json(described).encode(),
            },
            layers=sum(1 for _ in net.layers()),
            inputs={n: _blob_name(entry) for n, entry in described["inputs"].items() if not entry["filled"]},
            outputs={n: _blob_name(entry) for n, entry in described["outputs"].items()},
        )

    def settings(self, given: object, overrides: Sequence[str] = ()) -> Solver:
        """A model's own :class:`Solver`, or one of defaults, with texts ``key=value`` put over it."""
        if given is not None and not isinstance(given, Solver):
            raise SolverError(f"@model(solver=...) takes a lstmc_caffe.Solver, found {type(given).__name__} {given!r}")
        return parse_overrides(overrides, given)

    def emit_training(self, compiled: Compiled, settings: Settings, sources: Mapping[str, Source]) -> Artifact:
        """``NAME.train.prototxt``, ``NAME.solver.prototxt`` and a manifest for the weights that they train."""
        assert isinstance(settings, Solver)
        return training_files(compiled, settings, sources)

    def train(self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRun) -> Trained:
        """Caffe's own solver, in a worker process; see ``trainer.py`` for what is saved and how a run goes on."""
        assert isinstance(settings, Solver)
        with Runner(for_gpu=run.gpu) as runner:
            return train(runner, compiled, weights, settings, run)

    def lint(self, text: str, target: str) -> LintReport:
        """A prototxt against ``targets/TARGET.toml``."""
        return lint_text(text, load_target(target))

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Parameters from a caffemodel, which need not be the one written: Caffe keeps the names of layers."""
        described = read_manifest(manifest)
        weights = parse_graph(described["weights"])
        found = unpack_weights(weights, read_blobs(trained, described["blobs"]))
        return found, [name for name in described["parameters"] if name not in found]

    def run(self, net: Path, inputs: Mapping[str, Array], weights: Path | None, gpu: bool) -> dict[str, Array]:
        """One forward pass in real Caffe, by the manifest beside the net."""
        files = find_files(net, weights)
        with Runner(for_gpu=gpu) as runner:
            return run_net(runner, files, inputs, "gpu" if gpu else "cpu")

    def steps(self, net: Path, weights: Path | None, gpu: bool) -> StepSession:
        """A one-step net in real Caffe, by the manifest beside it; Caffe starts with the first step."""
        return StepSession(Runner(for_gpu=gpu), find_files(net, weights), "gpu" if gpu else "cpu", owned=True)

    def executors(self) -> Sequence[CaffeExecutor]:
        """Caffe on the CPU and on a GPU, each in its own worker process: they are different builds."""
        return (CaffeExecutor(Runner(), "cpu"), CaffeExecutor(Runner(for_gpu=True), "gpu"))

    def doctor(self) -> Iterator[Finding]:
        """Which Caffe there is, what was tried, and whether a GPU can be used."""
        location = None
        for attempt in attempt_all():
            location = location or attempt.location
            yield Finding(f"Caffe at {attempt.place}", attempt.location is not None, attempt.reason or "real Caffe")
            if location is not None:
                break
        if location is None:
            yield Finding("Caffe", False, "no Python here has real Caffe", INSTALL)
            return
        yield Finding("Caffe in use", True, f"{location.python} ({location.found_by})")
        yield Finding("caffe program", location.caffe_binary is not None, str(location.caffe_binary or "not known"))
        yield from _gpu_findings()


def _gpu_findings() -> Iterator[Finding]:
    """Which Caffe works on a GPU, and whether it can here."""
    try:
        location = locate_for_gpu()
    except CaffeNotFound as error:
        reasons = ", ".join(str(attempt.reason) for attempt in error.attempts)
        yield Finding("GPU", False, f"{error.message}: {reasons}", f"{INSTALL_CUDA} --force")
        return
    gpu = gpu_state(location)
    if gpu.built:
        yield Finding("Caffe for GPUs", True, f"{location.python} {location.pythonpath or ''}".rstrip())
    yield Finding("GPU", gpu.usable, gpu.reason or "usable", gpu.mend)


def _blob_name(place: Mapping[str, Any]) -> str:
    """The blob of an input or output of a manifest, or the first and the last of them."""
    return place["blob"] or " ... ".join(place.get("blobs", ["none"])[:: max(1, len(place.get("blobs", "x")) - 1)])
