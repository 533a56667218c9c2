"""What a model costs grows with its size, not with the square of it: counted, not timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from lstmc import source
from lstmc.dsl import Model
from lstmc.ir import Builder, Graph, Node, Ref
from lstmc.passes import Precompute, run_passes
from lstmc.pipeline import MODEL_PASSES

CHAIN = """
@model
def net(x=Input(2, 3)):
{steps}
    return x
"""
MANY_PARAMETERS = """
@cell
def step(x=Input(2, 3), h=State(2, 3), *, {params}):
    h = tanh(x + h)
{steps}
    return h, {{"h": h}}

@model
def net(X=Input(4, 2, 3)):
    y, last = scan(step(), X)
    return y
"""


def chain(n: int) -> str:
    return CHAIN.format(steps="    x = tanh(x)\n" * n)


def many_parameters(n: int) -> str:
    params = ", ".join(f"p{i}=Param(3)" for i in range(n))
    return MANY_PARAMETERS.format(params=params, steps="".join(f"    h = h * p{i}\n" for i in range(n)))


def of_parameters(n: int) -> str:
    return MANY_PARAMETERS.format(params="p=Param(3)", steps="    p = tanh(p)\n" * n + "    h = h * p\n")


def traced(text: str, folder: Path) -> Graph:
    path = folder / f"m{len(text)}.py"
    path.write_text("from lstmc import *\n" + text)
    names: dict[str, Model] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names["net"].graph()


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many nodes were looked at by walking graphs since it was last asked."""
    count = 0
    walk = Graph.__iter__

    def counted(self: Graph) -> Iterator[Node]:
        nonlocal count
        for node in walk(self):
            count += 1
            yield node

    def since() -> int:
        nonlocal count
        found, count = count, 0
        return found

    monkeypatch.setattr(Graph, "__iter__", counted)
    return since


@pytest.mark.parametrize("text", [chain, many_parameters])
def test_passes_walk_a_graph_a_fixed_number_of_times(
    text: Callable[[int], str], tmp_path: Path, visits: Callable[[], int]
) -> None:
    counts = []
    for n in (40, 160):
        graph = traced(text(n), tmp_path)
        visits()
        run_passes(graph, MODEL_PASSES)
        counts.append(visits())
    assert counts[1] < 5 * counts[0]


def test_the_positions_of_a_function_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FrameType] = []
    span = source._span

    def counted(frame: FrameType) -> source.SrcLoc:
        asked.append(frame)
        return span(frame)

    monkeypatch.setattr(source, "_span", counted)
    monkeypatch.setattr(source, "_codes", {})
    traced(chain(50), tmp_path)
    assert len(asked) >= 50
    assert len({id(frame.f_code) for frame in asked}) == len(source._codes)


def test_element_wise_ops_of_one_shape_are_traced_without_a_look_at_what_they_are_made_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("lstmc.dsl.value.computed_from_parameters", lambda *what: asked.append(what) or False)
    traced(many_parameters(20), tmp_path)
    assert asked == []


def test_what_is_made_of_parameters_is_walked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    walked, args, counts = 0, Builder.args, []

    def counted(self: Builder, name: str) -> tuple[Ref, ...]:
        nonlocal walked
        walked += 1
        return args(self, name)

    monkeypatch.setattr(Builder, "args", counted)
    for n in (40, 160):
        graph, walked = traced(of_parameters(n), tmp_path), 0
        assert Precompute().run(graph).counts["hoist_node"] == n
        counts.append(walked)
    assert counts[1] < 5 * counts[0] + 5
