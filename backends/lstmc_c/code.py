"""The C of a step, from its plan: nested loops, and a text for each op that has special loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import prod

import numpy as np

from lstmc.ir import Node
from lstmc.loops.index import Axis, Shape, counter
from lstmc.loops.loop_code import LoopCode
from lstmc.loops.memory import Array, Loop, Place, Store, Value, with_elements
from lstmc.loops.nests import Nest
from lstmc.ops import AvePool, Conv, Embed, Full, Input, Largest, Linear, Max, MaxPool, Op, Param, Softmax, Sum
from lstmc.ops.layers import Pool
from lstmc.text import Names, quoted
from lstmc_c.elements import ALONG, ELEMENTS, INDEPENDENT, INDICES, C, Code, Use, View, along, at, nest
from lstmc_c.ops import MOVES, WIDTH, GroupedProduct, LaneProduct, Turns, Written
from lstmc_c.plan import Operation, Plan, Step

LANES, FEWEST = 8, 32  # partial sums that are computed together, and the fewest elements for that
PANEL = 32  # rows of a matrix that a product computes together
# The most weights of a convolution, stored in fewer bits, that are widened together; at least 8 rows are.
MOST_WIDENED = 4096
# names that the C of a step uses besides those of functions and arrays
OWN = (
    *("state", "work", "weights", "memory", "steps", "sizes", "taps", "first", "totals", "sum", "most", "largest"),
    *("value", "has_value", "row", "rows", "line", "column", "columns", "LANES", "VECTOR", "ALIGNED", INDEPENDENT),
)


def comment(node: Node) -> str:
    """Return a comment for a node: its name, its op, and the user's line."""
    return quoted(f"{node.name}: {node.op.name}{f'  {node.loc}' if node.loc else ''}", "comment")


class StepCode(LoopCode):
    """Writes the lines of loops in C. ``variables`` gives each variable a unique name."""

    language, expressions = C, ELEMENTS

    def __init__(self, step: Step, variables: Names) -> None:
        super().__init__(step.values, step.memory, step.stores, step.within, variables)

    def _name(self, node: Node) -> str:
        if node.name not in self._names:
            self._names[node.name] = self._unique.unique(node.name.rpartition("/")[2])
        return self._names[node.name]

    def comment(self, node: Node) -> str:
        return comment(node)

    def reduction(self, node: Node) -> Loop:
        """Return the loop of a sum, whose total is a variable; :meth:`summed` makes the result of the total."""
        loop = super().reduction(node)
        assert loop.summed is not None
        (x, y), total = loop.summed, self._unique.unique("sum")
        loop.summed, loop.lines = (x, total), [Store(y, self.summed(node, total), False, False)]
        return loop

    def summed(self, node: Node, total: str) -> str:
        """Return the expression of a sum's result, from the variable ``total``."""
        return total


class Writer:
    """Writes the C of a plan's loops and operations. ``arrays`` has the C name of each array of the caller and of each
    weight, by its kind and its name in the plan; with ``half`` matrices are float16."""

    variable = "float"  # the type of a value in a loop

    def __init__(self, plan: Plan, arrays: Mapping[tuple[str, str], str], names: Names, half: bool = False) -> None:
        self.plan, self.arrays, self.names, self.half = plan, arrays, names, half
        self.code, self.base = Code(), 0  # where its scratch memory begins

    def loop_code(self, step: Step) -> LoopCode:
        """Return the writer of the lines in a step's loops."""
        return StepCode(step, self.names)

    def step(self) -> list[str]:
        for work in self.plan.works:
            if isinstance(work, Loop):
                self._loop(work)
            else:
                self.code.add(f"// {comment(work.node)}")
                self._operation(work)
        return self.code.lines

    # the places of elements ------------------------------------------------------------------------------------------

    def _array(self, place: Place, use: Use = "value") -> tuple[str, int]:
        """Return the C name of a place's array, and its first element's index there. Buffers share ``memory``."""
        array = place.array
        if array.kind == "buffer":
            return "memory", self.base + self.plan.offsets[array] + place.offset
        if array.kind == "weight":  # a constant of one loop has its name in C
            return self.arrays.get((use, array.name), array.name), place.offset
        text, offset = self._of_caller(self.kind(array), array.name)
        return text, offset + place.offset

    def _of_caller(self, kind: str, name: str) -> tuple[str, int]:
        """Return the name of an array of the caller, and the index of its first element."""
        return f"{'state->' * (kind == 'state')}{self.arrays[kind, name]}", 0

    def kind(self, array: Array) -> str:
        return "output" if array.kind == "top" else "state" if array.name in self.plan.states else "input"

    def _element(
        self, view: View, strides: Iterable[int], more: int | str = "", indices: Sequence[str] = INDICES,
        array: str = "",
    ) -> str:  # fmt: skip
        """Return an element of a view as C. ``more`` is added to the index: a term, or a stride of the inner loop."""
        text, offset = self._array(view.place, view.use)
        index = at(offset, strides, indices)
        term = {0: "", 1: ALONG}.get(more, f"{more} * {ALONG}") if isinstance(more, int) else more
        if term:
            index = term if index == "0" else f"{index} + {term}"
        return f"{array or text}[{index}]"

    def _address(self, view: View, strides: Iterable[int]) -> str:
        array, offset = self._array(view.place, view.use)
        index = at(offset, strides)
        return array if index == "0" else f"{array} + {index}"

    # loops -----------------------------------------------------------------------------------------------------------

    def _store(self, array: Array, element: str, value: str) -> None:
        self.code.add(f"{element} = {value};")

    def _loop(self, loop: Loop) -> None:
        """Write a loop: nested loops over its axes, and inside them the sum, if any, and its lines."""
        for text in dict.fromkeys(loop.comments):
            self.code.add(f"// {text}")
        axes, texts, results = self._nest(loop)
        length, inner = loop.axis
        along = [axis for axis in axes if loop.summed and inner <= axis.divisor < inner * length]
        outside = [axis for axis in axes if axis not in along]
        if loop.summed and inner > 1 and self.variable == "float":  # partial sums of neighbours in memory
            with self.code.nested(outside):
                self.code.add(f"{results[-1]} = 0.0f;")
            with self.code.nested(axes):
                self.code.add(f"{results[-1]} += {with_elements(loop.summed[0], texts.__getitem__)};")
            return
        with self.code.nested(outside, loop.independent):
            if loop.summed:
                self._sum(loop.summed[1], with_elements(loop.summed[0], texts.__getitem__), along)
            for line in loop.lines:
                assert not isinstance(line, str)
                value = with_elements(line.value, results.__getitem__)
                if isinstance(line, Value):
                    self.code.add(f"const {self.variable} {line.name} = {value};")
                else:
                    number = int(line.element.strip("@"))
                    self._store(loop.pointers[loop.elements[number][0]][0].array, results[number], value)

    def _sum(self, total: str, x: str, along: Sequence[Axis]) -> None:
        """Write a sum into the variable ``total``; many floats are added in ``LANES`` sums, so that C has vectors."""
        (*_, axis) = along or [Axis("", 1, 1)]
        if self.variable != "float" or len(along) != 1 or axis.size % LANES or axis.size < FEWEST:
            self.code.add(f"{self.variable} {total} = 0;")
            with self.code.nested(along):
                self.code.add(f"{total} += {x};")
            return
        lanes, each = self.names.unique(f"{total}_lanes"), f"for (size_t {ALONG} = 0; {ALONG} < {LANES}; ++{ALONG})"
        moved = re.sub(rf"\b{axis.counter}\b", f"({axis.counter} + {ALONG})", x)
        self.code.add(f"float {total} = 0, {lanes}[{LANES}] = {{0}};")
        head = f"for (size_t {axis.counter} = 0; {axis.counter} < {axis.size}; {axis.counter} += {LANES})"
        with self.code.block(head):
            self.code.add(f"{each} {lanes}[{ALONG}] += {moved};")
        self.code.add(f"{each} {total} += {lanes}[{ALONG}];")

    def _nest(self, loop: Loop) -> tuple[Sequence[Axis], list[str], list[str]]:
        """Return a loop's nested loops, and its elements as C: in the innermost loop, and before a loop of a sum."""
        axes: Sequence[Axis] = Nest((loop,)).axes()
        name, first, (length, inner) = "", "", loop.axis  # C of an element's place, if one counter gives it
        if not axes and loop.count > 1:  # indices need divisions
            axes = [Axis("j", length * inner if loop.summed else 1, loop.size)]
            name = first = "j"
            if loop.summed:
                high, low = counter(loop.size).divided(inner)
                axes.append(Axis("k", inner, length))
                first = f"({(high * (length * inner) + low).text('j', loop.size)})"
                name = f"({first[1:-1]} + k * {inner})"
        texts: tuple[list[str], list[str]] = ([], [])
        for pointer, index in loop.elements_by_count():
            array, offset = self._array(loop.pointers[pointer][0])
            moved = index + offset
            for found, at_counter in zip(texts, (name, first), strict=True):
                found.append(f"{array}[{moved.text(at_counter, loop.count) if at_counter else moved.in_nest(axes)}]")
        return axes, *texts

    # ops with special loops -------------------------------------------------------------------------------------------

    def _operation(self, work: Operation) -> None:
        kind = Linear if isinstance(work.op, Linear) else type(work.op)
        WRITERS[kind](self, work.op, View.of(work.y, work.shape), *work.reads)

    def linear(self, op: Linear, y: View, x: View, w: View, b: View | None = None) -> None:
        """Write a product as a call of a C function for all rows or for each row, or as loops for a computed matrix."""
        ins, outs = x.shape[-1], y.shape[-1]
        columns = [view.without(-1) for view in (y, x, *([] if b is None or b.shape != y.shape else [b]))]
        lead, (to, of, *added) = nest(y.shape[:-1], columns)
        if w.of_weight:
            product, *matrix = self._matrix(w)
            many = {"product": "products", "product_of_bands": "products_of_bands"}.get(product)
            if many and len(lead) == 1 and not (added and any(added[0])):
                arrays = [self._address(y, ()), str(to[0]), self._address(x, ()), str(of[0]), *matrix]
                arrays.append("0" if b is None else self._address(b, ()))
                self.code.add(f"{many}({', '.join(arrays)}, {outs}, {ins}, {lead[0]});")
                return
            with self.code.loops(lead):
                bias = "0" if b is None else self._address(b, added[0] if added else ())
                arrays = [self._address(y, to), self._address(x, of), *matrix, bias]
                self.code.add(f"{product}({', '.join(arrays)}, {outs}, {ins});")
            return
        self._products(y, x, w, b)

    def lanes(self, op: LaneProduct, y: View, x: View, w: View, b: View | None = None) -> None:
        """Write a product in lanes as a call of ``product_of_lanes`` for each index of the leading axes."""
        (*_, ins, lanes), outs = x.shape, y.shape[-2] * y.shape[-1]
        lead, (to, of) = nest(y.shape[:-2], [view.without(-1).without(-1) for view in (y, x)])
        bias = "0" if b is None else self._address(b, ())
        with self.code.loops(lead):
            arrays = [self._address(y, to), self._address(x, of), self._address(w, ()), bias]
            self.code.add(f"product_of_lanes({', '.join(arrays)}, {outs}, {ins}, {lanes});")

    def groups(self, op: GroupedProduct, y: View, x: View, w: View) -> None:
        """Write a product of groups: for each group a call of the C function for several rows, or for one row."""
        (rows, groups, ins), outs = x.shape, y.shape[-1]
        with self.code.loops([groups]):
            to, of, matrix = (self._address(view, view.strides[at : at + 1]) for view, at in ((y, 1), (x, 1), (w, 0)))
            if rows > 1:
                apart = y.strides[0], x.strides[0]
                self.code.add(f"products({to}, {apart[0]}, {of}, {apart[1]}, {matrix}, 0, {outs}, {ins}, {rows});")
            else:
                self.code.add(f"product({to}, {of}, {matrix}, 0, {outs}, {ins});")

    def turns(self, op: Turns, y: View, *reads: View) -> None:
        """Write several iterations as a loop: copy the first states, and write the body, which works in place."""
        inner, (result, at) = self.plan.inner[op], self._array(y.place)
        turn = self.names.unique("turn")
        inside = Inside(self, op, turn)
        inner.schedule(inside.loop_code)
        with self.code.block():
            for output, size in zip(op.body.outputs, op.sizes(), strict=True):
                state = next((pair.before for pair in op.states if pair.after == output.name), None)
                place = ("output", output.name) if state is None else ("state", state)
                inside.at(*place, result, at, op.body.type(output.ref).size)
                at += size
            for leaf, view in zip(op.leaves, reads, strict=False):
                array, start = self._array(view.place, view.use)
                if leaf.name in inner.states:
                    to, first = inside.where["state", leaf.name]
                    with self.code.loops([leaf.types[0].size]):
                        self.code.add(f"{to}[{first} + i] = {array}[{start} + i];")
                else:
                    inside.at("input", leaf.name, array, start, leaf.types[0].size)
            with self.code.block(f"for (size_t {turn} = 0; {turn} < {op.length}; ++{turn})"):
                self.code.lines += [f"{'  ' * self.code.depth}{line}" for line in inside.pointers]
                inside.step()
        self.plan.scratch = max(self.plan.scratch, inner.work + inner.scratch)

    def _matrix(self, w: View) -> tuple[str, ...]:
        """Return the C function for a product with a constant matrix, and the arrays of the matrix that it takes."""
        array, _ = self._array(w.place, w.use)
        if (scale := self._scale(w)) is not None:
            return "product_int8", array, scale
        if (bands := self.arrays.get(("panel bands", w.place.array.name))) is not None:
            return "product_of_bands", array, bands
        return "product_float16" if self.half else "product", array

    def _number(self, w: View, element: str) -> str:
        return f"half_to_float({element})" if self.half and w.of_weight else element

    def _scale(self, w: View) -> str | None:
        """Return the name of the array with the scale of each row of a matrix of integers; None for other matrices."""
        return self.arrays.get((f"{w.use} scale", w.place.array.name))

    def _times_scale(self, w: View, row: str) -> str:
        scale = self._scale(w)
        return "" if scale is None else f" * {scale}[{row}]"

    def _products(self, y: View, x: View, w: View, b: View | None) -> None:
        """Write a product with a computed matrix as plain loops, which read the matrix by its strides."""
        lead, none = y.shape[:-1], (0,)
        rows = replace(w, shape=y.shape, strides=(*none * len(lead), w.strides[0]))
        columns = replace(x, shape=y.shape, strides=(*x.strides[:-1], 0))
        bias = [] if b is None else [replace(b, shape=y.shape, strides=(*none * len(lead), b.strides[-1]))]
        sizes, (to, row, of, *more) = nest(y.shape, [y, rows, columns, *bias])
        first = self._element(bias[0], more[0]) if bias else "0.0f"
        factors = self._element(x, of, x.strides[-1]), self._element(w, row, w.strides[1])
        with self.code.loops(sizes):
            self.code.add(f"float sum = {first};")
            self.code.add(f"{along(x.shape[-1])} sum += {factors[0]} * {factors[1]};")
            self.code.add(f"{self._element(y, to)} = sum;")

    def most(self, op: Max, y: View, x: View) -> None:
        """Write loops that store the largest element along an axis. A NaN among the elements is the result."""
        first = x.without(op.axis)
        sizes, (to, of) = nest(y.shape, [y, first])
        with self.code.loops(sizes):
            self.code.add(f"{self.variable} most = {self._element(first, of)};")
            with self.code.block(along(x.shape[op.axis])):
                self.code.add(f"const {self.variable} value = {self._element(first, of, x.strides[op.axis])};")
                self.code.add("most = value > most || value != value ? value : most;")
            self._store(y.place.array, self._element(y, to), "most")

    def _slices(self, axis: int, y: View, x: View) -> tuple[Shape, str, str, str]:
        """Return the sizes of loops over all axes but this one, and as C: x's first element, x's and y's at ALONG."""
        y_first, x_first = y.without(axis), x.without(axis)
        sizes, (to, of) = nest(y_first.shape, [y_first, x_first])
        of_each = self._element(x_first, of, x.strides[axis])
        return sizes, self._element(x_first, of), of_each, self._element(y_first, to, y.strides[axis])

    def along(self, op: Softmax | Largest, y: View, x: View) -> None:
        """Write a softmax along an axis, or the 1 at the first largest value."""
        each = along(x.shape[op.axis])
        sizes, first, of_each, to_each = self._slices(op.axis, y, x)
        with self.code.loops(sizes):
            self.code.add(f"float most = {first};")
            if isinstance(op, Softmax):
                self.code.add("float sum = 0.0f;")
                self.code.add(f"{each} most = {of_each} > most ? {of_each} : most;")
                with self.code.block(each):
                    self.code.add(f"const float value = exp_({of_each} - most);")
                    self.code.add("sum += value;")
                    self.code.add(f"{to_each} = value;")
                self.code.add(f"{each} {to_each} /= sum;")
                return
            self.code.add("size_t largest = 0;")
            with self.code.block(each), self.code.block(f"if ({of_each} > most)"):
                self.code.add(f"most = {of_each};")
                self.code.add(f"largest = {ALONG};")
            self.code.add(f"{each} {to_each} = {ALONG} == largest ? 1.0f : 0.0f;")

    def embed(self, op: Embed, y: View, x: View, w: View) -> None:
        """Write loops that copy the matrix row of each index, scaled if the matrix is stored as integers."""
        row = y.without(-1)
        sizes, (to, of) = nest(x.shape, [row, x])
        with self.code.loops(sizes):
            self.code.add(f"const size_t row = index_of({self._element(x, of)}, {w.shape[0]});")
            element = self._number(w, self._element(w, w.strides, indices=("row", ALONG)))
            element += self._times_scale(w, "row")
            self.code.add(f"{along(w.shape[1])} {self._element(row, to, y.strides[-1])} = {element};")

    def scratch(self, size: int) -> str:
        """Return the address of scratch memory for an op, which the op may use while it is computed."""
        self.plan.scratch = max(self.plan.scratch, size)
        return f"memory + {self.base + self.plan.work}"

    def conv(self, op: Conv, y: View, x: View, w: View, b: View | None = None) -> None:
        """Write a convolution as calls of functions if possible, else as loops that widen a weight as they read it."""
        if self._convolve(op, y, x, w, b):
            return
        bias = "0.0f" if b is None else self._element(b, (1,), indices=("o",))
        weight = self._number(w, self._element(w, w.strides, indices=("o", "m", "i", "j")))
        scaled = self._times_scale(w, "o")
        parts = ("0.0f", weight, f"sum{scaled} + {bias}") if scaled else (bias, weight, "sum")
        self._convolved(op, y, x, w, parts, "o")

    def _convolve(self, op: Conv, y: View, x: View, w: View, b: View | None) -> bool:
        """Write a convolution in floats as a call for each image and group, and return whether this was possible.
        Weights of fewer bits are first widened into scratch memory, a few rows at a time."""
        images = View.of(y.place, (prod(y.shape[:-3]), *y.shape[-3:]))
        if self.variable != "float":
            return False
        count, _, rows, width = images.shape
        outs, ins, kh, kw = w.shape[0] // op.group, *w.shape[1:]
        each = outs == 1 and ins == 1  # a window for each channel
        if not each and w.use != "windows":  # a computed matrix is not in panels
            return False
        _, yplane, yrow, _ = images.strides
        _, xplane, xrow, xcolumn = x.strides
        (to, at_y), (of, at_x), (matrix, at_w) = (self._array(view.place, view.use) for view in (y, x, w))
        bias, at_b = ("0", 0) if b is None else self._array(b.place, b.use)
        taps, padded = self._taps(op, x, w, width)
        lines = ins * kh * op.stride[1] * padded + WIDTH if padded else 0
        used = 8 * len(taps) * (not each) + lines or 1  # without scratch memory a step has no array ``memory``
        narrow = w.of_weight and (self.half or self._scale(w) is not None)  # fewer bits than float32
        total, scratch = w.shape[0], self.scratch(used)
        fits = [rows for rows in (PANEL, PANEL // 2) if rows * len(taps) <= MOST_WIDENED]
        panel = [*fits, PANEL // 4][0] if narrow and not each else total
        with self.code.block():
            self.code.add(f"static const uint32_t taps[] = {{{', '.join(map(str, taps))}}};")
            for first in range(0, total, panel):
                end, weights, start = min(first + panel, total), f"{matrix} + {at_w}", first
                if narrow:
                    weights = self._widened(w, range(first, end), len(taps), each, used)
                while start < end:  # the rows of one group
                    stop = end if each else min(end, (start // outs + 1) * outs)
                    rows_of = [1 if each else stop - start, ins, kh, kw, rows, width]
                    sizes = [*rows_of, *op.stride, *op.dilation, *op.pad, *x.shape[-2:], end - first, padded]
                    with self.code.block() if narrow else nullcontext():
                        if narrow or start == 0:
                            self.code.add(f"static const size_t sizes[] = {{{', '.join(map(str, sizes))}}};")
                        for n in range(count):
                            wide = f"{to} + {at_y + n * images.strides[0] + start * yplane}, {yplane}, {yrow}"
                            plane = 0 if each else start // outs * ins * xplane
                            from_ = f"{of} + {at_x + n * x.strides[0] + plane}, {xplane}, {xrow}, {xcolumn}"
                            added = "0" if b is None else f"{bias} + {at_b + first}"
                            function, last = ("convolve_each", op.group) if each else ("convolve", start - first)
                            arguments = f"{wide}, {from_}, {weights}, {added}, sizes, taps, {last}, {scratch}"
                            self.code.add(f"{function}({arguments});")
                    start = stop
        return True

    def _taps(self, op: Conv, x: View, w: View, width: int) -> tuple[list[int], int]:
        """Return the offsets of a window's elements in x, and 0; or in rows copied between zeros, and their width."""
        (_, ins, kh, kw), (_, xplane, xrow, xcolumn), (down, across) = w.shape, x.strides, op.dilation
        if op.stride[1] * xcolumn == 1 and not any(op.pad) and width >= WIDTH:
            return [m * xplane + i * down * xrow + j * across for m, i, j in np.ndindex(ins, kh, kw)], 0
        step = op.stride[1]
        padded = ((width - 1) * step + (kw - 1) * across) // step + 1
        at = [((m * kh + i) * step + j * across % step, j * across // step) for m, i, j in np.ndindex(ins, kh, kw)]
        return [line * padded + column for line, column in at], padded

    def _widened(self, w: View, rows: range, size: int, each: bool, used: int) -> str:
        """Write rows of weights in float32 into scratch memory after its ``used`` part, and return their address."""
        self.scratch(used + len(rows) * size)
        to, (array, at) = f"memory + {self.base + self.plan.work + used}", self._array(w.place, w.use)
        scale, (panel, row) = self._scale(w), divmod(rows.start, PANEL)
        start = f"{array} + {at + panel * PANEL * size + row}"
        stride = min(PANEL, w.shape[0] - panel * PANEL)
        if scale is None:
            sizes = (size, size, len(rows)) if each else (stride, len(rows), size)
            self.code.add(f"widen_float16({to}, {start}, {', '.join(map(str, sizes))});")
        elif each:  # a row after the other
            with self.code.loops([len(rows)]):
                element = f"[{size} * i + {ALONG}]"
                self.code.add(f"{along(size)} ({to}){element} = ({start}){element} * {scale}[i];")
        else:
            self.code.add(f"widen_int8({to}, {start}, {scale} + {rows.start}, {stride}, {len(rows)}, {size});")
        return to

    def _convolved(self, op: Conv, y: View, x: View, w: View, parts: tuple[str, str, str], channel: str) -> None:
        """Write a convolution as plain loops. ``parts`` are C expressions: the sum's initial value, an element of the
        matrix, and the result from the sum. ``channel`` is the name of the index of output channels."""
        images = View.of(y.place, (prod(y.shape[:-3]), *y.shape[-3:]))
        outs, ins = w.shape[0] // op.group, w.shape[1]
        image, plane, *pixel = x.strides
        start, weight, result = parts
        indices = ("n", channel, "k", "l")
        group = f"({channel} / {outs} * {ins} + m)" if op.group > 1 else "m"
        with self.code.loops(images.shape, indices):
            self.code.add(f"{self.variable} sum = {start};")
            with self.code.loops(w.shape[1:], ("m", "i", "j")):
                self.code.add(f"const size_t line = k * {op.stride[0]} + i * {op.dilation[0]};")
                self.code.add(f"const size_t column = l * {op.stride[1]} + j * {op.dilation[1]};")
                with self._inside(op.pad, x.shape[-2:]):
                    pixels = self._pixel(x, f"{image} * n + {plane} * {group}", pixel, op.pad)
                    self.code.add(f"sum += {pixels} * {weight};")
            self._store(y.place.array, self._element(images, images.strides, indices=indices), result)

    @contextmanager
    def _inside(self, pad: tuple[int, int], image: Sequence[int]) -> Iterator[None]:
        """Guard the lines added in the block by a test that line and column lie in the image and not in the padding."""
        checks = []
        for name, margin, size in zip(("line", "column"), pad, image, strict=True):
            checks += [f"{name} >= {margin}"] if margin else []
            checks.append(f"{name} < {margin + size}")
        with self.code.block(f"if ({' && '.join(checks)})"):
            yield

    def _pixel(self, x: View, image: str, strides: Sequence[int], pad: tuple[int, int]) -> str:
        """Return the element at line and column of a padded image."""
        terms = [
            f"{stride} * ({name} - {margin})" if margin else f"{stride} * {name}"
            for stride, name, margin in zip(strides, ("line", "column"), pad, strict=True)
        ]
        return self._element(x, (), " + ".join([image, *terms]))

    def pool(self, op: Pool, y: View, x: View) -> None:
        """Write a pooling: the largest element or the mean of each window, without the elements outside the image."""
        images = View.of(y.place, (prod(y.shape[:-2]), *y.shape[-2:]))
        image, *pixel = x.strides
        result = self._element(images, images.strides, indices=("n", "k", "l"))
        is_max, add = isinstance(op, MaxPool), self.code.add
        with self.code.loops(images.shape, ("n", "k", "l")):
            add("float most = 0.0f;" if is_max else "float sum = 0.0f;")
            if is_max:
                add("int has_value = 0;")
            with self.code.loops(op.size, ("i", "j")):
                add(f"const size_t line = k * {op.stride[0]} + i;")
                add(f"const size_t column = l * {op.stride[1]} + j;")
                with self._inside(op.pad, x.shape[-2:]):
                    element = self._pixel(x, f"{image} * n", pixel, op.pad)
                    if is_max:
                        add(f"const float value = {element};")
                        add("most = !has_value || value > most || value != value ? value : most;")
                        add("has_value = 1;")
                    else:
                        add(f"sum += {element};")
            if is_max:
                add(f"{result} = most;")
                return
            for name, index, stride, size, length, pad in zip(
                ("rows", "columns"), ("k", "l"), op.stride, op.size, x.shape[-2:], op.pad, strict=True
            ):  # a window that reaches beyond the padded image has fewer elements
                stop = length + 2 * pad
                left = f"{stop} - {index} * {stride}"
                add(f"const size_t {name} = {left} > {size} ? {size} : {left};")
            add(f"{result} = sum / (float)(rows * columns);")


class Inside(Writer):
    """Writes one iteration of a loop inside a step, in float32. ``where`` has the C name and the first index of each
    input and output of the body; ``pointers`` are lines that declare the arrays of an iteration."""

    def __init__(self, outer: Writer, op: Turns, turn: str) -> None:
        plan = outer.plan.inner[op]
        node = next(node for node in outer.plan.graph if node.op is op)
        outside = dict(zip((leaf.name for leaf in op.leaves), outer.plan.graph.args(node.name), strict=True))
        arrays: dict[tuple[str, str], str] = {  # of the body's weights, which are weights of the step
            (kind, plan.graph.value_name(ref)): outer.arrays[kind, name]
            for ref, use in plan.weights
            for kind in (use, f"{use} bands")
            if (kind, name := outer.plan.graph.value_name(outside[ref.node])) in outer.arrays
        }
        super().__init__(plan, arrays, outer.names)
        self.op, self.turn, self.code, self.base = op, turn, outer.code, outer.base + outer.plan.work
        self.where: dict[tuple[str, str], tuple[str, int]] = {}
        self.pointers: list[str] = []

    def at(self, kind: str, name: str, array: str, offset: int, size: int) -> None:
        """Note the place of an array of the body. The place of a sequence moves with each iteration, on or back."""
        backwards = self.op.sequences.get((kind, name))
        if backwards is None:
            self.where[kind, name] = array, offset
            return
        turn = f"({self.op.length - 1} - {self.turn})" if backwards else self.turn
        pointer, constant = self.names.unique(name), "const " * (kind == "input")
        self.pointers.append(f"{constant}float *const {pointer} = {array} + {offset} + {size} * {turn};")
        self.where[kind, name] = pointer, 0

    def _of_caller(self, kind: str, name: str) -> tuple[str, int]:
        return self.where[kind, name]


WRITERS: Mapping[type[Op], Callable[..., None]] = {
    Linear: Writer.linear, LaneProduct: Writer.lanes, GroupedProduct: Writer.groups, Turns: Writer.turns,
    Conv: Writer.conv, MaxPool: Writer.pool, AvePool: Writer.pool, Max: Writer.most, Largest: Writer.along,
    Softmax: Writer.along, Embed: Writer.embed,
}  # fmt: skip
OF_GRAPHS: tuple[type[Op], ...] = tuple(op for op in WRITERS if not issubclass(op, Written))
OPS: tuple[type[Op], ...] = (Input, Param, Full, Sum, *ELEMENTS, *OF_GRAPHS, *MOVES)
