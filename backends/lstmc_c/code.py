"""The C of a step, from its plan: one nest of loops for each group of ops on elements, one for each other op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from lstmc.ir import Ref
from lstmc.ops import AvePool, Conv, Embed, Full, Input, Largest, Linear, Max, MaxPool, Op, Param, Softmax, Sum
from lstmc.ops.layers import Pool
from lstmc.text import Names, quoted
from lstmc_c.elements import ELEMENTS, MOVES, Shape, View, nest, operand
from lstmc_c.plan import Item, Plan, Use

PANEL = 32  # rows of a matrix whose sums a product computes together
INDICES = ("i", "j", "k", "l", "m", "n", "o", "p", "q", "r")
ALONG = "s"  # the index of an inner loop
# the other names that a step has
OWN = (
    "state",
    "work",
    "weights",
    "memory",
    "steps",
    "sum",
    "most",
    "largest",
    "value",
    "row",
    "line",
    "column",
    "rows",
    "columns",
    "has_value",
    "first",
    "totals",
)


@dataclass
class Code:
    """Lines of C under construction."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def add(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    @contextmanager
    def block(self, opening: str = "") -> Iterator[None]:
        """Enclose the lines that are added inside the block in braces."""
        self.add(f"{opening} {{".lstrip())
        self.depth += 1
        yield
        self.depth -= 1
        self.add("}")

    @contextmanager
    def loops(self, sizes: Sequence[int], indices: Sequence[str] = INDICES) -> Iterator[None]:
        """Enclose the lines that are added inside in nested loops of these sizes; without sizes, in braces."""
        if not sizes:
            with self.block():
                yield
            return
        for index, size in zip(indices, sizes, strict=False):
            self.add(f"for (size_t {index} = 0; {index} < {size}; ++{index}) {{")
            self.depth += 1
        yield
        for _ in sizes:
            self.depth -= 1
            self.add("}")


def at(offset: int, strides: Iterable[int], indices: Sequence[str] = INDICES) -> str:
    """Return an index into an array: ``12 + 64 * i + j``."""
    terms = [
        index if stride == 1 else f"{stride} * {index}"
        for index, stride in zip(indices, strides, strict=False)
        if stride
    ]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms])


def along(size: int) -> str:
    """Return the head of the inner loop."""
    return f"for (size_t {ALONG} = 0; {ALONG} < {size}; ++{ALONG})"


class Writer:
    """Writes the groups of a plan. ``arrays`` has the C name of each array of the caller and of each weight, by its
    memory and its name in the plan; ``half``: matrices are float16."""

    variable = "float"  # the type of a value in a loop
    elementwise: tuple[type[Op], ...] = tuple(ELEMENTS)

    def __init__(self, plan: Plan, arrays: Mapping[tuple[str, str], str], names: Names, half: bool = False) -> None:
        self.plan, self.arrays, self.names, self.half = plan, arrays, names, half
        self.code = Code()

    def step(self) -> list[str]:
        """Return the lines of the step's function."""
        for group in self.plan.groups:
            self._comment(group)
            if group[0].op is None or type(group[0].op) in self.elementwise:
                self._elements(group)
            else:
                self._other(group[0])
        for moves in (self.plan.first_moves, self.plan.last_moves):
            for move in moves:
                self.code.add(f"// {quoted(self._target_name(move.target), 'comment')}")
                self._copy(move.target, move.source)
        return self.code.lines

    def _target_name(self, view: View) -> str:
        place = self.plan.places[view.base]
        return place.name or f"a state's next value, {view.base.node}"

    def _comment(self, group: Sequence[Item]) -> None:
        lines: dict[str, None] = {}
        for item in group:
            where = f"  {item.node.loc}" if item.node.loc else ""
            op = item.node.op.name if item.op is not None else f"copied for {item.node.op.name}"
            lines[quoted(f"{item.node.name}: {op}{where}", "comment")] = None
        for line in lines:
            self.code.add(f"// {line}")

    # where elements are ----------------------------------------------------------------------------------------------

    def _array(self, view: View, use: Use = "value") -> tuple[str, int]:
        """Return the array of a view's base, and the index there of the first element of the view."""
        place = self.plan.places[view.base]
        name = {"work": "memory", "state": f"state->{self.arrays.get(('state', place.name))}"}.get(place.memory)
        memory = use if place.memory == "weight" else place.memory
        return name or self.arrays[memory, place.name], place.offset + view.offset

    def _element(
        self,
        view: View,
        strides: Iterable[int],
        more: int | str = "",
        indices: Sequence[str] = INDICES,
        use: Use = "value",
        array: str = "",
    ) -> str:
        """Return an element of a view. ``more`` is added to the index: a term, or the stride of the inner loop.
        ``array`` has the elements of the view's base, if another array than its own does."""
        if use == "value" and view.base in self.plan.numbers:
            return operand(self.plan.numbers[view.base])
        array, offset = (array, view.offset) if array else self._array(view, use)
        index = at(offset, strides, indices)
        term = {0: "", 1: ALONG}.get(more, f"{more} * {ALONG}") if isinstance(more, int) else more
        if term:
            index = term if index == "0" else f"{index} + {term}"
        return f"{array}[{index}]"

    def _address(self, view: View, strides: Iterable[int], use: Use = "value") -> str:
        array, offset = self._array(view, use)
        index = at(offset, strides)
        return array if index == "0" else f"{array} + {index}"

    # ops on elements -------------------------------------------------------------------------------------------------

    def _copy(self, target: View, source: View) -> None:
        sizes, (to, of) = nest(target.shape, [target, source])
        with self.code.loops(sizes):
            self._store(target, self._element(target, to), self._element(source, of))

    def _store(self, view: View, element: str, value: str) -> None:
        """Write that an element of a view gets a value."""
        self.code.add(f"{element} = {value};")

    def _value(self, item: Item, reads: Sequence[str]) -> str:
        """Return an element of the result of an op on elements."""
        return reads[0] if item.op is None else ELEMENTS[type(item.op)](item.op, *reads)

    def _read(self, item: Item, slot: int, strides: Iterable[int]) -> str:
        """Return an element of an operand of an op on elements."""
        return self._element(item.reads[slot], strides)

    def _elements(self, group: Sequence[Item]) -> None:
        """Write one nest of loops. All stores come last: a later op may read the state that a value overwrites."""
        views = [view.like(np.squeeze(view.cells)) for item in group for view in (item.result, *item.reads)]
        sizes, strides = nest(views[0].shape, views)
        following = iter(strides)
        variables: dict[Ref, str] = {}
        stores = []
        with self.code.loops(sizes):
            for item in group:
                to, *of = [next(following) for _ in (item.result, *item.reads)]
                reads = [
                    variables.get(item.reads[slot].base) or self._read(item, slot, steps)
                    for slot, steps in enumerate(of)
                ]
                op = item.op
                value = self._value(item, reads)
                stored = self.plan.places[item.base].memory != "loop"
                if len(group) > 1 and not (op is None and item.reads[0].base in variables):
                    name = self.names.unique(item.node.name.rpartition("/")[2])
                    self.code.add(f"const {self.variable} {name} = {value};")
                    value = variables[item.base] = name
                if stored:
                    stores.append((item.result, self._element(item.result, to), value))
            for store in stores:
                self._store(*store)

    # ops with loops of their own -------------------------------------------------------------------------------------

    def _other(self, item: Item) -> None:
        assert item.op is not None
        WRITERS[type(item.op)](self, item.op, item.result, *item.reads)

    def linear(self, op: Linear, y: View, x: View, w: View, b: View | None = None) -> None:
        ins, outs = x.shape[-1], y.shape[-1]
        columns = [view.like(view.cells[..., 0]) for view in (y, x, *([] if b is None or b.shape != y.shape else [b]))]
        lead, (to, of, *added) = nest(y.shape[:-1], columns)
        if (w.base, "panel") in self.plan.weights:
            product, *matrix = self._matrix(w)
            with self.code.loops(lead):
                bias = "0" if b is None else self._address(b, added[0] if added else (), use="bias")
                arrays = [self._address(y, to), self._address(x, of), *matrix, bias]
                self.code.add(f"{product}({', '.join(arrays)}, {outs}, {ins});")
            return
        self._products(y, x, w, b)

    def _matrix(self, w: View) -> tuple[str, ...]:
        """Return the function of a product with a constant matrix, and the arrays of that."""
        array, _ = self._array(w, "panel")
        name = self.plan.places[w.base].name
        if ("panel scale", name) in self.arrays:
            return "product_int8", array, self.arrays["panel scale", name]
        return "product_float16" if self.half else "product", array

    def _number(self, element: str) -> str:
        """Return an element of a matrix of numbers of its own, as float."""
        return f"half_to_float({element})" if self.half else element

    def _times_scale(self, w: View, row: str) -> str:
        """Return the factor of a row of a matrix of integers."""
        scale = self.arrays.get(("matrix scale", self.plan.places[w.base].name))
        return "" if scale is None else f" * {scale}[{row}]"

    def _products(self, y: View, x: View, w: View, b: View | None) -> None:
        """Write a product with a matrix that is computed."""
        rows = w.like(np.broadcast_to(w.cells[:, 0], y.shape))
        columns = x.like(np.broadcast_to(x.cells[..., :1], y.shape))
        bias = [] if b is None else [b.broadcast(y.shape)]
        sizes, (to, row, of, *more) = nest(y.shape, [y, rows, columns, *bias])
        first = self._element(bias[0], more[0], use="bias") if bias else "0.0f"
        factors = self._element(x, of, x.cells.strides[-1]), self._element(w, row, w.cells.strides[1])
        with self.code.loops(sizes):
            self.code.add(f"float sum = {first};")
            self.code.add(f"{along(x.shape[-1])} sum += {factors[0]} * {factors[1]};")
            self.code.add(f"{self._element(y, to)} = sum;")

    def reduction(self, op: Sum | Max, y: View, x: View) -> None:
        first = x.like(np.moveaxis(x.cells, op.axis, 0)[0, ...])
        sizes, (to, of) = nest(y.shape, [y, first])
        element = self._element(first, of, x.cells.strides[op.axis])
        with self.code.loops(sizes):
            if isinstance(op, Sum):
                self.code.add("float sum = 0.0f;")
                self.code.add(f"{along(x.shape[op.axis])} sum += {element};")
                self.code.add(f"{self._element(y, to)} = sum;")
                return
            self.code.add(f"float most = {self._element(first, of)};")
            with self.code.block(along(x.shape[op.axis])):
                self.code.add(f"const float value = {element};")
                self.code.add("most = value > most || value != value ? value : most;")
            self.code.add(f"{self._element(y, to)} = most;")

    def _slices(self, axis: int, y: View, x: View) -> tuple[Shape, str, str, str]:
        """Return the loops over all but ``axis``; inside, the first element of x, and one of x and of y along it."""
        y_first, x_first = (view.like(np.moveaxis(view.cells, axis, 0)[0, ...]) for view in (y, x))
        sizes, (to, of) = nest(y_first.shape, [y_first, x_first])
        of_each = self._element(x_first, of, x.cells.strides[axis])
        return sizes, self._element(x_first, of), of_each, self._element(y_first, to, y.cells.strides[axis])

    def along(self, op: Softmax | Largest, y: View, x: View) -> None:
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
        row = y.like(y.cells[..., 0])
        sizes, (to, of) = nest(x.shape, [row, x])
        with self.code.loops(sizes):
            self.code.add(f"const size_t row = index_of({self._element(x, of)}, {w.shape[0]});")
            element = self._number(self._element(w, w.cells.strides, indices=("row", ALONG), use="matrix"))
            element += self._times_scale(w, "row")
            self.code.add(f"{along(w.shape[1])} {self._element(row, to, y.cells.strides[-1])} = {element};")

    def scratch(self, size: int) -> str:
        """Return memory for an op to use while it is computed."""
        self.plan.scratch = max(self.plan.scratch, size)
        return f"memory + {self.plan.work}"

    def conv(self, op: Conv, y: View, x: View, w: View, b: View | None = None) -> None:
        if self._convolve(op, y, x, w, b):
            return
        bias = "0.0f" if b is None else self._element(b, (1,), indices=("o",), use="bias")
        weight = self._number(self._element(w, w.cells.strides, indices=("o", "m", "i", "j"), use="matrix"))
        scaled = self._times_scale(w, "o")
        parts = ("0.0f", weight, f"sum{scaled} + {bias}") if scaled else (bias, weight, "sum")
        self._convolved(op, y, x, w, parts, "o")

    def _convolve(self, op: Conv, y: View, x: View, w: View, b: View | None) -> bool:
        """Write a convolution in float32 as calls of functions, one for each image and group; return whether it was."""
        images = y.reshaped((-1, *y.shape[-3:]))
        name = self.plan.places[w.base].name
        if images is None or self.half or self.variable != "float" or ("matrix scale", name) in self.arrays:
            return False
        if images.cells.strides[-1] != 1 or not w.dense(4) or min(*images.cells.strides, *x.cells.strides) < 0:
            return False
        count, _, rows, width = images.shape
        outs, ins, kh, kw = w.shape[0] // op.group, *w.shape[1:]
        if outs == 1 and ins == 1 and x.cells.strides[-1] != 1:
            return False
        sizes = [outs, ins, kh, kw, rows, width, *op.stride, *op.dilation, *op.pad, *x.shape[-2:]]
        _, yplane, yrow, _ = images.cells.strides
        _, xplane, xrow, xcolumn = x.cells.strides
        (to, at_y), (of, at_x), (matrix, at_w) = self._array(y), self._array(x), self._array(w, "matrix")
        bias, at_b = ("0", 0) if b is None else self._array(b, "bias")
        with self.code.block():
            self.code.add(f"static const size_t sizes[] = {{{', '.join(map(str, sizes))}}};")
            each = outs == 1 and ins == 1
            groups = 1 if each else op.group
            if not each:
                columns = self.scratch(16 * ins * kh * kw)
            for n in range(count):
                for g in range(groups):
                    wide = f"{to} + {at_y + n * images.cells.strides[0] + g * outs * yplane}, {yplane}, {yrow}"
                    from_ = f"{of} + {at_x + n * x.cells.strides[0] + g * ins * xplane}, {xplane}, {xrow}"
                    added = "0" if b is None else f"{bias} + {at_b + g * outs}"
                    weights = f"{matrix} + {at_w + g * outs * ins * kh * kw}"
                    if each:
                        self.code.add(f"convolve_each({wide}, {from_}, {weights}, {added}, sizes, {op.group});")
                    else:
                        self.code.add(f"convolve({wide}, {from_}, {xcolumn}, {weights}, {added}, sizes, {columns});")
        return True

    def _convolved(self, op: Conv, y: View, x: View, w: View, parts: tuple[str, str, str], channel: str) -> None:
        """Write a convolution. ``parts`` are expressions: the sum's initial value, an element of the matrix, and the
        result from the sum; ``channel`` is the name of the output channel's index.
        """
        images = y.reshaped((-1, *y.shape[-3:]))
        assert images is not None
        outs, ins = w.shape[0] // op.group, w.shape[1]
        image, plane, *pixel = x.cells.strides
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
            self._store(y, self._element(images, images.cells.strides, indices=indices), result)

    @contextmanager
    def _inside(self, pad: tuple[int, int], image: Sequence[int]) -> Iterator[None]:
        """Guard the lines that are added inside by a test that line and column lie in the image, not in its padding."""
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
        images = y.reshaped((-1, *y.shape[-2:]))
        assert images is not None
        image, *pixel = x.cells.strides
        result = self._element(images, images.cells.strides, indices=("n", "k", "l"))
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
            ):  # a window that ends behind the padded image has fewer places
                stop = length + 2 * pad
                left = f"{stop} - {index} * {stride}"
                add(f"const size_t {name} = {left} > {size} ? {size} : {left};")
            add(f"{result} = sum / (float)(rows * columns);")


WRITERS: Mapping[type[Op], Callable[..., None]] = {
    Linear: Writer.linear,
    Conv: Writer.conv,
    MaxPool: Writer.pool,
    AvePool: Writer.pool,
    Sum: Writer.reduction,
    Max: Writer.reduction,
    Largest: Writer.along,
    Softmax: Writer.along,
    Embed: Writer.embed,
}
OPS: tuple[type[Op], ...] = (Input, Param, Full, *ELEMENTS, *WRITERS, *MOVES)
