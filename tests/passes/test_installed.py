"""Passes of packages: where they run, what is refused, and what a doctor says; ops that become formulas of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import Input, cell, dims, model, relu, scan, tanh
from lstmc.api import pass_names
from lstmc.backend import plugin_faults
from lstmc.errors import PluginError
from lstmc.ops import Relu, applied
from lstmc.passes import Decompose
from lstmc.pipeline import all_passes
from lstmc.testing import assert_same_meaning
from lstmc_caffe.targets.target import target_faults

Install = Callable[..., None]
SOURCE = """
from dataclasses import dataclass
from lstmc.ir import Stage
from lstmc.passes import Insertion, Pass, PassResult

class Nothing(Pass):
    '''Nothing is changed.'''
    def run(self, graph):
        return PassResult(graph, False)

class One(Nothing):
    name = "one"

class Two(Nothing):
    name = "two"

class Legal(Nothing):
    name = "legal"
    after = Stage.LEGAL

ONE = {one}
TWO = {two}
LEGAL = Insertion(Legal(), after="sink")
"""
ENTRIES = """
[lstmc.passes]
one = added_passes:ONE
two = added_passes:TWO
"""
T, N, D = dims("T N D")


@pytest.fixture(autouse=True)
def _no_module_of_another_test() -> Iterator[None]:
    yield
    sys.modules.pop("added_passes", None)


def put(install: Install, one: str, two: str = 'Insertion(Two(), after="sink")', entries: str = ENTRIES) -> None:
    install("added_passes", SOURCE.format(one=one, two=two), entries)


def test_passes_at_one_place_run_in_the_order_of_their_names(install: Install) -> None:
    put(install, 'Insertion(One(), after="sink")')
    names = pass_names("caffe")
    at = names.index("sink")
    assert names[at : at + 3] == ["sink", "one", "two"]
    assert [step.name for step in all_passes(None)].count("one") == 1
    assert "one" in lstmc.compile("rnn", T=2, N=1, D=3, H=3).passes


def test_a_pass_is_for_one_backend_or_for_some_targets(install: Install) -> None:
    put(
        install,
        'Insertion(One(), before="hoist", backend="caffe", targets=("flat", "caffe"))',
        'Insertion(Two(), before="dead:2", backend="onnx")',
    )
    assert [t for t in ("caffe", "flat", "caffe-fused") if "one" in pass_names(t)] == ["caffe", "flat"]
    names = pass_names("caffe")
    assert names[names.index("one") + 1] == "hoist"
    onnx = pass_names(backend="onnx")
    assert onnx[onnx.index("two") + 1] == "dead:2"
    assert "two" not in names


def test_a_pass_may_stand_beside_one_of_another_package(install: Install) -> None:
    put(install, 'Insertion(One(), before="two")', 'Insertion(Two(), after="hoist")')
    names = pass_names("caffe")
    at = names.index("hoist")
    assert names[at : at + 3] == ["hoist", "one", "two"]
    assert list(plugin_faults()) == []


def test_the_first_run_of_a_pass_that_runs_once_has_a_number_too(install: Install) -> None:
    put(install, 'Insertion(One(), before="hoist:1")')
    names = pass_names("caffe")
    assert names[names.index("one") + 1] == "hoist"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        ("3", 'expected a lstmc.passes.Insertion, as in Insertion(MyPass(), after="sink"), found 3'),
        (
            'Insertion(Two(), after="sink")',
            "expected a pass whose name is that of the entry point, name = \"one\", found 'two'",
        ),
        ("Insertion(One())", "expected one of before= and after=, found neither"),
        ('Insertion(One(), "sink", "hoist")', "expected one of before= and after=, found both"),
        ('Insertion(One(), "sink", targets="flat")', "expected targets as a tuple of names, found 'flat'"),
        ('Insertion("one", "sink")', "expected an Insertion of a Pass, found one of 'one'"),
    ],
)
def test_a_malformed_pass_is_named_where_a_list_is_asked_for(install: Install, one: str, why: str) -> None:
    put(install, one)
    message = f"pass one of added_passes (added_passes:ONE): {why}. Fix added_passes, or uninstall it"
    with pytest.raises(PluginError) as refused:
        lstmc.compile("rnn", T=2, N=1, D=3, H=3)
    assert refused.value.message == message
    assert [finding.detail for finding in plugin_faults()] == [message]


def test_a_pass_keeps_the_stage(install: Install) -> None:
    put(install, 'Insertion(One(), after="sink")', entries="[lstmc.passes]\nlegal = added_passes:LEGAL\n")
    with pytest.raises(PluginError, match="expected a pass that keeps the stage of the graph, found one"):
        pass_names()


def test_a_doctor_names_a_pass_that_runs_nowhere(install: Install) -> None:
    put(install, 'Insertion(One(), after="sink", targets=("flatt",))')
    (finding,) = plugin_faults()
    assert finding.detail == (
        "pass one of added_passes (added_passes:ONE): expected a position in the pass list of some target, found"
        " none that has it: after sink, target flatt. Fix added_passes, or uninstall it"
    )
    lstmc.compile("rnn", T=2, N=1, D=3, H=3)  # it may be for a target of a package that is not installed


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ('after="simplfy"', "after simplfy: did you mean simplify?"),
        ('before="simplify"', "before simplify, which runs several times: name one of RUNS"),
        ('after="sunk", targets=("flat",)', "after sunk, target flat: did you mean sink?"),
        ('after="two_of_no_list"', "after two_of_no_list"),
    ],
)
def test_a_place_that_no_list_has_is_an_error(install: Install, place: str, near: str) -> None:
    put(install, f"Insertion(One(), {place})")
    message = (
        "pass one of added_passes (added_passes:ONE): expected a position in the pass list of some target, found"
        f" {near}. Fix added_passes, or uninstall it"
    ).replace("RUNS", "simplify:1, simplify:2, simplify:3")
    for compiled in (lambda: lstmc.compile("rnn", T=2, N=1, D=3, H=3), pass_names):
        with pytest.raises(PluginError) as refused:
            compiled()
        assert refused.value.message == message
    assert [finding.detail for finding in plugin_faults()] == [message]


def test_a_place_in_lists_of_other_targets_is_none_of_this_one(install: Install) -> None:
    only = next(
        name
        for target in lstmc.api.targets()
        for name in pass_names(target.name, target.backend)
        if name not in pass_names("flat")
    )
    put(install, f"Insertion(One(), after={only!r})", 'Insertion(Two(), after="one", backend="absent")')
    assert {"one", "two"}.isdisjoint(pass_names("flat"))
    assert [finding.subject for finding in plugin_faults()] == ["pass two"]


def test_a_target_that_cannot_be_used_is_no_fault_of_a_pass(install: Install, tmp_path: Path) -> None:
    for name, text in (("toml_a", "name = "), ("toml_b", 'name = "another"\nbase = "flat"\nsummary = "Another."')):
        (tmp_path / f"{name}.toml").write_text(text)
        source = f"PATH = {str(tmp_path / name)!r} + '.toml'"
        install(name, source, f"[lstmc_caffe.targets]\n{name} = {name}:PATH\n")
    put(install, 'Insertion(One(), after="sink")')
    faults = list(target_faults())
    assert [name for name, _ in faults] == ["toml_a", "toml_b"]
    assert "expected a target as TOML: " in faults[0][1]
    assert faults[1][1].endswith("name: expected toml_b, found another")
    assert list(plugin_faults()) == []


class ReluAsHalves(Decompose):
    """Relu by an absolute value: 1. relu(x) => x / 2 + abs(x / 2)."""

    name = "relu_as_halves"
    op = Relu

    def formula(self, op: Relu, x: np.ndarray) -> np.ndarray:
        half = x / 2
        return half + applied(lstmc.ops.Abs(), half)[0]


@cell
def step(x=Input(N, D), h=lstmc.State(N, D)):
    h = relu(x) - tanh(h)
    return h, {"h": h}


@model
def net(X=Input(T, N, D)):
    y, _ = scan(step(), X)
    return {"y": relu(y - 1)}


def test_an_op_becomes_a_formula_in_a_model_and_in_its_cells() -> None:
    graph = net.graph(T=3, N=2, D=3)
    outcome = ReluAsHalves().run(graph)
    assert outcome.counts == {"decompose": 2}
    assert not [node for node in outcome.graph if isinstance(node.op, Relu)]
    assert_same_meaning(graph, outcome.graph)
    assert not ReluAsHalves().run(outcome.graph).modified
