"""The lists of passes: those on the pipeline's page are those that run."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from lstmc import pipeline
from lstmc.backend import load_backend
from lstmc.passes import Dead
from lstmc.pipeline import CORE_EXPANSION, MODEL_PASSES, compile_graph
from lstmc_caffe.backend import passes_of
from tests.random_models.models import seeded_model

PAGE = re.findall(r"^ {4}(\S+) +((?:\S.*\n)(?: {6,}\S.*\n)*)", pipeline.__doc__ or "", re.M)
LISTS = {name: passes.split() for name, passes in PAGE}


def pattern(passes: list[str]) -> str:
    return "".join(f"({name[:-1]} )?" if name.endswith("?") else f"{name} " for name in passes)


def text(names: list[str]) -> str:
    return "".join(f"{name} " for name in ["roll_up", *names])


def lists_of_targets() -> dict[tuple[str, str], str]:
    lists = {("", "core"): text([step.name for step in (*MODEL_PASSES, *CORE_EXPANSION)])}
    for backend in map(load_backend, ("caffe", "onnx", "torch", "tflite", "c")):
        for target in backend.targets:
            lists[backend.name, target] = text([step.name for step in backend.passes(target)])
    return lists


TARGETS = lists_of_targets()


def test_each_target_has_a_list_on_the_page() -> None:
    on_page = defaultdict(list)
    for (_, target), passes in TARGETS.items():
        (own,) = [name for name, listed in LISTS.items() if re.fullmatch(pattern(listed), passes)]
        assert own == target or target not in LISTS
        on_page[own].append(passes)
    assert on_page.keys() == LISTS.keys()
    for name, listed in LISTS.items():
        for optional in [step[:-1] for step in listed if step.endswith("?")]:
            counts = {passes.split().count(optional) for passes in on_page[name]}
            assert len(counts) == 2, f"{name}: {optional} is in the list of each target, or of none"


@pytest.mark.parametrize(("target", "most"), [("flat", 26), ("caffe", 30), ("noslice", 30)])
def test_lists_do_not_grow(target: str, most: int) -> None:
    assert len(TARGETS["caffe", target].split()) <= most


@pytest.mark.parametrize("target", ["flat", "noslice", "ncnn"])
def test_no_list_leaves_what_nothing_reads(target: str) -> None:
    backend = load_backend("caffe")
    for seed in (2, 13, 16, 19, 25):
        net = compile_graph(seeded_model(seed).graph(), backend, target).expanded
        assert not Dead().run(net).modified, f"{target} leaves a node of model {seed} that nothing reads"


def test_nets_that_are_trained_have_no_weights_made_of_parameters(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nsummary = "trained"\nbase = "flat"\ntrained = true\n')
    gone = {"fold_convs", "precompute", "separate_layers"}
    kept = [step.name for step in passes_of("flat") if step.name not in gone]
    trained = [step.name for step in passes_of(str(tmp_path / "mine.toml"))]
    assert [name for name in trained if name not in ("untie_transposes", "pass_packed_values")] == kept
