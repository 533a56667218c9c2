"""One step of a linear recurrence as a graph of its own: its linear part, and what its matrix has in common.

The matrix of a step is seldom one of all elements of a state. Axes along which elements do not mix are ``kept``: each
place of theirs has a matrix of its own. Of these, ``shared`` ones have the same matrix at each place, as the rows of a
state that DeltaNet multiplies by I - b k k^T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lstmc.ir import NEGATE, Builder, Graph, Output, Rebuild, Ref, broadcast
from lstmc.ops import (
    Add,
    Affine,
    Arg,
    Array,
    Binary,
    Conv,
    Full,
    Linear,
    Op,
    Pointwise,
    Reshape,
    Role,
    Split,
    Sub,
    Sum,
    Tile,
    Transpose,
)
from lstmc.patterns.recurrence import MOVES, state_arguments

Numbers = NDArray[np.int64]
Axes = frozenset[int]
NONE: Axes = frozenset()
NO_AXES: Mapping[str, Axes] = MappingProxyType({})
NOWHERE = -(2**31)
VARYING = ("x", "state")


@dataclass(frozen=True)
class MatrixStep:
    """The nodes of a body that read a group of its states, on what they read besides.

    Arguments of ``affine`` are the states, then the body's values ``operands``; its outputs are the next states. The
    same of ``linear``, without what is added to the states. ``kept`` and ``shared`` are axes of the states.
    """

    affine: Graph
    linear: Graph
    operands: tuple[Ref, ...]
    kept: tuple[int, ...]
    shared: tuple[int, ...]


def matrix_step(body: Graph, group: Sequence[int], same: Mapping[str, Axes]) -> MatrixStep:
    """Return the step of a group of states that are affine in themselves.

    ``same`` has the axes along which all elements of an argument of the body are one.
    """
    states = [state_arguments(body)[state] for state in group]
    following = [body.outputs[len(body.outputs) - len(state_arguments(body)) + state] for state in group]
    inside = body.dependents(set(states)) & body.needed([output.ref for output in following])
    varying = body.dependents({a.name for a in body.body_args() if isinstance(a.op, Arg) and a.op.role in VARYING})
    nodes = [node for node in body if node.name in inside and node.name not in states]
    read = dict.fromkeys(ref for node in nodes for ref in body.args(node.name) if ref.node not in inside)
    b = Builder(body.name)
    new: dict[Ref, Ref] = {}
    for ref in (*map(Ref, states), *read):
        role: Role = "state" if ref.node in states else "x" if ref.node in varying else "static"
        (new[ref],) = b.add(Arg(body.type(ref).shape, role), names=(body.value_name(ref),))
    for node in nodes:
        refs = b.copy(node, [new[ref] for ref in body.args(node.name)])
        new.update((Ref(node.name, out), ref) for out, ref in enumerate(refs))
    affine = b.finish([Output(output.name, new[output.ref]) for output in following])
    kept = _kept_axes(affine)
    linear = _linear_part(affine)
    own = {new[ref].node: axes_of_one(body, ref, same) for ref in read}
    shared = tuple(axis for axis in kept if _same_after(linear, own, axis))
    return MatrixStep(affine, linear, tuple(read), kept, shared)


def _linear_part(affine: Graph) -> Graph:
    rebuild = Rebuild(affine)
    b = rebuild.builder
    reading = affine.dependents(set(state_arguments(affine)))
    for node in affine:
        args = affine.args(node.name)
        free = [ref.node not in reading for ref in args]
        match node.op:
            case Add() | Sub() if any(free):
                part = rebuild.new[args[free.index(False)]]
                if isinstance(node.op, Sub) and free[0]:
                    (part,) = b.add(NEGATE, part)
                rebuild.put(node, (broadcast(b, part, node.types[0].shape),))
            case Affine(scale=scale):
                rebuild.put(node, b.copy(node, rebuild.args(node), Affine(scale, 0.0)))
            case Linear() | Conv():
                rebuild.copy(node, rebuild.args(node)[:2])
            case op if isinstance(op, MOVES):
                parts = [
                    b.add(Full(affine.type(ref).shape, 0.0))[0] if is_free else rebuild.new[ref]
                    for ref, is_free in zip(args, free, strict=True)
                ]
                rebuild.copy(node, parts)
            case _:
                rebuild.copy(node)
    return rebuild.finish()


def _kept_axes(affine: Graph) -> tuple[int, ...]:
    """The axes of the states along which no element of a next state reads one at another place."""
    shape, *others = (affine.type(Ref(name)).shape for name in state_arguments(affine))
    if any(other != shape for other in others):
        return ()
    places = np.indices(shape)
    return tuple(
        axis
        for axis in range(len(shape))
        if all(
            ((last == NOWHERE) | ((last == places[axis]) & (first == -places[axis]))).all()
            for last, first in zip(_last_read(affine, places[axis]), _last_read(affine, -places[axis]), strict=True)
        )
    )


def _last_read(affine: Graph, places: Numbers) -> list[Numbers]:
    """Return for each element of the next states the largest place among the elements of the
    states that it depends on.
    """
    states = state_arguments(affine)
    last: dict[Ref, Numbers] = {}
    for node in affine:
        operands = [last[ref] for ref in affine.args(node.name)]
        results: Sequence[Numbers]
        match node.op:
            case Arg(shape=shape):
                results = (places if node.name in states else np.full(shape, NOWHERE),)
            case op if isinstance(op, MOVES):
                moved: Sequence[Array] = op.eval(*(x.astype(float) for x in operands))
                results = [np.asarray(array, np.int64) for array in moved]
            case Binary() | Pointwise():
                results = (reduce(np.maximum, operands),)
            case Sum(axis=axis):
                results = (operands[0].max(axis),)
            case Linear(axis=axis):
                row = operands[0].reshape(*operands[0].shape[:axis], -1).max(-1, keepdims=True)
                results = (np.broadcast_to(row, node.types[0].shape),)
            case _:
                results = [np.full(type_.shape, -NOWHERE) for type_ in node.types]
        last.update((Ref(node.name, out), array) for out, array in enumerate(results))
    return [last[output.ref] for output in affine.outputs]


def _same_after(affine: Graph, same: Mapping[str, Axes], axis: int) -> bool:
    """Return whether states with equal elements along an axis keep this property."""
    along: dict[Ref, Axes] = {}
    for node in affine:
        if isinstance(node.op, Arg):
            axes: tuple[Axes, ...] = (frozenset({axis}) if node.op.role == "state" else same.get(node.name, NONE),)
        else:
            operands = [(affine.type(ref).shape, along[ref]) for ref in affine.args(node.name)]
            axes = tuple(same_axes(node.op, operands, type_.shape) for type_ in node.types)
        along.update((Ref(node.name, out), each) for out, each in enumerate(axes))
    return all(axis in along[output.ref] for output in affine.outputs)


def axes_of_one(graph: Graph | Builder, ref: Ref, same: Mapping[str, Axes] = NO_AXES) -> Axes:
    """Return the axes along which all elements of a value are equal, by the nodes that compute it; ``same`` has those
    of leaves.
    """
    node = graph.node(ref.node)
    if ref.node in same:
        return same[ref.node]
    if not isinstance(node.op, Full | Tile | Reshape | Transpose | Binary | Pointwise):
        return NONE
    operands = [(graph.type(arg).shape, axes_of_one(graph, arg, same)) for arg in graph.args(ref.node)]
    return same_axes(node.op, operands, graph.type(ref).shape)


def same_axes(op: Op, operands: Sequence[tuple[tuple[int, ...], Axes]], shape: tuple[int, ...]) -> Axes:
    """Return the axes along which a result of this shape has equal elements, from the operands'
    shapes and such axes.
    """
    if isinstance(op, Binary | Pointwise):
        padded = [
            ((1,) * (len(shape) - len(own)) + own, {axis + len(shape) - len(own) for axis in axes})
            for own, axes in operands
        ]
        return frozenset(d for d in range(len(shape)) if all(own[d] == 1 or d in axes for own, axes in padded))
    (own, axes), *_ = operands or [((), NONE)]
    match op:
        case Full():
            return frozenset(range(len(shape)))
        case Tile(axis=axis):
            return axes - {axis} | ({axis} if own[axis] == 1 or axis in axes else NONE)
        case Transpose(axis=axis):
            return frozenset({axis: axis + 1, axis + 1: axis}.get(d, d) for d in axes)
        case Sum(axis=axis):
            return frozenset(d - (d > axis) for d in axes if d != axis)
        case Linear(axis=axis):
            return frozenset(d for d in axes if d < axis)
        case Split(axis=axis):
            return axes
        case Reshape():
            places = {(prod(own[:d]), own[d]) for d in axes}
            return frozenset(d for d in range(len(shape)) if (prod(shape[:d]), shape[d]) in places)
    return NONE
