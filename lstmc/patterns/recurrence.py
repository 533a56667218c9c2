"""The recurrence of a group of states: its kind, the graph that computes its factors and offsets, and one step of it.

The part of a step that is linear in the states is a separate graph. The matrix of this linear map seldom mixes all
elements of a state: along ``kept`` axes elements do not mix, so that each place along them has a matrix of its own.
``shared`` axes are kept axes along which the matrices of all places are equal, as for the rows of a state that DeltaNet
multiplies by I - b k k^T. A mask of lengths has the values 0 and 1, and its gradient is zero everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

import numpy as np

from lstmc import ops
from lstmc.ir import NEGATE, Builder, Graph, Node, Output, Rebuild, Ref, Scan, broadcast
from lstmc.ops import Binary, Op, Pointwise, Values
from lstmc.source import SrcLoc
from lstmc.types import TensorType

__all__ = ["LEAST", "Kind", "MatrixStep", "Recurrence", "axes_of_one", "matrix_step", "operand_masks", "states_read"]

LEAST = -1e30  # below all other numbers, but float32 can still add it a few times without overflow


def states_read(body: Graph) -> list[set[int]]:
    """Return for each state of a body the numbers of the states that it depends on, after one step or more."""
    states = body.arguments("state")
    numbers = {name: number for number, name in enumerate(states)}
    following = body.outputs[len(body.outputs) - len(states) :]
    reads = [{numbers[name] for name in body.needed([output.ref]) & numbers.keys()} for output in following]
    for middle in range(len(states)):  # transitive closure
        for reached in reads:
            reached |= reads[middle] if middle in reached else set()
    return reads


class Kind(Enum):
    """The kind of linear map by which the next values of a group of states depend on these states."""

    DELAY = "values of a number of steps before"
    ELEMENTWISE = "times a factor, element by element"
    MAXIMUM = "plus a number, or a larger one"
    MATRIX = "times a matrix"


@dataclass(frozen=True)
class Recurrence:
    """The recurrence of a group of states, by their numbers among the scan's states.

    ``kind`` is None if the recurrence is not linear; then ``reasons`` has the reason for each state, and ``loc`` is the
    source line of the first. ``varies``: a factor differs from step to step. ``reads`` are the states of other groups
    that must be computed before this group. For the kinds ``DELAY``, ``ELEMENTWISE`` and ``MAXIMUM`` the graph ``step``
    is the body with factors and offsets among its values, in the state's shape; None is the neutral factor or offset.
    Factor (i, j) multiplies state j in the next value of state i. ``following`` are the values in ``step`` that are the
    next values of the states in ``reads``. With ``later`` the later of two equal values of a maximum gets the gradient.
    A state of the kind ``DELAY`` is forgotten after ``delay`` steps; for more than one step there are no factors and
    offsets.
    """

    states: tuple[int, ...]
    names: tuple[str, ...]
    reads: frozenset[int]
    kind: Kind | None
    varies: bool = False
    reasons: tuple[str, ...] = ()
    loc: SrcLoc | None = None
    step: Graph | None = None
    factors: Mapping[tuple[int, int], Ref | None] = field(default_factory=dict)
    offsets: Mapping[int, Ref | None] = field(default_factory=dict)
    following: Mapping[int, Ref] = field(default_factory=dict)
    later: bool = True
    delay: int = 0

    def description(self, state: int) -> str:
        """Return in words how the next value of a state, by its number, depends on the states of the group."""
        if self.kind is None:
            return f"sequential: {self.reasons[self.states.index(state)]}"
        if self.kind is Kind.DELAY:
            return f"parallel: it delays values by {self.delay} step{'s' if self.delay > 1 else ''}"
        factor = {Kind.ELEMENTWISE: "elementwise", Kind.MAXIMUM: "max-plus", Kind.MATRIX: "matrix"}[self.kind]
        group = f", in a group of {len(self.states)} states" if len(self.states) > 1 else ""
        factors = "differ from step to step" if self.varies else "are the same at every step"
        return f"linear: {factor}{group}, factors {factors}"


LAST = ops.Affine(-1.0, 1.0)


@dataclass(frozen=True)
class Mask:
    """A mask ``relu(1 - relu(n))`` of integers n: the value ``of``, or one minus that value if ``inverted``."""

    of: Ref
    inverted: bool


Masks = Mapping[str, Mask]
NO_MASKS: Masks = MappingProxyType({})


def mask_of(graph: Graph | Builder, ref: Ref, known: Masks = NO_MASKS) -> Mask | None:
    """Return the mask that a value is: ``relu(1 - relu(n))`` of integers n, an argument in ``known``, one minus a mask,
    or a reshaped mask. Return None for any other value."""
    inverted = False
    while ref.node not in known:
        op = graph.node(ref.node).op
        if isinstance(op, ops.Relu):
            (missing,) = graph.args(ref.node)
            left = graph.args(missing.node)[0] if graph.node(missing.node).op == LAST else missing
            whole = left != missing and isinstance(graph.node(left.node).op, ops.Relu) and _whole(graph, left)
            return Mask(ref, inverted) if whole else None
        if not isinstance(op, ops.Reshape) and op != LAST:
            return None
        inverted ^= op == LAST
        (ref,) = graph.args(ref.node)
    return Mask(known[ref.node].of, known[ref.node].inverted ^ inverted)


def operand_masks(graph: Graph | Builder, scan: Scan, operands: Sequence[Ref]) -> Masks:
    """Return the arguments of a scan's body that are masks of lengths, by name, judged by the scan's ``operands``."""
    named = zip(scan.body.arguments(), operands, strict=True)
    masks = {name: mask_of(graph, ref) for slot, (name, ref) in enumerate(named) if scan.role(slot) == "x"}
    return {name: mask for name, mask in masks.items() if mask}


def masked_sum(body: Graph, node: Node, known: Masks) -> list[tuple[Ref, Ref]]:
    """Return the pairs (mask, a) and (1 - mask, b) of a node ``mask * a + (1 - mask) * b``; [] for any other node."""
    parts = []
    for ref in body.args(node.name):
        product = body.node(ref.node)
        operands = body.args(product.name) if isinstance(product.op, ops.Mul) else ()
        for factor, value in zip(operands, operands[::-1], strict=True):
            if mask := mask_of(body, factor, known):
                parts.append((mask, factor, value))
    if len(parts) != 2 or replace(parts[0][0], inverted=not parts[0][0].inverted) != parts[1][0]:
        return []
    return [(factor, value) for _, factor, value in parts]


def _whole(graph: Graph | Builder, ref: Ref, known: frozenset[str] = frozenset()) -> bool:
    """Return whether all elements of a value are integers, judged by its nodes; those of arguments ``known`` are."""
    op, args = graph.node(ref.node).op, graph.args(ref.node)
    match op:
        case _ if ref.node in known:
            return True
        case ops.Input(values=values):
            return isinstance(values, ops.IntegerRange)
        case ops.Full(value=value):
            return float(value).is_integer()
        case ops.Param(fill=Values() as fill) if op.fixed:
            numbers = fill.draw(np.random.default_rng(0), fill.shape)
            return bool((numbers == np.floor(numbers)).all())
        case ops.Affine(scale=scale, shift=shift) if not (scale.is_integer() and shift.is_integer()):
            return False
        case Scan(body=body):
            arguments = zip(body.body_args(), args, strict=True)
            inside = frozenset(arg.name for arg, value in arguments if _whole(graph, value, known))
            results = [output.ref for output in (body.outputs[ref.out], *op.next_states)]
            return all(_whole(body, result, inside) for result in results)
    keeps = op.moves or isinstance(op, ops.Add | ops.Sub | ops.Affine | ops.Relu)
    return keeps and all(_whole(graph, arg, known) for arg in args)


Axes = frozenset[int]
NONE: Axes = frozenset()
NO_AXES: Mapping[str, Axes] = MappingProxyType({})


@dataclass(frozen=True)
class MatrixStep:
    """The part of a body that computes the next values of a group of states from these states, as graphs. The arguments
    of ``affine`` are the states, then the body's values ``operands``; its outputs are the next states. ``linear`` is
    the same graph without the added terms. ``kept`` and ``shared`` are axes of the states."""

    affine: Graph
    linear: Graph
    operands: tuple[Ref, ...]
    kept: tuple[int, ...]
    shared: tuple[int, ...]


def matrix_step(body: Graph, group: Sequence[int], same: Mapping[str, Axes]) -> MatrixStep:
    """Return the step of a group of states whose next values are affine in the states of the group. ``same`` has for
    each argument of the body the axes along which all elements are equal."""
    states = [body.arguments("state")[state] for state in group]
    following = [body.outputs[len(body.outputs) - len(body.arguments("state")) + state] for state in group]
    inside = body.dependents(set(states)) & body.needed([output.ref for output in following])
    varying = body.dependents(set(body.arguments("x", "state")))
    nodes = [node for node in body if node.name in inside and node.name not in states]
    read = dict.fromkeys(ref for node in nodes for ref in body.args(node.name) if ref.node not in inside)
    b = Builder(body.name)
    new: dict[Ref, Ref] = {}
    for ref in (*map(Ref, states), *read):
        role: ops.Role = "state" if ref.node in states else "x" if ref.node in varying else "static"
        (new[ref],) = b.add(ops.Arg(body.type(ref).shape, role), names=(body.value_name(ref),))
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
    """Return the graph without the terms that read no state: sums lose such operands, products their bias, and ops that
    move elements get zeros instead of such operands."""
    rebuild = Rebuild(affine)
    b = rebuild.builder
    reading = affine.dependents(set(affine.arguments("state")))
    for node in affine:
        args = affine.args(node.name)
        free = [ref.node not in reading for ref in args]
        match node.op:
            case ops.Add() | ops.Sub() if any(free):
                part = rebuild.new[args[free.index(False)]]
                if isinstance(node.op, ops.Sub) and free[0]:
                    (part,) = b.add(NEGATE, part)
                rebuild.put(node, (broadcast(b, part, node.types[0].shape),))
            case ops.Affine(scale=scale):
                rebuild.put(node, b.copy(node, rebuild.args(node), ops.Affine(scale, 0.0)))
            case ops.Linear() | ops.Conv():
                rebuild.copy(node, rebuild.args(node)[:2])
            case op if op.moves:
                each = zip(args, free, strict=True)
                shapes = {ref: affine.type(ref).shape for ref in args}
                rebuild.copy(node, [b.add(ops.Full(shapes[x]))[0] if alone else rebuild.new[x] for x, alone in each])
            case _:
                rebuild.copy(node)
    return rebuild.finish()


def _kept_axes(affine: Graph) -> tuple[int, ...]:
    """Return the axes of the states along which elements of the states do not mix in the next states."""
    shape, *others = (affine.type(Ref(name)).shape for name in affine.arguments("state"))
    if any(other != shape for other in others):
        return ()
    return tuple(axis for axis in range(len(shape)) if _keeps_apart(affine, axis))


def _keeps_apart(affine: Graph, axis: int) -> bool:
    """Return whether no op mixes elements along an axis, and the axis has the same place in every next state."""
    places: dict[Ref, int | None] = {Ref(name): axis for name in affine.arguments("state")}
    for node in affine:
        args = affine.args(node.name)
        slot = next((slot for slot, ref in enumerate(args) if ref in places), None)
        if slot is None:
            continue
        along = node.op.along(slot, places[args[slot]], *map(affine.type, args))  # type: ignore[arg-type]
        if along is None or along.op is None or None in along.results:
            return False
        if any(places.get(ref, place) != place for ref, place in zip(args, along.operands, strict=True)):
            return False
        places.update((Ref(node.name, out), place) for out, place in enumerate(along.results))
    return all(places.get(output.ref, axis) == axis for output in affine.outputs)


def _same_after(affine: Graph, same: Mapping[str, Axes], axis: int) -> bool:
    """Return whether states whose elements are equal along an axis have next values with equal elements along it."""
    along: dict[Ref, Axes] = {}
    for node in affine:
        if isinstance(node.op, ops.Arg):
            axes: tuple[Axes, ...] = (frozenset({axis}) if node.op.role == "state" else same.get(node.name, NONE),)
        else:
            operands = [(affine.type(ref).shape, along[ref]) for ref in affine.args(node.name)]
            axes = tuple(same_axes(node.op, operands, type_.shape) for type_ in node.types)
        along.update((Ref(node.name, out), each) for out, each in enumerate(axes))
    return all(axis in along[output.ref] for output in affine.outputs)


def axes_of_one(graph: Graph | Builder, ref: Ref, same: Mapping[str, Axes] = NO_AXES) -> Axes:
    """Return the axes along which all elements of a value are equal, judged by its nodes; ``same`` has leaves' axes."""
    node = graph.node(ref.node)
    if ref.node in same:
        return same[ref.node]
    if not isinstance(node.op, ops.Full | ops.Tile | ops.Reshape | ops.Transpose | Binary | Pointwise):
        return NONE
    operands = [(graph.type(arg).shape, axes_of_one(graph, arg, same)) for arg in graph.args(ref.node)]
    return same_axes(node.op, operands, graph.type(ref).shape)


def same_axes(op: Op, operands: Sequence[tuple[tuple[int, ...], Axes]], shape: tuple[int, ...]) -> Axes:
    """Return the axes along which all elements of an op's result are equal, from each operand's shape and such axes."""
    if isinstance(op, ops.Full):
        return frozenset(range(len(shape)))
    types = [TensorType(own) for own, _ in operands]
    same: dict[int, bool] = {}
    for slot, (own, axes) in enumerate(operands):
        for axis, size in enumerate(own):
            along = op.along(slot, axis, *types)
            if along is not None and (place := along.results[0]) is not None:
                alike = (size == 1 or axis in axes) and (along.op is not None or isinstance(op, ops.Split | ops.Tile))
                same[place] = same.get(place, True) and alike
    return frozenset(axis for axis, alike in same.items() if alike)
