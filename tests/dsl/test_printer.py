"""Graphs as Python: to run the text and trace its model gives the graph again."""

from __future__ import annotations

import linecache
import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given

from lstmc import cells
from lstmc.dsl import Cell, CellModel
from lstmc.dsl.printer import print_python
from lstmc.ir import Graph
from lstmc.ops import Input, Param
from tests.alike import structure
from tests.dsl.conftest import UserFile
from tests.random_models.models import RandomModel
from tests.strategies import random_models


def traced_again(graph: Graph) -> Graph:
    """The graph of the model in the printed text."""
    text = print_python(graph)
    linecache.cache["<printed>"] = (len(text), None, text.splitlines(keepends=True), "<printed>")
    module: dict[str, Any] = {"__name__": "printed"}
    exec(compile(text, "<printed>", "exec"), module)
    again: Graph = module[graph.name].graph()
    return again


def leaves(graph: Graph) -> dict[str, object]:
    return {node.name: node.op for node in graph if isinstance(node.op, Input | Param)}


def same(graph: Graph, again: Graph) -> bool:
    outputs = [(output.name, output.carried_to, output.delay) for output in graph.outputs]
    return (
        structure(again) == structure(graph)
        and leaves(again) == leaves(graph)
        and [(output.name, output.carried_to, output.delay) for output in again.outputs] == outputs
    )


@given(random_models())
def test_a_random_model_is_traced_again(model: RandomModel) -> None:
    graph = model.graph()
    assert same(graph, traced_again(graph))


def test_every_library_cell_is_traced_again() -> None:
    for name in cells.__all__:
        cell = getattr(cells, name)
        assert isinstance(cell, Cell)
        model = CellModel(cell)
        graph = model.graph(**{dim: {"T": 3, "N": 2, "K": 3}.get(dim, 4) for dim in model.dims})
        assert same(graph, traced_again(graph)), name
        lines = [line for line in print_python(graph).split("\n") if not re.match(r" *(return|\w+=)|.*Param\(", line)]
        assert max(map(len, lines)) < 115, name


def test_a_delay_is_printed(user: UserFile) -> None:
    graph = user.graph('\n@model(delays={"y": 2})\ndef net(X=Input(T, D)):\n    return {"y": tanh(X), "z": X}\n')
    assert same(graph, traced_again(graph))
    assert [output.delay for output in graph.outputs] == [2, 0]


def test_a_model_that_is_one_step_is_printed(user: UserFile) -> None:
    graph = user.graph(
        '\n@model(states={"h": "h_next"})\ndef net(X=Input(T, D), h=Input(T, D)):\n'
        '    return {"y": X * h, "h_next": X + h}\n'
    )
    assert same(graph, traced_again(graph))
    assert graph.carried().keys() == {"h"}


def test_the_text(user: UserFile) -> None:
    code = """
        @cell
        def rnn(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=uniform(-1, 1)), b=Param(H, lr_mult=2)):
            h = tanh(linear(x, W, b) + 0.5 * h)
            return h, {"h": h}

        @model
        def net(X=Input(T, N, D), h_0=Input(N, H), *, V=Param(H, H)):
            y, last = scan(rnn(H=4), X, init={"h": h_0}, reverse=True)
            return {"y": y, "h": linear(last["h"], V)}
        """
    assert print_python(user.graph(code, H=4)) == (
        '''\
"""net, printed from its graph."""

from lstmc import Input, Param, State, cell, linear, model, scan, tanh, uniform


@cell
def rnn_cell(
    x=Input(2, 5), h=State(2, 4), *, W=Param(4, 5, fill=uniform(-1, 1)), b=Param(4, lr_mult=2.0),
):
    h_next = tanh(linear(x, W, b) + 0.5 * h)
    return h_next, {"h": h_next}


@model
def net(
    X=Input(3, 2, 5), h_0=Input(2, 4), *, V=Param(4, 4),
):
    y, rnn_last = scan(rnn_cell(name="rnn"), X, init={"h": h_0}, reverse=True)
    h = linear(rnn_last["h"], V)
    return {"y": y, "h": h}
'''
    )


def test_a_value_has_another_name_than_a_cell(user: UserFile) -> None:
    code = """
        @cell
        def rnn(x=Input(N, D), h=State(N, D)):
            h = tanh(x + h)
            return h, {"h": h}

        @model
        def net(X=Input(T, N, D)):
            rnn_cell = tanh(X)
            return {"y": scan(rnn(), rnn_cell)[0]}
        """
    graph = user.graph(code)
    assert same(graph, traced_again(graph))


TIED = """
    @cell
    def up(x=Input(N, D), h=State(N, D), *, W=Param(D, D, name="tied", fill=uniform(-1, 1))):
        h = tanh(linear(x, W) + h)
        return h, {"h": h}

    @cell
    def down(x=Input(N, D), h=State(N, D), *, V=Param(D, D, name="tied", fill=FILL)):
        h = tanh(linear(x, V) - h)
        return h, {"h": h}

    @model
    def net(X=Input(T, N, D)):
        y, _ = scan(up(), X)
        return scan(down(), y, carry=True)[0]
    """


def test_cells_share_a_parameter_by_its_name(user: UserFile) -> None:
    graph = user.graph(TIED.replace("FILL", "uniform(-1, 1)"))
    assert [node.name for node in graph if isinstance(node.op, Param)] == ["tied"]
    assert same(graph, traced_again(graph))


def test_a_parameter_of_one_name_is_declared_alike(user: UserFile) -> None:
    assert user.refused(TIED.replace("FILL", "0")).startswith(
        "DslError: parameter tied is declared twice, and parameters of one name are one: expected Param("
    )


def test_ops_without_a_function_are_constructed(user: UserFile) -> None:
    code = """
        from tests.dsl import plugin_ops as ops

        @model
        def net(X=Input(N, 4)):
            low, high = op_results(ops.Halves(), X)
            return {"y": op(ops.Cube(), low), "z": high}
        """
    graph = user.graph(code)
    assert "op(Cube(), low)" in print_python(graph)
    assert same(graph, traced_again(graph))


def test_a_shift_of_zero_has_one_sign(user: UserFile) -> None:
    graph = user.graph('\n@model\ndef net(X=Input(T, D)):\n    return {"y": clip(X, 0.0, 6.0)}\n')
    assert same(graph, traced_again(graph))


def test_a_tuple_of_one_result_is_printed(user: UserFile) -> None:
    graph = user.graph(
        "\n@cell\ndef one(x=Input(N, D), h=State(N, D)):\n    h = tanh(x + h)\n    return (h,), {'h': h}\n"
        "\n@model\ndef net(X=Input(T, N, D)):\n    (y,), _ = scan(one(), X)\n    return {'y': y}\n"
    )
    assert same(graph, traced_again(graph))


def test_axes_are_printed_where_they_are_not_the_usual_ones(user: UserFile) -> None:
    text = print_python(
        user.graph(
            "\n@model\ndef net(X=Input(2, 3, 4), *, W=Param(5, 4), V=Param(5, 12)):\n"
            "    a, b = transpose(X), transpose(X, 1, 0, 2)\n"
            "    return {'a': a, 'b': b, 'c': linear(X, W), 'd': linear(X, V, axis=1)}\n"
        )
    )
    lines = [line.strip().partition(" = ")[2] for line in text.splitlines()]
    assert [line for line in lines if line.startswith(("transpose", "linear"))] == [
        "transpose(X)", "transpose(X, 1, 0, 2)", "linear(X, W)", "linear(X, V)",
    ]  # fmt: skip


def test_options_of_losses_and_accuracies_are_printed(user: UserFile) -> None:
    graph = user.graph(
        "\nfrom lstmc import accuracy, integers, softmax_loss\n"
        "\n@model\ndef net(X=Input(T, N, 9), L=Input(T, N, values=integers(0, 8))):\n"
        "    loss = softmax_loss(X, L, ignore_label=0, normalization='full')\n"
        "    return {'loss': loss, 'one': accuracy(X, L), 'two': accuracy(X, L, top_k=2, ignore_label=3)}\n"
    )
    assert same(graph, traced_again(graph))


@pytest.mark.parametrize(("option", "sizes"), [("pad", (0, 1)), ("stride", (1, 2)), ("dilation", (1, 2))])
def test_options_of_windows_are_printed(user: UserFile, option: str, sizes: tuple[int, int]) -> None:
    for pair in product(sizes, repeat=2):
        given = f"{option}={pair}"
        pools = "" if option == "dilation" else f"'a': max_pool(X, 2, {given}), 'b': ave_pool(X, 3, {given}), "
        graph = user.graph(
            "\n@model\ndef net(X=Input(N, 2, 6, 6), *, W=Param(2, 2, 3, 3)):\n"
            f"    return {{{pools}'c': conv(X, W, {given})}}\n"
        )
        assert same(graph, traced_again(graph))
