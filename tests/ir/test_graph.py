"""The graph: frozen, compared by what it says, and asked who reads and needs what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lstmc.errors import ShapeError, VerifyError
from lstmc.ir import Builder, Graph, Output, Ref, Step, parse_graph, print_node, rename_values
from lstmc.ops import Add, Full, Input, Mul, Param, Split, Tanh
from lstmc.source import SrcLoc
from lstmc.types import TensorType

TEXT = """\
graph g {
  %x: f32[2,4] = input()
  %W: f32[2,4] = param()
  %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))
  %square: f32[2,4] = mul(%x, %x)
  %z: f32[2,4] = sub(%W, %square)
  %unread: f32[2,4] = tanh(%z)
  return z=%z, b=%b, again=%z
}
"""


@pytest.fixture
def graph() -> Graph:
    return parse_graph(TEXT)


def test_nodes_come_in_order_with_their_operands(graph: Graph) -> None:
    assert [node.name for node in graph] == ["x", "W", "a", "square", "z", "unread"]
    assert len(graph) == 6
    assert graph.args("z") == (Ref("W"), Ref("square"))
    assert graph.args("x") == ()
    assert graph.node("a").names == ("a", "b")
    assert graph.type(Ref("a", 1)) == TensorType((2, 3))
    assert graph.value_name(Ref("a", 1)) == "b"
    assert "square" in graph
    assert "b" not in graph  # a value, not a node
    assert graph.outputs == (Output("z", Ref("z")), Output("b", Ref("a", 1)), Output("again", Ref("z")))


def test_one_value_may_be_both_operands(graph: Graph) -> None:
    assert graph.args("square") == (Ref("x"), Ref("x"))
    assert graph.readers()[Ref("x")] == 3  # split once, mul twice


def test_operands_keep_their_slots_whatever_the_order_of_the_producers() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2,)), names=("x",))
    (y,) = builder.add(Input((2,)), names=("y",))
    for first, second in ((x, y), (y, x)):
        (z,) = builder.add(Add(), first, second)
        assert builder.args(z.node) == (first, second)


def test_readers_count_operand_slots_and_outputs(graph: Graph) -> None:
    assert graph.readers() == {
        Ref("x"): 3,
        Ref("W"): 1,
        Ref("square"): 1,
        Ref("z"): 3,
        Ref("a", 1): 1,
    }


def test_needed_is_what_outputs_or_roots_depend_on(graph: Graph) -> None:
    assert graph.needed() == {"x", "W", "a", "square", "z"}
    assert graph.needed([Ref("square")]) == {"square", "x"}
    assert graph.needed([]) == set()


def test_dependents_are_what_depends_on_a_node_and_itself(graph: Graph) -> None:
    assert graph.dependents({"square"}) == {"square", "z", "unread"}
    assert graph.dependents({"a", "W"}) == {"a", "W", "z", "unread"}
    assert graph.dependents(set()) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g._digraph.add_node("new"),
        lambda g: g._digraph.remove_node("x"),
        lambda g: g._digraph.add_edge("x", "z", key=5, out=0),
        lambda g: g._digraph.remove_edge("x", "square", key=0),
    ],
)
def test_a_finished_graph_is_frozen(graph: Graph, change: Callable[[Graph], None]) -> None:
    with pytest.raises(Exception, match="Frozen graph can't be modified"):
        change(graph)
    assert graph == parse_graph(TEXT)


def test_a_builder_cannot_go_on_after_it_finished() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2,)))
    builder.finish([("x", x)])
    with pytest.raises(Exception, match="Frozen graph can't be modified"):
        builder.add(Tanh(), x)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("graph g", "graph h"),
        ("%square", "%sq"),
        ("sub(%W, %square)", "sub(%square, %W)"),
        ("sub(", "add("),
        ("again=", "more="),
        ("b=%b", "b=%a"),
        ("  %unread: f32[2,4] = tanh(%z)\n", ""),
        ("input()", "input(fill=constant(0.0))"),
        ("mul(%x, %x)", "mul(%x, %x)  # a.py:1:0-1:3"),
        ("mul(%x, %x)", "mul(%x, %W)"),
    ],
)
def test_graphs_that_say_something_else_are_not_equal(graph: Graph, old: str, new: str) -> None:
    other = parse_graph(TEXT.replace(old, new))
    assert other != graph
    assert graph == parse_graph(TEXT)
    assert hash(graph) == hash(parse_graph(TEXT))


def test_a_graph_is_no_text(graph: Graph) -> None:
    assert graph != TEXT
    assert repr(graph) == "<Graph g: 6 nodes>"


def test_a_taken_name_gets_the_next_free_number() -> None:
    builder = Builder("g")
    wanted = ["x", "x", "x_2", "x", "y", "x_2"]
    made = [builder.add(Full((1,)), names=(name,))[0].node for name in wanted]
    assert made == ["x", "x_2", "x_2_2", "x_3", "y", "x_2_3"]


def test_a_node_without_a_name_is_called_by_its_op() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2, 4)))
    pieces = builder.add(Split(1, (1, 3)), x)
    assert [x.node, *builder.node(pieces[0].node).names] == ["input", "split", "split_2"]


def test_types_are_checked_as_a_node_is_made() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2,)))
    (y,) = builder.add(Input((3,)))
    with pytest.raises(ShapeError, match="add: shapes do not fit: x is f32\\[2\\], y is f32\\[3\\]"):
        builder.add(Add(), x, y)


def test_a_copied_node_keeps_its_names_and_place(graph: Graph) -> None:
    loc = SrcLoc("a.py", 1, 2, 3, 4)
    builder = Builder("g")
    (x,) = builder.add(Input((2, 4)), names=("x",), loc=loc)
    pieces = builder.copy(graph.node("a"), [x])
    assert builder.node(x.node).loc == loc
    assert builder.node(pieces[0].node).names == ("a", "b")
    assert builder.type(pieces[1]) == TensorType((2, 3))


def test_one_node_prints_as_its_line(graph: Graph) -> None:
    assert print_node(graph, graph.node("a")) == "%a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))"


def test_values_are_renamed_and_others_make_way(graph: Graph) -> None:
    renamed = rename_values(graph, {Ref("z"): "square", Ref("a", 1): "rest", Ref("x"): "never"})
    assert [name for node in renamed for name in node.names] == ["x", "W", "a", "rest", "square_2", "square", "unread"]
    assert renamed.outputs == (Output("z", Ref("square")), Output("b", Ref("a", 1)), Output("again", Ref("square")))
    assert [node.op for node in renamed] == [node.op for node in graph]


def test_a_leaf_keeps_its_name_though_a_value_before_it_wants_it() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2,)), names=("x",))
    (y,) = builder.add(Tanh(), x, names=("y",))
    (late,) = builder.add(Param((2,)), names=("late",))
    (z,) = builder.add(Mul(), y, late, names=("z",))
    renamed = rename_values(builder.finish([("z", z)]), {y: "late"})
    assert [node.name for node in renamed] == ["x", "late_2", "late", "z"]


def test_a_value_s_step_is_kept_by_a_copy_and_no_step_is_no_entry() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2, 3)), names=("x",), steps=(None,))
    pieces = builder.add(Split(0, (1, 1)), x, names=("a", "b"), steps=(Step("s", 0), Step("s", 1)))
    builder.add(Split(1, (1, 2)), pieces[1], names=("c", "d"), steps=(Step("s", 1),) * 2)
    graph = builder.finish([("a", pieces[0])])
    assert graph.node("x").steps == ()
    assert (graph.node("a").step, graph.node("c").step) == (None, Step("s", 1))
    assert (graph.node("a").of_step(1), graph.node("x").of_step(0)) == (Step("s", 1), None)
    again = Builder("g")
    for node in graph:
        assert again.node(again.copy(node, graph.args(node.name))[0].node).steps == node.steps


def test_steps_for_another_number_of_results_are_refused() -> None:
    builder = Builder("g")
    (x,) = builder.add(Input((2, 3)), names=("x",))
    with pytest.raises(VerifyError) as caught:
        builder.add(Split(0, (1, 1)), x, names=("a", "b"), steps=(Step("s", 0),))
    assert caught.value.message == "%a has 2 results, and steps for 1"
