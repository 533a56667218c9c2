"""Random models through every pass of every target and form: meaning, gradients, second runs, text; what is refused."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.ir import Graph, parse_graph, print_graph
from lstmc.passes import Pass, PassResult
from lstmc.pipeline import all_passes, compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.targets.load import OWN, load_target
from tests.strategies import RandomModel, random_models
from tests.test_properties import REFUSED_ALWAYS, REFUSED_WITHOUT_SLICE, assert_same, meaning_of

BACKEND = CaffeBackend()
FILES = Path(__file__).parent / "backends" / "lstmc_caffe" / "targets" / "files"
FORMS = tuple(("caffe", form) for form in BACKEND.forms("caffe"))
LISTS = (*((target, None) for target in (*OWN, *map(str, sorted(FILES.glob("*.toml"))))), *FORMS)
# The least share of models that must compile, by the target's name; all, where none is named.
WITH_POWER = re.compile(REFUSED_ALWAYS.pattern + r"| - |\blengths|\*\*|- \w|\d [*+-] |[*+-] \d")
LEAST = {"flat": 0.5, "noslice": 0.15, "no-power": 0.03, "few": 0.1}


@st.composite
def native_models(draw: Any) -> RandomModel:
    """Models of one scan that Caffe's own LSTM layer computes, its gates in any order, with and without ``cont``."""
    i, f, o, g = draw(st.permutations(range(4)))
    steps, batch, width, units = (draw(st.integers(1, 4)) for _ in range(4))
    cont = draw(st.booleans())
    source = f"""\
from lstmc import *

T, N, D, H = dims("T N D H")

@cell
def net_cell(x=Input(N, {width}), h=State(N, {units}), c=State(N, {units}), *, W=Param({4 * units}, {width}),
             U=Param({4 * units}, {units}), b=Param({4 * units}, fill=uniform(-1, 1))):
    z = split(linear(x, W, b) + linear(h, U), 4)
    c = sigmoid(z[{f}]) * c + sigmoid(z[{i}]) * tanh(z[{g}])
    h = sigmoid(z[{o}]) * tanh(c)
    return h, {{"h": h, "c": c}}

@model
def net(X=Input(T, N, {width}), C=Input(T, N)):
    y, _ = scan(net_cell(), X{", cont=C" if cont else ""})
    return {{"y": y{"" if cont else ', "c": tanh(C)'}}}
"""
    return RandomModel(source, steps, batch, draw(st.integers(0, 99)))


@dataclass
class Tally:
    """What became of the models of one test."""

    compiled: int = 0
    refused: Counter[str] | None = None

    def refuse(self, reason: str) -> None:
        self.refused = self.refused or Counter()
        self.refused[reason] += 1

    @property
    def share(self) -> float:
        return self.compiled / (self.compiled + sum((self.refused or Counter()).values()))


def models_for(target: str) -> st.SearchStrategy[RandomModel]:
    """Models that a target may take: a few of those that it refuses always, and the others."""
    loaded = load_target(target)
    if loaded.scans == "layers":
        return st.one_of(native_models(), native_models(), random_models())
    if not loaded.allows("Power"):
        return random_models().filter(lambda model: model.seed % 10 == 0 or not WITH_POWER.search(model.source))
    if loaded.layout == "rows":
        refused = REFUSED_ALWAYS if loaded.allows("Slice") else REFUSED_WITHOUT_SLICE
        return random_models().filter(lambda model: model.seed % 10 == 0 or not refused.search(model.source))
    return random_models()


def is_documented(error: BackendError, target: str) -> bool:
    """Whether a refusal gives a reason of the target's file, or says which scan is no layer, and why."""
    loaded = load_target(target)
    if loaded.scans == "layers" and "is neither Caffe's LSTM layer nor its RNN layer" in error.message:
        return True
    if loaded.scans == "fused" and "cannot be one generated layer: " in error.message:
        return True
    reasons = {loaded.layers_reason, *(rule.reason for rule in loaded.restrictions)}
    return bool(reasons & set(error.notes))


@pytest.mark.parametrize(
    ("target", "form"), LISTS, ids=[form or Path(target).stem.replace("_", "-") for target, form in LISTS]
)
def test_every_pass_keeps_the_meaning_and_a_second_run_changes_nothing(target: str, form: str | None) -> None:
    tally = Tally()

    @settings(max_examples=max(15, settings.default.max_examples // 15))
    @given(models_for(target))
    def holds(model: RandomModel) -> None:
        graph = model.graph()
        seen: list[tuple[Pass, Graph, PassResult]] = []
        refused = None
        try:
            compiled = compile_graph(graph, BACKEND, target, form=form, observe=lambda *what: seen.append(what))
            BACKEND.emit(compiled, initial_weights(graph))
        except BackendError as error:
            refused = error
        if refused is not None:
            assert is_documented(refused, target), refused
            tally.refuse(refused.message)
            return
        tally.compiled += 1
        assert [step for step, _, _ in seen] == list(all_passes(BACKEND, target, form))
        _hold(compiled, seen, model.seed)

    holds()
    least = LEAST.get(load_target(target).name, 0.5 if load_target(target).scans == "layers" else 1.0)
    assert tally.share >= least, tally


def _hold(compiled: Compiled, seen: list[tuple[Pass, Graph, PassResult]], seed: int) -> None:
    meaning = meaning_of(compiled.model, compiled, seed)  # where nothing is trained, without stop_gradient
    for step, before, outcome in seen:
        if outcome.modified:
            assert_same(meaning, meaning_of(outcome.graph, compiled, seed), step.name)
        else:
            assert outcome.graph == before, step.name
        again = step.run(outcome.graph)
        assert not again.modified, step.name
        assert again.graph == outcome.graph, step.name
        text = print_graph(outcome.graph)
        parsed = parse_graph(text, BACKEND.ops)
        assert parsed == outcome.graph, step.name
        assert print_graph(parsed) == text, step.name
