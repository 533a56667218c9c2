"""``python -m tests.on_demand.fuzz.tflite_models 100``: random models in TFLite, run by LiteRT and TFLite Micro.

Each is compiled as one step; how it ended is counted, and each failure is printed with its seed.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterable

from lstmc.errors import LstmcError
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.verification.differential import check
from lstmc.weights import random_weights
from lstmc_tflite import TfliteBackend
from tests.on_demand.fuzz.trial import generic
from tests.random_models.models import seeded_model


def tried(seeds: Iterable[int]) -> tuple[Counter[str], list[str]]:
    """What became of the models of these seeds, and the failures."""
    outcomes, failures, backend = Counter[str](), list[str](), TfliteBackend()
    for seed in seeds:
        try:
            graph = deploy_graph(seeded_model(seed, wide=seed % 2 == 1).graph())
            weights = random_weights(graph, seed)
            compiled = compile_graph(graph, backend)
            artifact = backend.emit(compiled, weights)
        except LstmcError as error:
            outcomes[f"refused: {generic(error.message)}"] += 1
            continue
        except Exception:
            failures.append(f"seed {seed}: {traceback.format_exc()}")
            continue
        for executor in filter(lambda each: each.unavailable() is None, backend.executors()):
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
    outcomes, failures = tried(range(int(sys.argv[1])))
    print(*(f"{count} {outcome}" for outcome, count in outcomes.most_common()), *failures, sep="\n")
    sys.exit(bool(failures))
