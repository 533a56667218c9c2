"""Running passes: contracts are checked, results verified and dumped, errors say which pass and after which."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lstmc.errors import BackendError, PassError, VerifyError
from lstmc.ir import Builder, Graph, Node, Ref, Stage, parse_graph, print_graph
from lstmc.ops import Add, Tanh
from lstmc.passes import (
    ConvProducts,
    Cse,
    Dead,
    Expand,
    Hoist,
    ParallelTime,
    Pass,
    PassList,
    PassResult,
    Precompute,
    Refs,
    Simplify,
    Sink,
    convex_updates,
    distribute,
    fixed_products,
    fold_convs,
    fuse_linears,
    graph_pass,
    peel,
    rewrite,
    run_passes,
    split_products,
    spread_kernels,
)
from lstmc.types import TensorType
from lstmc_caffe.legalize.legalize import Legalize
from lstmc_caffe.ops import CAFFE_OPS

TEXT = """\
graph net {
  %x: f32[2,3] = input()
  %a: f32[2,3] = affine(%x)
  %b: f32[2,3] = tanh(%a)
  %c: f32[2,3] = tanh(%x)
  %d: f32[2,3] = add(%b, %c)
  %unread: f32[2,3] = exp(%x)
  return d=%d
}
"""
CLEAN = """\
graph net {
  %x: f32[2,3] = input()
  %b: f32[2,3] = tanh(%x)
  %d: f32[2,3] = add(%b, %b)
  return d=%d
}
"""


@dataclass(frozen=True)
class Breaks(Pass):
    """Leave the graph to a function."""

    name = "breaks"
    change: Callable[[Graph], Graph] = lambda graph: graph

    def run(self, graph: Graph) -> PassResult:
        return PassResult(self.change(graph), True)


def ill_typed(graph: Graph) -> Graph:
    builder = Builder(graph.name)
    for node in graph:
        builder.add(node.op, *graph.args(node.name), names=node.names, types=node.types)
    builder.add(Tanh(), Ref("x"), names=("y",), types=(TensorType((9,)),))
    return builder.finish(graph.outputs)


def fails(graph: Graph) -> Graph:
    raise KeyError("h")


def refuses(graph: Graph) -> Graph:
    raise BackendError("this cannot be written")


def test_the_history_has_the_model_and_the_graph_after_each_pass() -> None:
    model = parse_graph(TEXT)
    history = run_passes(model, [Simplify(), Cse(), Dead()])
    assert [(s.pass_name, s.stage) for s in history] == [
        ("model", Stage.MODEL),
        ("simplify", Stage.MODEL),
        ("cse", Stage.MODEL),
        ("dead", Stage.MODEL),
    ]
    assert history[0].graph is model
    assert history[-1].graph == parse_graph(CLEAN)


def test_stages_follow_the_passes_that_bring_them() -> None:
    history = run_passes(parse_graph(TEXT), [Legalize(), Dead(), Expand()], CAFFE_OPS)
    assert [s.stage for s in history] == [Stage.MODEL, Stage.LEGAL, Stage.LEGAL, Stage.EXPANDED]


def test_the_end_of_a_stage_is_its_last_pass() -> None:
    passes = PassList([Simplify(), Legalize(), Dead(), Expand()])
    assert [passes.end_of(stage) for stage in (Stage.MODEL, Stage.LEGAL, Stage.EXPANDED)] == [0, 2, 3]
    assert PassList([Legalize()]).end_of(Stage.MODEL) == -1
    with pytest.raises(PassError) as caught:
        PassList([Simplify(), Legalize()]).end_of(Stage.EXPANDED)
    assert caught.value.message == "no pass brings a graph to stage expanded: found model, legal"


def test_no_passes_give_the_model() -> None:
    model = parse_graph(TEXT)
    assert [s.graph for s in run_passes(model, [])] == [model]


def test_observers_see_each_pass_its_graph_and_its_outcome() -> None:
    seen: list[tuple[str, Graph, PassResult]] = []
    model = parse_graph(TEXT)
    history = run_passes(
        model, [Simplify(), Cse()], observe=lambda step, graph, out: seen.append((step.name, graph, out))
    )
    assert [name for name, _, _ in seen] == ["simplify", "cse"]
    assert [graph for _, graph, _ in seen] == [history[0].graph, history[1].graph]
    assert [outcome.graph for _, _, outcome in seen] == [history[1].graph, history[2].graph]
    assert seen[0][2].counts == {"drop_identity_affine": 1}


def test_dumps_have_a_header_and_the_graph(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dumps"
    history = run_passes(parse_graph(TEXT), [Simplify(), Cse(), Dead(), Dead()], dump_dir=folder)
    headers = {
        "00-model.lir": "# model: the model as it was written\n# nodes: 6 -> 6; no rule used\n",
        "01-simplify.lir": (
            "# simplify: Use the rules below until none applies, in the model and in every scan body.\n"
            "# nodes: 6 -> 5; drop_identity_affine 1\n"
        ),
        "02-cse.lir": "# cse: Merge equal computations.\n# nodes: 5 -> 4; merge_repeat 1\n",
        "03-dead.lir": (
            "# dead: Remove nodes that no output depends on, in the model and in every scan.\n"
            "# nodes: 4 -> 3; drop_node 1\n"
        ),
        "04-dead.lir": (
            "# dead: Remove nodes that no output depends on, in the model and in every scan.\n"
            "# nodes: 3 -> 3; no rule used\n"
        ),
    }
    assert sorted(path.name for path in folder.iterdir()) == list(headers)
    for (name, header), snapshot in zip(headers.items(), history, strict=True):
        text = (folder / name).read_text()
        assert text == header + print_graph(snapshot.graph)
        assert parse_graph(text) == snapshot.graph


def test_an_unexpected_error_becomes_one_that_names_the_pass_and_those_before(tmp_path: Path) -> None:
    with pytest.raises(PassError) as caught:
        run_passes(parse_graph(TEXT), [Simplify(), Cse(), Breaks(fails), Dead()], dump_dir=tmp_path)
    assert str(caught.value) == "PassError: pass breaks failed (KeyError: 'h'), after: simplify, cse"
    assert isinstance(caught.value.__cause__, KeyError)
    # the graphs up to the failing pass are there to be looked at
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00-model.lir", "01-simplify.lir", "02-cse.lir"]


def test_an_error_of_the_first_pass_comes_after_none() -> None:
    with pytest.raises(PassError) as caught:
        run_passes(parse_graph(TEXT), [Breaks(fails)])
    assert caught.value.message == "pass breaks failed (KeyError: 'h'), after: none"


def test_an_error_meant_for_the_user_stays_what_it_is_and_gets_a_note() -> None:
    with pytest.raises(BackendError) as caught:
        run_passes(parse_graph(TEXT), [Simplify(), Breaks(refuses)])
    assert caught.value.message == "this cannot be written"
    assert caught.value.__notes__ == ["while running pass breaks, after: simplify"]


def at_the_sum(error: Exception) -> Callable[[Graph], Graph]:
    """A pass that fails at the one add of a graph, as a legalisation's rule does."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Add):
            raise error
        return None

    return lambda graph: rewrite(graph, visit)


PLACED = TEXT.replace("add(%b, %c)", "add(%b, %c)  # net.py:6:4-6:9")


def test_an_unexpected_error_names_the_node_that_the_pass_was_at() -> None:
    with pytest.raises(PassError) as caught:
        run_passes(parse_graph(PLACED), [Dead(), Breaks(at_the_sum(IndexError("3")))])
    assert str(caught.value) == (
        "PassError: pass breaks failed (IndexError: 3), after: dead\n  at %d: f32[2,3] = add(%b, %c) of net, net.py:6:5"
    )


def test_an_error_meant_for_the_user_gets_the_node_s_place() -> None:
    with pytest.raises(BackendError) as caught:
        run_passes(parse_graph(PLACED), [Dead(), Breaks(at_the_sum(BackendError("there is no Eltwise")))])
    assert str(caught.value) == "BackendError: there is no Eltwise\n  net.py:6:5"
    assert caught.value.__notes__ == [
        "at %d: f32[2,3] = add(%b, %c) of net, net.py:6:5",
        "while running pass breaks, after: dead",
    ]


PEELED = """\
graph net {
  %h0: f32[2] = full()
  %h_T: f32[2] = scan(%h0, length=3) {
    body step {
      %h_prev: f32[2] = arg(role='state')
      %h: f32[2] = exp(%h_prev)
      return next h=%h
    }
    first step {
      %h_prev: f32[2] = arg(role='state')
      %h: f32[2] = full(value=1.0)
      return next h=%h
    }
  }
  return h=%h_T
}
"""


BEFORE_PEEL = (
    *(convex_updates, ConvProducts(), distribute, fixed_products, fold_convs, fuse_linears, Hoist(), ParallelTime()),
    *(Precompute(), Sink(), split_products, spread_kernels),
)


@pytest.mark.parametrize("late", BEFORE_PEEL, ids=lambda step: step.name)
def test_what_moves_ops_of_one_body_comes_before_peel(late: Pass) -> None:
    with pytest.raises(PassError) as caught:
        run_passes(parse_graph(PEELED), [late])
    assert caught.value.message == (
        f"{late.name} comes before peel: expected scans of one body, found %h_T with a first step"
    )
    assert caught.value.__notes__ == [f"while running pass {late.name}, after: none"]


def test_what_a_pass_returns_is_verified() -> None:
    with pytest.raises(VerifyError) as caught:
        run_passes(parse_graph(TEXT), [Dead(), Breaks(ill_typed)])
    assert str(caught.value).splitlines() == [
        "VerifyError: graph net: has the wrong type: expected f32[2,3]",
        "  %y: f32[9] = tanh(%x)",
    ]
    assert caught.value.__notes__ == ["while running pass breaks, after: dead"]


def test_the_model_itself_is_verified() -> None:
    with pytest.raises(VerifyError) as caught:
        run_passes(ill_typed(parse_graph(TEXT)), [])
    assert not hasattr(caught.value, "__notes__")


def test_a_graph_is_verified_at_the_stage_it_is_brought_to() -> None:
    @dataclass(frozen=True)
    class Claims(Pass):
        """Claim that the graph is legal."""

        name = "claims"
        after = Stage.LEGAL

        def run(self, graph: Graph) -> PassResult:
            return PassResult(graph, False)

    with pytest.raises(VerifyError) as caught:
        run_passes(parse_graph(TEXT), [Claims()], CAFFE_OPS)
    assert caught.value.message == "graph net: op input is not legal at stage legal"


@pytest.mark.parametrize("method", ["requires", "ensures"])
def test_contracts_are_asked(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Graph] = []

    def refuse(self: Pass, graph: Graph) -> None:
        asked.append(graph)
        raise PassError(f"not what it {method}")

    monkeypatch.setattr(Simplify, method, refuse)
    model = parse_graph(TEXT)
    with pytest.raises(PassError, match=f"not what it {method}"):
        run_passes(model, [Simplify()])
    assert asked == [model if method == "requires" else Simplify().run(model).graph]


def test_a_pass_that_fails_at_a_node_names_it() -> None:
    def wrong_at_tanh(graph: Graph) -> Graph:
        return rewrite(graph, lambda b, node, args: fails(graph) if node.name == "b" else None)  # type: ignore[arg-type]

    with pytest.raises(PassError) as caught:
        run_passes(parse_graph(TEXT), [Simplify(), Breaks(wrong_at_tanh)])
    assert str(caught.value) == (
        "PassError: pass breaks failed (KeyError: 'h'), after: simplify\n  at %b: f32[2,3] = tanh(%x) of net"
    )


@graph_pass()
def keep(graph: Graph, counts: Counter[str]) -> Graph:
    """
    Keep the graph.
    """
    return graph


def test_passes_go_to_other_processes() -> None:
    passes = PassList([Simplify(), fuse_linears, peel, keep])
    assert pickle.loads(pickle.dumps(passes)) == passes


def test_the_summary_of_a_pass_may_begin_on_the_second_line() -> None:
    assert keep.summary == "Keep the graph."
