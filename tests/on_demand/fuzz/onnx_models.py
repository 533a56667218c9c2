"""``python -m tests.on_demand.fuzz.onnx_models 1000``: random models in ONNX Runtime, in every form."""

from __future__ import annotations

import sys
from collections import Counter

from lstmc.errors import PassError
from lstmc.prepare import deploy_graph
from lstmc_onnx import OnnxBackend
from lstmc_onnx.runtime import RuntimeExecutor
from tests.on_demand.fuzz.trial import Trial, try_graph
from tests.random_models.models import RandomModel, seeded_model

BACKEND = OnnxBackend()
FORMS = (None, *BACKEND.forms("onnx"))
Outcomes = Counter[tuple[str | None, str]]  # of each form, and of the target's own choice


def tried(model: RandomModel) -> dict[str | None, Trial]:
    """One random model as it is deployed, in every form."""
    try:
        graph = deploy_graph(model.graph())
    except PassError as error:
        return dict.fromkeys(FORMS, Trial("refused", error.message))
    return {form: try_graph(graph, model.seed, BACKEND, "onnx", RuntimeExecutor(), form) for form in FORMS}


def main(count: int, first: int = 0) -> int:
    """The models of ``count`` seeds. Every failure is printed with its seed."""
    outcomes: Outcomes = Counter()
    for seed in range(first, first + count):
        for form, trial in tried(seeded_model(seed)).items():
            outcomes[form, trial.outcome] += 1
            if trial.outcome == "failed":
                print(f"seed {seed}, form {form}: {trial.why}", flush=True)
    for (form, outcome), number in sorted(outcomes.items(), key=str):
        print(f"{form or 'chosen':10} {outcome:10} {number}")
    return int(any(outcome == "failed" for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
