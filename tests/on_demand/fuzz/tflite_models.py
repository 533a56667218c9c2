"""``python -m tests.on_demand.fuzz.tflite_models 100 a8w8``: random models in TFLite, run by LiteRT and TFLite Micro.

Each is compiled as one step, in float32 or in integers with the ranges of what it is fed; how it ended is counted, and
each failure is printed with its seed.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping

from lstmc.api.models import keep_outputs
from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.numerics.sequences import constants
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.verification.differential import check, random_arrays
from lstmc.weights import random_weights
from lstmc_tflite import TfliteBackend
from lstmc_tflite.numbers import Numbers
from tests.on_demand.fuzz.trial import generic
from tests.random_models.models import seeded_model


def with_numbers(graph: Graph, weights: Mapping[str, Array], name: str, seed: int) -> TfliteBackend:
    """The backend with numbers whose ranges are those of one step."""
    if name == "float32":
        return TfliteBackend()
    compiled = compile_graph(graph, TfliteBackend())
    values = forward(compiled.expanded, random_arrays(compiled, weights, seed, {}).inputs, weights).by_name()
    limits = {name: (float(array.min()), float(array.max())) for name, array in values.items()}
    return TfliteBackend(numbers=Numbers.of(name, limits))


def tried(seeds: Iterable[int], numbers: str = "float32") -> tuple[Counter[str], list[str]]:
    """What became of the models of these seeds, and the failures."""
    outcomes, failures = Counter[str](), list[str]()
    for seed in seeds:
        try:
            graph = deploy_graph(seeded_model(seed, wide=seed % 2 == 1).graph())
            if numbers != "float32":  # which have no output that depends on no input
                fixed = constants(graph)
                graph = keep_outputs(graph, [o.name for o in graph.outputs if o.ref.node not in fixed] or None)
            weights = random_weights(graph, seed)
            backend = with_numbers(graph, weights, numbers, seed)
            compiled = compile_graph(graph, backend)
            artifact = backend.emit(compiled, weights)
        except LstmcError as error:
            outcomes[f"refused: {generic(error.message)}"] += 1
            continue
        except Exception:
            failures.append(f"seed {seed}: {traceback.format_exc()}")
            continue
        for executor in backend.executors()[:3]:  # without Vela
            try:
                report = check(compiled, artifact, weights, executor, seed)
            except LstmcError as error:
                outcomes[f"{executor.name}: {generic(error.message)}"] += 1
                continue
            except Exception:
                failures.append(f"seed {seed} on {executor.name}: {traceback.format_exc()}")
                continue
            outcomes[f"{executor.name}: run"] += 1
            failures += [f"seed {seed} on {executor.name}: {each}" for each in report.differences if not each.passed]
    return outcomes, failures


if __name__ == "__main__":
    outcomes, failures = tried(range(int(sys.argv[1])), *sys.argv[2:])
    print(*(f"{count} {outcome}" for outcome, count in outcomes.most_common()), *failures, sep="\n")
    sys.exit(bool(failures))
