"""A random model's net of one step, run step by step in real Caffe, against the whole sequence in the interpreter."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstmc.backend import Artifact, RunArrays
from lstmc.errors import BackendError, PassError
from lstmc.interp import Evaluation, forward, named_rng
from lstmc.ir import Graph
from lstmc.manifest import parse_manifest
from lstmc.nets.session import LoadedOnce, NetFiles, Stream
from lstmc.ops import Array, Constant, Input
from lstmc.passes.simplify import without_dead
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph, one_step
from lstmc.verification.conditioning import relative_gap
from lstmc.verification.differential import own_rounding
from lstmc.verification.report import MARGIN, VALUE_TOLERANCE
from lstmc.weights import initial_weights
from lstmc_caffe.processes.process import CaffeError
from lstmc_caffe.runtime.runner import Net, Runner
from tests.on_demand.fuzz.trial import BACKEND, Trial, generic
from tests.random_models.models import RandomModel

NO_STEP = ("one step of", "nothing but")  # of refusals: what has no step, and what is there for training alone


def try_stream(model: RandomModel, target: str, runner: Runner) -> Trial:
    """Compile one step of the outputs that have one, and run as many as the sequence has. It never raises."""
    try:
        try:
            graph = streamed(deploy_graph(model.graph()))
            weights = initial_weights(graph, model.seed)
            compiled = compile_graph(graph, BACKEND, target, step=True)
            artifact = BACKEND.emit(compiled, weights)
        except CaffeError:
            raise
        except (BackendError, PassError) as error:
            if isinstance(error, PassError) and not any(words in error.message for words in NO_STEP):
                raise
            return Trial("refused", generic(error.message))
        if any(isinstance(node.op, Input) and is_drawn(node.op) for node in compiled.model):
            return Trial("refused", "the net draws an input anew at each step")
        inputs = {node.name: random_input(node.op, node.name, model.seed) for node in graph if is_input(node.op)}
        whole = forward(graph, inputs, weights)
        found = stepped(artifact, compiled.name, inputs, whole.by_name(), model.T, runner)
        return compared(whole, inputs, weights, found)
    except Exception:
        return Trial("failed", traceback.format_exc())


def streamed(graph: Graph) -> Graph:
    """The part of a model that has a step: the outputs that do. Raises :class:`PassError` where none does."""
    kept, refusal = [], None
    for output in graph.outputs:
        try:
            one_step(without_dead(graph.returning([output.name]), Counter()))
            kept.append(output.name)
        except PassError as error:
            refusal = error
    if not kept and refusal is not None:
        raise refusal
    return without_dead(graph.returning(kept), Counter())


def is_input(op: object) -> bool:
    return isinstance(op, Input)


def is_drawn(op: Input) -> bool:
    return op.fill is not None and not isinstance(op.fill, Constant)


def random_input(op: object, name: str, seed: int) -> Array:
    """Numbers for an input of the whole model."""
    assert isinstance(op, Input)
    rng = named_rng(seed, name)
    if op.fill is not None:
        return op.fill.draw(rng, op.shape)
    if op.values is not None:
        return op.values.draw(rng, op.shape)
    return rng.normal(size=op.shape).astype(np.float32).astype(np.float64)


def stepped(
    artifact: Artifact, name: str, inputs: Mapping[str, Array], values: Mapping[str, Array], steps: int, runner: Runner
) -> list[dict[str, Array]]:
    """The outputs of each step in Caffe. ``values`` are those of the whole model, of which first states may be some."""
    with tempfile.TemporaryDirectory(prefix="lstmc-fuzz-") as folder:
        for file, content in artifact.files.items():
            (Path(folder) / file).write_bytes(content)
        net = Path(folder, f"{name}.prototxt")
        files = NetFiles(net, net.with_suffix(".caffemodel"), parse_manifest(artifact.files[f"{name}.manifest.json"]))

        @contextmanager
        def load() -> Iterator[InCaffe]:
            with runner.load(net, weights=files.weights) as loaded:
                yield InCaffe(loaded)

        with Stream(LoadedOnce(files, load)) as session:
            first = {state: word for state, word in session.initial.items() if isinstance(word, str)}
            session.start({state: values[word.partition(", computed by")[0]] for state, word in first.items()})
            return [
                session({n: part_of_step(inputs[n], shape, t) for n, shape in session.inputs.items()})
                for t in range(steps)
            ]


@dataclass(frozen=True)
class InCaffe:
    """A net that a session runs."""

    net: Net

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        return self.net.run(blobs, want=wanted).blobs


def part_of_step(whole: Array, shape: tuple[int, ...], t: int) -> Array:
    """What step ``t`` is of a sequence; anything else is the same at every step."""
    return whole if whole.shape == shape else whole[t : t + 1]


def compared(
    whole: Evaluation, inputs: Mapping[str, Array], weights: Mapping[str, Array], found: list[dict[str, Array]]
) -> Trial:
    """Whether all steps together are the whole, within the tolerance, or as far as float32 moves the model itself."""
    exact = whole.outputs
    wrong = {name: gap for name in exact if not (gap := off(found, name, exact[name])) <= VALUE_TOLERANCE}
    if not wrong:
        return Trial("agrees")
    *_, missed = own_rounding(whole, RunArrays(inputs, weights, {}))
    lines = [
        f"{name}: off by {gap:.2g}, by rounding {alone:.2g}"
        for name, gap in wrong.items()
        if not gap <= MARGIN * (alone := missed["output", name])
    ]
    return Trial("failed", "\n".join(lines)) if lines else Trial("rounding")


def off(found: list[dict[str, Array]], name: str, whole: Array) -> float:
    """How far the steps' outputs are off: one of a sequence at every step, any other at the last."""
    last = found[-1][name]
    return relative_gap(last if last.shape == whole.shape else np.concatenate([step[name] for step in found]), whole)


def main() -> int:
    """Try the one model of a saved file again."""
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.fuzz.streams")
    parser.add_argument("file", type=Path)
    parser.add_argument("-D", action="append", required=True, help="T=INT and N=INT")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--target", required=True)
    given = parser.parse_args()
    sizes = dict(size.split("=") for size in given.D)
    with Runner() as runner:
        model = RandomModel(given.file.read_text(), int(sizes["T"]), int(sizes["N"]), given.seed)
        trial = try_stream(model, given.target, runner)
    print(trial.outcome, trial.why)
    return 1 if trial.outcome == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
