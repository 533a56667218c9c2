"""Library cells and random models mean the same in ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from onnx.backend.test.loader import load_model_tests

from lstmc.errors import BackendError
from lstmc.pipeline import compile_graph
from lstmc.plugins import CELLS as GROUP
from lstmc.plugins import entry_points_of
from lstmc.verification.differential import check
from lstmc_onnx.runtime import RuntimeExecutor
from tests.cells.scanned import cell_graph, drawn
from tests.on_demand.fuzz import onnx_cases
from tests.on_demand.fuzz.onnx_models import BACKEND, FORMS, Outcomes, tried
from tests.random_models.models import RandomModel
from tests.shares import least
from tests.strategies import random_models

CELLS = [name for name, (point, *_) in entry_points_of(GROUP).items() if point.value.startswith("lstmc.cells.")]
LAYERS = ("gru", "gru_reset_after", "lstm", "lstm_cifg", "lstm_peephole", "rnn")  # what ONNX has an operator for


WAYS: dict[str, dict[str, bool]] = {"": {}, "from zero, reverse": {"states": False, "reverse": True}}


def each_cell() -> Iterator[Any]:
    """Each cell in one of the ways, in turn, and in the other one in ``make exhaustive``: lowerings are of ops."""
    for number, name in enumerate(CELLS):
        for place, (way, options) in enumerate(WAYS.items()):
            quick = () if number % 4 < 2 else pytest.mark.slow
            marks = quick if number % len(WAYS) == place else pytest.mark.exhaustive
            yield pytest.param(name, options, id=f"{name}-{way}", marks=marks)


@pytest.mark.parametrize(("name", "options"), [*each_cell()])
def test_every_cell_means_the_same_in_onnx_runtime_in_every_form(name: str, options: dict[str, bool]) -> None:
    graph = cell_graph(name, (3, 2), **options)
    weights = drawn(name, graph).weights
    for form in FORMS:
        if form == ("lstm-op" if name in LAYERS else "scan"):
            continue  # it is what the target chooses
        if form == "lstm-op" and name not in LAYERS:
            with pytest.raises(BackendError, match=r"the scan \w+ is not an LSTM, GRU or RNN of ONNX"):
                compile_graph(graph, BACKEND, form=form)
            continue
        compiled = compile_graph(graph, BACKEND, form=form)
        report = check(compiled, BACKEND.emit(compiled, weights), weights, RuntimeExecutor())
        assert report.passed, (form, report)
        outputs = {difference.name for difference in report.differences if difference.kind == "output"}
        assert outputs == {output.name for output in graph.outputs}


def assert_agree(outcomes: Outcomes) -> None:
    """All forms but that of layers take every model; few are past a tolerance by rounding."""
    assert {form for (form, outcome), _ in outcomes.items() if outcome == "refused"} <= {"lstm-op"}, outcomes
    rounding = sum(count for (_, outcome), count in outcomes.items() if outcome == "rounding")
    assert outcomes.total() - rounding >= least(0.95, outcomes.total()), outcomes


def test_a_random_model_means_the_same_in_onnx_runtime() -> None:
    outcomes: Outcomes = Counter()

    @settings(max_examples=max(5, settings.default.max_examples // 40))
    @given(random_models())
    def holds(model: RandomModel) -> None:
        for form, trial in tried(model).items():
            outcomes[form, trial.outcome] += 1
            assert trial.outcome != "failed", (form, trial.why)

    holds()
    assert_agree(outcomes)


def test_exported_cases_are_those_of_the_onnx_package_s_layout_and_what_is_wrong_is_told(tmp_path: Path) -> None:
    cases = [*islice(onnx_cases.operators(), 3), *islice(onnx_cases.models(2), 2)]
    for name, _, model, inputs, exact in cases:
        onnx_cases.write(tmp_path / "recurrent", name, model, inputs, exact)
    found = load_model_tests(str(tmp_path), "recurrent")
    assert len(found) == len(cases) == 5
    for case in found:
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        arrays = {
            kind: [
                onnx.numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / f"{kind}_{number}.pb"))
                for number in range(len(values))
            ]
            for kind, values in (("input", model.graph.input), ("output", model.graph.output))
        }
        inputs = dict(zip([value.name for value in model.graph.input], arrays["input"], strict=True))
        exact = dict(zip([value.name for value in model.graph.output], arrays["output"], strict=True))
        judged = partial(onnx_cases.outcome, onnx_cases.in_onnxruntime, model)
        assert judged(inputs, exact) == "right"
        assert judged(inputs, {name: array + 0.01 for name, array in exact.items()}).startswith("wrong: ")
        assert judged({}, exact).startswith("refused: ")
