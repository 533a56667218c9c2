"""The graph a model is deployed as, and the graph it is trained by."""

from __future__ import annotations

import pytest

from lstmc import (
    Input,
    Param,
    State,
    accuracy,
    cell,
    dims,
    dropout,
    euclidean_loss,
    linear,
    mean,
    model,
    scan,
    softmax,
    softmax_loss,
    tanh,
)
from lstmc.errors import PassError
from lstmc.ir import Graph, Scan, print_graph
from lstmc.ops import Dropout
from lstmc.ops import Input as InputOp
from lstmc.prepare import deploy_graph, has_loss, training_graph
from lstmc.testing import assert_same_meaning

T, N, D = dims("T N D")


@cell
def judged(x=Input(N, D), wanted=Input(N, D), h=State(N, D), *, U=Param(D, D)):
    """A cell that also gives each step's loss."""
    h = tanh(linear(dropout(h, 0.3), U) + x)
    return {"h": h, "loss": euclidean_loss(h, wanted)}, {"h": h}


@model
def whole(X=Input(T, N, D), wanted=Input(T, N, D), label=Input(N), weight=Input(N, 1), unread=Input(2), W=Param(5, D)):
    y, last = scan(judged(), [X, wanted], carry=True)
    scores = linear(dropout(last["h"]), W)
    return {
        "prob": softmax(scores),
        "loss": softmax_loss(scores, label) + 0.5 * mean(y["loss"]),
        "accuracy": accuracy(scores, label),
        "weighted": last["h"] * weight,
        "size": mean(last["h"]),
    }


def names(graph: Graph) -> tuple[list[str], list[str]]:
    return [o.name for o in graph.outputs], [n.name for n in graph if isinstance(n.op, InputOp)]


def ops(graph: Graph) -> set[type]:
    found = {type(node.op) for node in graph}
    return found.union(*(ops(node.op.body) for node in graph if isinstance(node.op, Scan)))


def test_what_is_deployed_has_no_loss_no_labels_and_no_dropout() -> None:
    graph = whole.graph(T=3, N=2, D=4)
    deployed = deploy_graph(graph)
    assert names(deployed) == (["prob", "weighted", "judged/h_T"], ["X", "weight", "unread", "judged/h_0"])
    assert Dropout in ops(graph)
    assert Dropout not in ops(deployed)
    assert_same_meaning(graph.returning(["prob", "weighted", "judged/h_T"]), deployed, same_inputs=False)


def test_what_is_trained_has_losses_and_scores_and_what_goes_on() -> None:
    graph = whole.graph(T=3, N=2, D=4)
    trained = training_graph(graph)
    kept = ["loss", "accuracy", "size", "judged/h_T"]
    assert names(trained) == (kept, ["X", "wanted", "label", "unread", "judged/h_0"])
    assert Dropout in ops(trained)
    assert_same_meaning(graph.returning(kept), trained, same_inputs=False)
    assert has_loss(graph)
    assert has_loss(trained)
    assert not has_loss(deploy_graph(graph))


def test_a_model_without_a_loss_stays_as_it_is() -> None:
    @model
    def plain(X=Input(N, D)):
        return {"y": tanh(X), "size": mean(X)}

    graph = plain.graph(N=2, D=3)
    assert print_graph(deploy_graph(graph)) == print_graph(graph)


def test_a_model_without_a_loss_is_not_trained() -> None:
    @model
    def scored(X=Input(N, 3), label=Input(N)):
        return {"prob": softmax(X), "accuracy": accuracy(X, label)}

    with pytest.raises(PassError) as caught:
        training_graph(scored.graph(N=2))
    assert str(caught.value) == (
        "PassError: scored cannot be trained: expected an output called loss that is one number, such as"
        " softmax_loss(scores, labels), found prob f32[2,3], accuracy f32[]"
    )


def test_a_loss_of_several_numbers_is_not_trained() -> None:
    @model
    def spread(X=Input(N, 3)):
        return {"loss": X * X}

    with pytest.raises(PassError, match=r"^PassError: spread cannot be trained: .*, found loss f32\[2,3\]$"):
        training_graph(spread.graph(N=2))


def test_a_model_of_nothing_but_losses_is_not_deployed() -> None:
    @model
    def lost(X=Input(T, N, D), Y=Input(N, D)):
        _, last = scan(judged(), [X, X], carry=True)
        return {"loss": euclidean_loss(last["h"], Y)}

    with pytest.raises(PassError) as caught:
        deploy_graph(lost.graph(T=2, N=2, D=3))
    assert str(caught.value) == (
        "PassError: lost returns nothing but loss, which only training needs: return its other outputs too, such as"
        " scores"
    )
