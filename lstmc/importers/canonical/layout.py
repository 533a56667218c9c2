"""Remove transposes: a value may keep its axes in another order than the source's if no op depends on it.

Stock Caffe has no layer that transposes. Each value has a logical shape, the source's, and a physical order of axes; a
transpose changes the logical order and moves no element. If an op requires an order (time first in a scan, [N, C, H, W]
for images) and the physical order differs, a Transpose stays, written as pieces that are joined again. The order of the
inputs is chosen so that the fewest remain. The module is no ``Pass``, because it changes the order of a net's inputs
and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod

from lstmc.importers.ir.net import Net, body_of, with_body
from lstmc.importers.ir.ops import Einsum, Expand, Normalize, Permute, Where
from lstmc.importers.ir.values import OpenSize, Shape, Weight, result_shapes
from lstmc.ir import Scan
from lstmc.ops import Add, Binary, Concat, Conv, Input, Linear, Op, Reshape
from lstmc.ops.base import AlongAxis
from lstmc.ops.layers import Pool
from lstmc.ops.pointwise import covered_axes
from lstmc.passes.unrolled_steps import Step
from lstmc.source import SrcLoc
from lstmc.text import unused
from lstmc.types import TensorType

Order = tuple[int, ...]
UNKNOWN = 1000  # cost of a named size


def groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of neighbouring axes that a reshape keeps together, from the front: a list of axes of
    ``old``, and a list of axes of ``new``, both with the same number of elements."""
    i = j = 0
    pending: tuple[list[int], list[int]] | None = None
    while i < len(old) or j < len(new):
        mine: list[int] = []
        theirs: list[int] = []
        while not (mine or theirs) or prod(old[a] for a in mine) != prod(new[a] for a in theirs):
            short = prod(old[a] for a in mine) < prod(new[a] for a in theirs)
            if i < len(old) and (short or j == len(new) or not mine):
                mine.append(i)
                i += 1
            else:
                theirs.append(j)
                j += 1
        if pending is not None and (not mine or not theirs):  # sizes of 1 at the end belong to the last group
            pending = (pending[0] + mine, pending[1] + theirs)
            continue
        if pending is not None:
            yield pending
        pending = (mine, theirs)
    if pending is not None:
        yield pending


def regrouped(old: Shape, new: Shape, order: Sequence[int]) -> Order | None:
    """Return the new axes' order after a reshape of ``old`` in ``order``; None if that splits one of :func:`groups`."""
    new_order: list[int] = []
    parts = list(groups(old, new))
    wide = [axis for axis in order if old[axis] != 1]
    waiting = [([axis for axis in mine if old[axis] != 1], theirs) for mine, theirs in parts]
    while wide:
        group = next((part for part in waiting if part[0] and part[0][0] == wide[0]), None)
        if group is None or wide[: len(group[0])] != group[0]:
            return None
        new_order += group[1]
        wide = wide[len(group[0]) :]
        waiting.remove(group)
    # groups of size 1 keep the source's order
    for _, theirs in waiting:
        new_order += theirs
    return tuple(new_order)


def by_groups(old: Shape, new: Shape, order: Sequence[int]) -> Order:
    """Return the old axes in ``order``, with the axes of each of :func:`groups` moved together to the first of them."""
    parts = [mine for mine, _ in groups(old, new)]
    parts.sort(key=lambda mine: min(order.index(axis) for axis in [a for a in mine if old[a] != 1] or mine))
    return tuple(axis for mine in parts for axis in mine)


def with_biases(net: Net) -> Net:
    """Return the net in which vectors added to products that nothing else reads are biases, in bodies of loops too."""
    readers = Counter(name for step in net.steps for name in step.inputs)
    readers.update(net.outputs.values())
    products = [step for step in net.steps if isinstance(step.op, Linear) and len(step.inputs) == 2]
    alone = {step.outputs[0]: step for step in products if readers[step.outputs[0]] == 1}
    joined = {step.outputs[0]: pair for step in net.steps if (pair := _joined(net, step, alone)) is not None}
    if not joined and not any(isinstance(step.op, Scan) for step in net.steps):
        return net
    merged = {product.outputs[0] for product, _ in joined.values()}
    steps: list[Step] = []
    for step in net.steps:
        if step.outputs[0] in merged:
            continue
        if step.outputs[0] in joined:
            product, bias = joined[step.outputs[0]]
            step = replace(step, op=product.op, inputs=(*product.inputs, bias))
        elif isinstance(step.op, Scan):
            body = body_of(step.op, [net.params[name] for name in step.op.of_role("weight", step.inputs)])
            step = with_body(step, step.op, with_biases(body))[0]
        steps.append(step)
    return net.of_steps(steps)


def _joined(net: Net, step: Step, alone: dict[str, Step]) -> tuple[Step, str] | None:
    """Return the product of ``alone`` and the vector parameter that a step adds to it; None for any other step."""
    if not isinstance(step.op, Add):
        return None
    for x, b in (step.inputs, step.inputs[::-1]):
        if x in alone and b in net.params and net.shapes[b] == net.shapes[x][-1:]:
            return alone[x], b
    return None


def choose_layout(net: Net) -> Net:
    """Return the net in the cheapest layout of all orders that the inputs' axes may have, recorded in ``axes``."""
    choices = [_orders(shape)[: 1 if name in net.states else None] for name, shape in net.inputs.items()]
    tried = [_Layout(net, dict(zip(net.inputs, orders, strict=True))) for orders in product(*choices)]
    return min(tried, key=lambda layout: (layout.cost, layout.late_times())).net()


def _orders(shape: Shape) -> list[Order]:
    """Return orders of an input's axes to try: as is, time first, the first two exchanged, images' channels first."""
    rank = len(shape)
    orders = [tuple(range(rank))]
    opened = [axis for axis in range(2, rank) if isinstance(shape[axis], OpenSize)]
    orders += [(axis, *(a for a in range(rank) if a != axis)) for axis in opened]
    if rank >= 2:
        orders.append((1, 0, *range(2, rank)))
    if rank == 4:
        orders.append((0, 3, 1, 2))
    if rank == 5:
        orders += [(0, 1, 4, 2, 3), (1, 0, 4, 2, 3)]
    return orders


class _Layout:
    """The net rewritten for given orders of the inputs' axes. ``order[value][j]`` is the source's axis at position j of
    the array ``name[value]``, which holds the value; ``cost`` counts the elements that transposes move."""

    def __init__(self, source: Net, inputs: dict[str, Order]) -> None:
        self.source = source
        self.shapes = {name: tuple(source.inputs[name][a] for a in order) for name, order in inputs.items()}
        self.shapes |= {name: leaf.shape for name, leaf in source.leaves.items() if name not in inputs}
        self.order = {name: tuple(range(len(shape))) for name, shape in self.shapes.items()} | inputs
        self.name = {name: name for name in self.shapes}
        self.params = dict(source.params)
        self.derived: dict[str, str] = {}  # parameters in another order or shape, and their source
        self.steps: list[Step] = []
        self.cost = 0
        self.moved: dict[tuple[str, Order], str] = {}  # arrays with their axes permuted, shared by their consumers
        for step in source.steps:
            self._step(step)

    def net(self, outputs: Mapping[str, str] | None = None) -> Net:
        """Return the net in its new layout; ``outputs`` maps outputs' names to values, by default as in the source."""
        following = {*self.source.states.values()}
        for name, value in self.source.outputs.items():  # a state's next value has the order of the state's input
            if name in following and self.order[value] != self._plain(value):
                plain = self._plain(value)
                self.name[value] = self._aligned(value, plain, self.source.producers[value])
                self.order[value] = plain
        outputs = outputs or {name: self.name[value] for name, value in self.source.outputs.items()}
        axes = {name: self.order[name] for name in self.source.inputs}
        axes |= {name: self.order[value] for name, value in self.source.outputs.items()}
        own = self.source.leaves
        leaves = {name: replace(x, shape=self.shapes[name]) if isinstance(x, Input) else x for name, x in own.items()}
        names = self._names_of_params({*outputs.values()})
        steps = [replace(s, inputs=tuple(names.get(value, value) for value in s.inputs)) for s in self.steps]
        shapes = self.shapes | {name: self.shapes[own] for own, name in names.items()}
        params = self.params | {name: self.params[own] for own, name in names.items()}
        made = self.source.of_steps(steps, leaves, shapes, outputs, params)
        return replace(made, axes={name: order for name, order in axes.items() if order != tuple(range(len(order)))})

    def _plain(self, value: str) -> Order:
        """Return the source's order of a value's axes."""
        return tuple(range(len(self.order[value])))

    def _names_of_params(self, read: set[str]) -> dict[str, str]:
        """Return derived parameters' new names: the source parameter's, if nothing else reads or derives from it."""
        read |= {name for step in self.steps for name in step.inputs}
        roots = {name: self._root(name) for name in self.derived if name in read}
        alone = Counter(roots.values())
        return {name: root for name, root in roots.items() if root not in read and alone[root] == 1}

    def _root(self, name: str) -> str:
        """Return the source's parameter from which a parameter derives, or the parameter itself."""
        return self._root(self.derived[name]) if name in self.derived else name

    def late_times(self) -> int:
        """Return in how many inputs time is not the first axis: a net of one step needs time first."""
        return sum(size in self.source.time for name in self.source.inputs for size in self.shapes[name][1:])

    def _step(self, step: Step) -> None:
        """Add a step in the new layout: products, convolutions and loops need one order, others keep the operand's."""
        op, first = step.op, self.order[step.inputs[0]] if step.inputs else ()
        plain = tuple(range(len(first)))
        if isinstance(op, Permute):
            result = step.outputs[0]  # a view of the operand
            self.order[result], self.name[result] = tuple(map(op.axes.index, first)), self.name[step.inputs[0]]
        elif isinstance(op, Reshape):
            self._reshape(step)
        elif isinstance(op, Binary):
            self._binary(step)
        elif isinstance(op, Conv | Pool):
            operands = [self._aligned(value, self._plain(value), step) for value in step.inputs]
            self._put(op, operands, step, [tuple(range(len(self.source.shapes[name]))) for name in step.outputs])
        elif isinstance(op, Scan):
            self._scan(op, step)
        elif isinstance(op, Linear | Normalize):
            order = (*(axis for axis in first if axis != plain[-1]), plain[-1])
            operands = [self._aligned(step.inputs[0], order, step), *(self.name[value] for value in step.inputs[1:])]
            self._put(op, operands, step, [order])
        elif isinstance(op, Einsum):
            self._einsum(op, step)
        else:
            if isinstance(op, Where):  # the order of a value that is no parameter
                first = self.order[min(step.inputs[1:], key=lambda value: self.name[value] in self.params)]
            if isinstance(op, AlongAxis):
                op = replace(op, axis=first.index(op.axis))
            elif isinstance(op, Expand):
                op = Expand(tuple(op.shape[axis] for axis in first))
            same = isinstance(op, Concat | Where)
            operands = [self._aligned(value, first, step) if same else self.name[value] for value in step.inputs]
            self._put(op, operands, step, [self._order_after(step, first)] * len(step.outputs))

    def _order_after(self, step: Step, first: Order) -> Order:
        """Return the order of an op's result if its first operand has the order ``first``. New axes are last."""
        types = [TensorType(self.source.shapes[value]) for value in step.inputs]
        rules = [step.op.along(0, axis, *types) for axis in first]
        kept = [place for along in rules if along is not None and (place := along.results[0]) is not None]
        return (*kept, *(axis for axis in range(len(self.source.shapes[step.outputs[0]])) if axis not in kept))

    def _put(self, op: Op, operands: Sequence[str], step: Step, orders: Sequence[Order]) -> None:
        shapes = result_shapes(op, *(self.shapes[name] for name in operands))
        for name, shape, order in zip(step.outputs, shapes, orders, strict=True):
            self.shapes[name], self.order[name], self.name[name] = shape, order, name
        self.steps.append(Step(op, tuple(operands), step.outputs, step.loc))

    def _insert(self, op: Op, name: str, order: Order, hint: str, loc: SrcLoc | None) -> str:
        """Add a step that converts the array ``name``, and return its result, whose axes have the order ``order``."""
        result = unused(f"{name}_{hint}", lambda each: each in self.shapes or each in self.source.shapes)
        (self.shapes[result],) = result_shapes(op, self.shapes[name])
        self.order[result], self.name[result] = order, result
        self.steps.append(Step(op, (name,), (result,), loc))
        return result

    def _aligned(self, value: str, order: Order, step: Step) -> str:
        """Return the array of a value with its axes in ``order``; all views of an array share a conversion."""
        name, current = self.name[value], self.order[value]
        if current == order:
            return name
        axes = tuple(current.index(axis) for axis in order)  # the order of the array; several values may be views of it
        if (name, axes) not in self.moved:
            self.moved[name, axes] = self._moved(name, current, order, step)
        return self.moved[name, axes]

    def _moved(self, name: str, current: Order, order: Order, step: Step) -> str:
        """Return an array with its axes in ``order``: permuted weights, a reshape for axes of size 1, or a Permute."""
        axes = tuple(current.index(axis) for axis in order)
        shape = tuple(self.shapes[name][axis] for axis in axes)
        if name in self.params:
            permuted = self._derived(name, "".join(map(str, axes)), self.params[name].transposed(*axes))
            self.order[permuted], self.name[permuted] = order, permuted
            return permuted
        wide = [axis for axis in axes if self.shapes[name][axis] != 1]
        if wide == sorted(wide):
            return self._insert(Reshape(shape), name, order, "as", step.loc)
        moved = [axis for place, axis in enumerate(axes) if axis != place]
        self.cost += sum(UNKNOWN if isinstance(s, OpenSize) else s for s in (self.shapes[name][axis] for axis in moved))
        return self._insert(Permute(axes), name, order, "moved", step.loc)

    def _reshape(self, step: Step) -> None:
        """Add a reshape; a transpose comes first if it joins axes that are not neighbours in the value's order."""
        (value,), (result,) = step.inputs, step.outputs
        old, new = self.source.shapes[value], self.source.shapes[result]
        order = regrouped(old, new, self.order[value])
        name = self.name[value]
        if order is None:
            whole = by_groups(old, new, self.order[value])  # the other axes, such as time, stay where they are
            name, order = self._aligned(value, whole, step), regrouped(old, new, whole)
            assert order is not None
        order = self._time_in_front(new, order)
        shape = tuple(new[axis] for axis in order)
        if shape == self.shapes[name]:
            self.order[result], self.name[result] = order, name
        else:
            self._put(Reshape(shape), [name], step, [order])

    def _time_in_front(self, shape: Shape, order: Order) -> Order:
        """Return the order with time first if only axes of size 1 precede time, else the same order."""
        place = next((place for place, axis in enumerate(order) if shape[axis] in self.source.time), None)
        if place is None or any(shape[axis] != 1 for axis in order[:place]):
            return order
        return (order[place], *order[:place], *order[place + 1 :])

    def _binary(self, step: Step) -> None:
        """Add an element-wise op of two operands in the order of an operand with all axes, preferably no parameter."""
        rank = max(len(self.order[value]) for value in step.inputs)
        full = [value for value in step.inputs if len(self.order[value]) == rank]
        lead = next((value for value in full if self.name[value] not in self.params), full[0])
        order = self.order[lead]
        operands = [self._without_ones(self._spread(value, order, step)) for value in step.inputs]
        a, b = (self.shapes[name] for name in operands)
        if a != b and covered_axes(a, b) is None and covered_axes(b, a) is None:  # an axis of one element is repeated
            self.cost += sum(UNKNOWN if isinstance(s, OpenSize) else s for s in (*a, *b))
        self._put(step.op, operands, step, [order])

    def _without_ones(self, name: str) -> str:
        """Return a parameter without first axes of size 1, which broadcasting adds again, if the net has time."""
        shape = self.shapes[name]
        first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape) - 1)
        if name not in self.params or not self.source.time or not first:
            return name
        sizes = self.params[name].shape[first:]
        return self._derived(name, "x".join(map(str, sizes)), self.params[name].reshaped(*sizes))

    def _derived(self, name: str, hint: str, weight: Weight) -> str:
        """Add ``weight``, the parameter ``name`` in another order or shape, as a parameter, and return its name."""
        derived = f"{name}_{hint}"
        self.params[derived], self.derived[derived], self.shapes[derived] = weight, name, weight.shape
        return derived

    def _scan(self, op: Scan, step: Step) -> None:
        """Add a loop, whose body gets a layout of its own; its operands and results have the source's order of axes."""
        body = body_of(op, [self.params[name] for name in op.of_role("weight", step.inputs)])
        inner = _Layout(body, {name: tuple(range(len(shape))) for name, shape in body.inputs.items()})
        outputs = {name: inner._aligned(v, tuple(range(len(inner.order[v]))), step) for name, v in body.outputs.items()}
        roles = zip(step.inputs, map(op.role, range(len(step.inputs))), strict=True)
        operands = [v if role == "weight" else self._aligned(v, self._plain(v), step) for v, role in roles]
        moved, weights = with_body(replace(step, inputs=tuple(operands)), op, inner.net(outputs))
        self.params |= weights
        self.shapes |= {name: weight.shape for name, weight in weights.items()}
        self._put(moved.op, moved.inputs, step, [tuple(range(len(self.source.shapes[name]))) for name in step.outputs])

    def _einsum(self, op: Einsum, step: Step) -> None:
        """Add an einsum with permuted letters; its result has the first operand's axes, then more of the second's."""
        x = "".join(op.of_x[axis] for axis in self.order[step.inputs[0]])
        y = "".join(op.of_y[axis] for axis in self.order[step.inputs[1]])
        result = "".join(letter for letter in dict.fromkeys(x + y) if letter in op.of_result)
        order = tuple(op.of_result.index(letter) for letter in result)
        self._put(Einsum(x, y, result), [self.name[value] for value in step.inputs], step, [order])

    def _spread(self, value: str, order: Order, step: Step) -> str:
        """Return an operand in an order of more axes: missing axes get size 1, unless broadcasting adds them."""
        own, rank = self.order[value], len(order)
        missing = rank - len(own)
        if not missing:
            return self._aligned(value, order, step)
        mine = tuple(axis - missing for axis in order if axis >= missing)
        name = self._aligned(value, mine, step)
        if not mine:
            return name
        lead = next(place for place, axis in enumerate(order) if axis >= missing)
        if order[lead:] == tuple(axis for axis in order if axis >= missing):
            return name  # broadcasting adds the leading axes
        sizes = iter(self.shapes[name])
        shape = tuple(next(sizes) if axis >= missing else 1 for axis in order)[lead:]
        if name in self.params:
            return self._derived(name, "x".join(map(str, shape)), self.params[name].reshaped(*shape))
        return self._insert(Reshape(shape), name, tuple(range(len(shape))), "spread", step.loc)
