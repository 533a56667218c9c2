"""What a model is trained by, and what of it is deployed: two graphs of one model."""

from __future__ import annotations

from collections import Counter

from lstmc.errors import PassError
from lstmc.ir import Graph, Output, Rebuild, depending
from lstmc.ops import Dropout
from lstmc.passes.dead import without_dead
from lstmc.prepare.without import without

LOSS = "loss"  # the output that training makes small


def deploy_graph(graph: Graph) -> Graph:
    """The model as it is used: without losses and scores, and what only they need; with all of its inputs otherwise.

    1. an output that depends on a loss or a score        => nothing; beside a ``loss`` so is every single number
    2. an input that only such outputs depend on (labels) => nothing
    3. dropout(x)                                         => x

    Raises :class:`PassError` for a model that has nothing else.
    """
    training = _for_training(graph)
    kept = [output for output in graph.outputs if output not in training]
    if all(output.carried_to for output in kept):
        raise PassError(
            f"{graph.name} returns nothing but {', '.join(o.name for o in training)}, which training alone needs:"
            " return what the model is for too, such as its scores"
        )
    return without(_part(graph, kept, training) if training else graph, Dropout)


def training_graph(graph: Graph) -> Graph:
    """The model as it is trained: its losses and scores and what they need. ``loss`` is what training makes small.

    1. an output that no loss or score is in     => nothing, unless an input takes it in the next batch
    2. an input that only such outputs depend on => nothing

    Raises :class:`PassError` for a model without a scalar output called ``loss``.
    """
    training = _for_training(graph)
    found = ", ".join(f"{o.name} {graph.type(o.ref)}" for o in graph.outputs)
    if LOSS not in [output.name for output in training]:
        raise PassError(
            f"{graph.name} cannot be trained: expected an output called {LOSS} that is one number, such as"
            f" softmax_loss(scores, labels), found {found}"
        )
    kept = [output for output in graph.outputs if output in training or output.carried_to]
    return _part(graph, kept, [output for output in graph.outputs if output not in kept])


def has_loss(graph: Graph) -> bool:
    """Whether a model can be trained."""
    return LOSS in [output.name for output in _for_training(graph)]


def _for_training(graph: Graph) -> list[Output]:
    """The outputs that are losses or scores; beside a loss every single number is one."""
    found = depending(graph, lambda node: node.op.for_training)
    numbers = {o.ref for o in graph.outputs if graph.type(o.ref).shape == ()}
    if any(o.name == LOSS and o.ref in numbers for o in graph.outputs):
        found |= numbers
    return [o for o in graph.outputs if o.ref in found]


def _part(graph: Graph, kept: list[Output], dropped: list[Output]) -> Graph:
    """The graph of some of the outputs; the inputs that only the others need are gone too."""
    live = without_dead(graph.returning([output.name for output in kept]), Counter())
    needed, unneeded = live.needed(), graph.needed([output.ref for output in dropped])
    rebuild = Rebuild(live)
    for node in live:
        if node.name in needed or node.name not in unneeded:
            rebuild.copy(node)
    return rebuild.finish()
