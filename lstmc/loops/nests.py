"""The loops of a step as C++ for a CPU, as nests over the axes of values. Adjacent loops share a nest if possible.
Nests work on vectors in tiles, whose operands and sums stay in registers; sums of rows are added as trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from lstmc.loops.index import Axis, Index, nest_of
from lstmc.loops.memory import Loop, Place, Product, Store, Task, Value, with_elements

MOST_LANES = 16  # the most floats of a vector: see vectors.h
COUNTS = (16, 8, 4, 2, 1)  # rows of a tile; and its floats of a row, in units of MOST_LANES, if the row is a multiple
# floats of a register, and registers for a tile, of 32 or of 16: see vectors.h
REGISTERS = {"#if defined(__AVX512F__)": (16, 24), "#elif defined(__AVX__)": (8, 12), "#else": (4, 12)}


def fits_vectors(loops: Sequence[Loop], axes: Sequence[Axis]) -> bool:
    """Return whether the innermost of the nested loops ``axes`` consists of whole vectors, in which each operand is a
    vector or one number."""
    inner = axes[-1]
    if inner.size % MOST_LANES or not all(loop.arithmetic for loop in loops):
        return False
    for loop in loops:
        written = {pointer for pointer, (_, is_written) in loop.pointers.items() if is_written}
        of_row = loop.summed is not None and loop.axis[1] == 1  # it writes one number of a row
        for pointer, index in loop.elements_by_count():
            whole = pointer in written and not of_row
            if index.stride(inner) not in ((1,) if whole else (0, 1)):
                return False
    return True


class _Operands:
    """The texts of a nest's elements, in a tile: some rows by some vectors. A value that is the same for all rows, or
    for all vectors of a row, is read once before the loop over them. A value that the nest has written is in a
    register; elements of arrays in ``memory`` are read from memory even then."""

    def __init__(
        self, axes: Sequence[Axis], rows: Axis | None, loops: Sequence[Loop], names: Mapping[Place, str]
    ) -> None:
        # in a tile, i counts rows and j counts vectors of LANES floats
        counters = {rows: "({} + i)", axes[-1]: "({} + j * LANES)"}
        self._axes = [replace(axis, counter=counters.get(axis, "{}").format(axis.counter)) for axis in axes]
        self._rows, self._inner, self._names = rows, axes[-1], names
        self._written = {place.array for loop in loops for place, written in loop.pointers.values() if written}
        self._read: dict[tuple[Place, Index], str] = {}  # the names of values that are read before a loop
        self.registers: dict[str, str] = {}  # by the address of an element that is written, the value's name
        self.memory: set[str] = set()

    def numbers(self, by_row: bool) -> list[str]:
        """Return the lines that read numbers shared by all vectors of a row (``by_row``), or of a tile."""
        return [f"const float {name} = {self._element(*key)};" for name, key in self._once(by_row, False)]

    def of_columns(self) -> list[tuple[str, str]]:
        """Return the vectors that all rows share: the array of vectors, and the element from which each is read."""
        return [(name.partition("[")[0], self._element(*key)) for name, key in self._once(False, True)]

    def _once(self, row: bool, column: bool) -> list[tuple[str, tuple[Place, Index]]]:
        """Return name, place and index of values read before a loop that vary by ``row`` and ``column`` as given."""
        return [(name, key) for key, name in self._read.items() if self.varies(key[1]) == (row, column)]

    def varies(self, index: Index) -> tuple[bool, bool]:
        """Return whether an element differs from row to row, and whether it differs from vector to vector."""
        return self._rows is not None and index.stride(self._rows) != 0, index.stride(self._inner) != 0

    def of(self, loop: Loop) -> tuple[Callable[[int], str], Callable[[int], str]]:
        """Return two functions from the number of a loop's element to its text: for reading, and for writing."""
        elements = [(loop.pointers[pointer][0], index) for pointer, index in loop.elements_by_count()]
        return lambda at: self._value(*elements[at]), lambda at: self._address(*elements[at])

    def _value(self, place: Place, index: Index) -> str:
        """Return the text of an element that is read: a register, a variable read before, or an element in memory."""
        if place.array in self._written:
            if self._address(place, index) in self.registers:
                return self.registers[self._address(place, index)]
            self.memory.add(place.array.name)
            return self._element(place, index)
        row, column = self.varies(index)
        if row and column:
            return self._element(place, index)
        return self._read.setdefault((place, index), f"at_{len(self._read)}{'[j]' if column else ''}")

    def _element(self, place: Place, index: Index) -> str:
        if index.stride(self._inner):
            return f"at({self._address(place, index)})"
        return f"{self._names[place]}[{index.in_nest(self._axes)}]"

    def _address(self, place: Place, index: Index) -> str:
        return f"{self._names[place]} + {index.in_nest(self._axes)}"


def in_vectors(
    loops: Sequence[Loop], axes: Sequence[Axis], names: Mapping[Place, str], own: Set[str], registers: tuple[int, int]
) -> list[str]:
    """Return the lines of a nest of loops, in tiles: some rows by some vectors, as many as ``registers`` hold. The rows
    are the iterations of the second innermost loop. If a tile is as wide as a row, or there is no sum over a row, the
    rows are the inner loop (``across``): values that they share are read once, and the sums of rows stay in registers.
    ``own`` are arrays that nothing else uses: the nest has their elements in registers and does not write them."""
    inner = axes[-1]
    lengths = [loop.axis[0] for loop in loops if loop.summed and loop.axis[1] == 1]
    outer = [axis for axis in axes if lengths and axis.divisor >= lengths[0]]  # each with separate sums
    rows = axes[-2] if len(axes) > 1 and (not lengths or len(axes) - len(outer) == 1) else None
    operands = _Operands(axes, rows, loops, names)
    body = _Body(loops, operands, rows, names)
    columns, carried = operands.of_columns(), body.carried
    count, width, across = _tile(inner, rows, len(columns) + len(carried), len(body.sums), *registers)
    vectors = f"{width} / LANES"
    element = _each("j", vectors, [line for line, array in body.lines if array not in own - operands.memory])
    lines = _each("i", f"{count}", [*operands.numbers(by_row=True), *element])
    kept, zeros = [*columns], body.zeros
    for name, y, zero, whole in carried:
        zeros += [] if whole and across else [zero]
        kept.append((name, "vector{}" if whole and across else f"at({y})"))
    order = (*axes[:-2], inner, *axes[-2:-1]) if across else axes
    for axis in reversed(order):
        if axis == inner:
            lines = [
                *operands.numbers(by_row=False),
                *(_registers(name, vectors) for name, _ in kept),
                *_each("j", vectors, [f"{name}[j] = {begun};" for name, begun in kept]),
                *lines,
                *_each("j", vectors, [f"at({y}) = {name}[j];" for name, y, _, _ in carried]),
            ]
        if outer and axis == outer[-1]:
            lines = _with_sums(body.sums, count, lines)
        lines = _over(axis, width if axis == inner else count if axis == rows else 1, lines)
    return [*zeros, *(lines if outer else _with_sums(body.sums, count, lines))]


class _Body:
    """The lines of a nest's loops, each with the array that it writes, and the sums that registers hold."""

    def __init__(
        self, loops: Sequence[Loop], operands: _Operands, rows: Axis | None, names: Mapping[Place, str]
    ) -> None:
        self.lines: list[tuple[str, str]] = []
        self.zeros: list[str] = []
        self.carried: list[tuple[str, str, str, bool]] = []  # sums over rows: name, address, zeros, whether over all
        self.sums: list[tuple[str, str]] = []  # sums along a row: name, address
        for loop in loops:
            if not loop.summed:
                self.lines += _lines(loop, operands)
                continue
            reads, addresses = operands.of(loop)
            x, y = with_elements(loop.summed[0], reads), with_elements(loop.summed[1], addresses)
            pointer, index = loop.elements_by_count()[-1]
            name = f"s{len(self.carried) + len(self.sums)}"
            if loop.axis[1] == 1:  # along a row
                self.sums.append((name, y))
                self.lines.append((f"{name}[i] += {x};", ""))
                continue
            zero = f"for (int j = 0; j < {loop.size}; ++j) {names[loop.pointers[pointer][0]]}[j] = 0.0f;"
            if not operands.varies(index)[0]:
                self.carried.append((name, y, zero, rows is not None and (rows.size, rows.divisor) == loop.axis))
                self.lines.append((f"{name}[j] += {x};", ""))
            else:
                self.zeros.append(zero)
                self.lines.append((f"at({y}) += {x};", ""))


def _tile(inner: Axis, rows: Axis | None, columns: int, sums: int, lanes: int, registers: int) -> tuple[int, int, bool]:
    """Return the shape of a tile that fits the registers: the number of rows, the floats of each row, and whether the
    loop over rows is inside the loop over columns. A tile holds ``columns`` vectors for each column of vectors, and
    ``sums`` vectors for each row."""
    counts = [count for count in COUNTS if rows and rows.size % count == 0 and count <= lanes] or [1]
    widths = [count * MOST_LANES for count in COUNTS if inner.size % (count * MOST_LANES) == 0]
    fitting = [
        (count, width, across)
        for across in (True, False)
        for width in widths
        for count in (counts if sums else counts[-2:])
        if columns * (width // lanes) + sums * count <= registers
        and (not across or (rows and (not sums or width == inner.size)))
    ]
    return fitting[0] if fitting else (1, widths[-1], False)


def _with_sums(sums: Sequence[tuple[str, str]], count: int, lines: Sequence[str]) -> list[str]:
    """Return ``lines`` between the declarations of the sums of ``count`` rows and the lines that write these sums."""
    begun = [_registers(name, f"{count}", " = {}") for name, _ in sums]
    return [*begun, *lines, *(line for name, y in sums for line in _written(name, y, count))]


def _registers(name: str, count: str, start: str = "") -> str:
    """Return the declaration of an array of vectors for registers, aligned as GCC assumes for its elements."""
    return f"alignas(4 * LANES) vector {name}[{count}]{start};"


def _lines(loop: Loop, operands: _Operands) -> Iterator[tuple[str, str]]:
    """Yield each line of a loop in vectors, with the array that it writes ("" for none, or for an addition)."""
    reads, addresses = operands.of(loop)
    arrays = {name: place.array.name for name, (place, _) in loop.pointers.items()}
    names = {line.name for line in loop.lines if isinstance(line, Value)}
    for line in loop.lines:
        if isinstance(line, Value):
            value = with_elements(line, reads)
            yield f"const auto {value.name} = {value.value};  // {value.comment}", ""
        elif isinstance(line, Store):
            to, value_text = with_elements(line.element, addresses), with_elements(line.value, reads)
            if line.add:
                yield f"at({to}) += {value_text};", ""
                continue
            array = with_elements(line.element, lambda at: arrays[loop.elements[at][0]])
            if value_text in names:
                operands.registers[to] = value_text
            yield f"put({to}, {value_text});", array


def _each(counter: str, count: str, lines: Sequence[str]) -> list[str]:
    """Return a loop of ``lines`` that g++ unrolls, so that the values of all its turns are in registers."""
    head = f"for (int {counter} = 0; {counter} < {count}; ++{counter}) {{"
    return ["#pragma GCC unroll 16", head, *_indented(lines), "}"] if lines else []


def _written(name: str, y: str, count: int) -> list[str]:
    """Return the lines that write the sums of ``count`` rows, each added up from the lanes of ``name[i]``."""
    whole = f"const vector sum = sums_of<{count}>({name});"
    return ["{", *_indented([whole, *_each("i", f"{count}", [f"*({y}) = sum[i * (LANES / {count})];"])]), "}"]


def _over(axis: Axis, step: int | None, lines: Sequence[str]) -> list[str]:
    """Return lines inside a loop over an axis, whose counter grows by ``step`` (None: by ++)."""
    more = f"++{axis.counter}" if step is None else f"{axis.counter} += {step}"
    return [f"for (int {axis.counter} = 0; {axis.counter} < {axis.size}; {more}) {{", *_indented(lines), "}"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [line if line.startswith("#") else f"  {line}" for line in lines]


@dataclass(frozen=True)
class Nest:
    """Fused loops over equally many elements: a value that a loop writes is in a register for the following loops. A
    sum is in the nest of the loop that computes its operand, so a state is updated and read in one pass over its
    elements. ``own`` are the names of arrays that nothing else uses."""

    loops: tuple[Loop, ...]
    own: frozenset[str] = frozenset()

    @property
    def pointers(self) -> dict[str, tuple[Place, bool]]:
        """Return the place of each pointer by name, and whether a loop writes there."""
        names = self.names()
        by_name = {name: (place, False) for place, name in names.items()}
        for loop in self.loops:
            for place, written in loop.pointers.values():
                by_name[names[place]] = place, by_name[names[place]][1] or written
        return by_name

    def names(self) -> dict[Place, str]:
        """Return the name of the pointer of each place, over all loops."""
        places = dict.fromkeys(place for loop in self.loops for place, _ in loop.pointers.values())
        return {place: f"p{i}" for i, place in enumerate(places)}

    def axes(self) -> tuple[Axis, ...]:
        """Return the nested loops, the outermost first; () if an index needs a division, or no order fits all."""
        bounds = [bound for loop in self.loops if loop.summed for bound in (loop.axis[1], loop.axis[0] * loop.axis[1])]
        indices = [index for loop in self.loops for _, index in loop.elements_by_count()]
        return nest_of(self.loops[0].count, indices, bounds)

    @property
    def flat(self) -> bool:
        """Whether one loop over ``j`` is enough."""
        (first, *others), axes = self.loops, self.axes()
        return not others and (len(axes) < 2 or not (first.independent or first.summed))

    def lines(self) -> list[str]:
        """Return the lines for all elements of a row: in vectors if the loops fit, else element by element."""
        if self.flat:
            (loop,) = self.loops
            head = f"for (int j = 0; j < {loop.size}; ++j) {{"
            pragma = ["#pragma GCC ivdep"] if loop.independent else []
            return [*pragma, head, *(f"  {line}" for line in loop.by_counter()), "}"]
        axes, names = self.axes(), self.names()
        if not fits_vectors(self.loops, axes):
            return self._by_element(axes, names)
        texts = {head: in_vectors(self.loops, axes, names, self.own, most) for head, most in REGISTERS.items()}
        first, *others = texts.values()
        if all(lines == first for lines in others):
            return first
        return [*(line for head, lines in texts.items() for line in (head, *lines)), "#endif"]

    def _by_element(self, axes: tuple[Axis, ...], names: Mapping[Place, str]) -> list[str]:
        """Return the lines of the nested loops ``axes``, which compute one element in each turn."""
        zeros: list[str] = []
        body: list[str] = []
        sums: list[str] = []  # the results of sums along the innermost axes
        along = axes
        for loop in self.loops:
            used = [(loop.pointers[pointer][0], index) for pointer, index in loop.elements_by_count()]
            texts = [f"{names[place]}[{index.in_nest(axes)}]" for place, index in used]
            if not loop.summed:
                body += [str(with_elements(line, texts.__getitem__)) for line in loop.lines]
                continue
            x, y = (with_elements(element, texts.__getitem__) for element in loop.summed)
            length, inner = loop.axis
            if inner == 1:
                along = tuple(axis for axis in axes if axis.divisor < length)
                body.append(f"s{len(sums)} += {x};")
                sums.append(y)
            else:
                result = y.partition("[")[0]
                zeros += [f"for (int j = 0; j < {loop.size}; ++j) {result}[j] = 0.0f;"]
                body.append(f"{y} += {x};")
        names_of_sums = [f"s{i}" for i in range(len(sums))]
        reduction = f"#pragma omp simd reduction(+ : {', '.join(names_of_sums)})"
        inside = _nested(along, body, reduction if sums else "#pragma GCC ivdep")
        if sums:
            begun = f"float {', '.join(f'{name} = 0.0f' for name in names_of_sums)};"
            inside = [begun, *inside, *(f"{y} = {name};" for name, y in zip(names_of_sums, sums, strict=True))]
        return [*zeros, *_nested(axes[: len(axes) - len(along)], inside)]


def nests(works: Iterable[Task], carried: Set[str]) -> list[Product | Nest]:
    """Return the products and loops of a step in order, with adjacent loops fused into nests if the result is the same.
    ``carried`` are the names of the buffers that hold values from step to step."""
    merged: list[Product | Nest] = []
    for work in works:
        if isinstance(work, Product):
            merged.append(work)
            continue
        last = merged[-1] if merged else None
        if isinstance(last, Nest) and _go_together(last.loops, work):
            merged[-1] = Nest((*last.loops, work))
        else:
            merged.append(Nest((work,)))
    uses = Counter(name for work in merged for name in {*_buffers(work)})
    alone = {name for name, count in uses.items() if count == 1} - carried
    return [replace(w, own=frozenset(alone & {*_buffers(w)})) if isinstance(w, Nest) else w for w in merged]


def _buffers(work: Product | Nest) -> Iterable[str]:
    """Yield the names of the buffers with room for one step that a product or a nest uses."""
    places = (work.x, work.y) if isinstance(work, Product) else work.names()
    return (p.array.name for p in places if p.array.kind == "buffer" and not p.array.time and not p.array.window)


def _go_together(loops: Sequence[Loop], loop: Loop) -> bool:
    """Return whether a loop may run in one nest with the loops before it: at least one of them is a sum, and no element
    is read before it is ready."""
    every = (*loops, loop)
    sums = [each for each in every if each.summed]
    if len({each.count for each in every}) > 1 or not all(each.independent or each.summed for each in every):
        return False
    if not sums or len({each.axis[0] for each in sums if each.axis[1] == 1}) > 1:
        return False
    if any(_is_unfusable(before, loop) for before in loops):
        return False
    return bool(Nest(every).axes())


def _is_unfusable(first: Loop, second: Loop) -> bool:
    """Return whether two loops cannot be fused: the second uses a sum that the first writes, or uses another element of
    an array than the first in the same turn, and one of the two writes there."""
    return any(
        (one.array, one.shift) == (other.array, other.shift)
        and (written or written_after)
        and (one != other or index != after or is_sum or after_sum)
        for one, index, written, is_sum in _uses(first)
        for other, after, written_after, after_sum in _uses(second)
    )


def _uses(loop: Loop) -> list[tuple[Place, Index, bool, bool]]:
    """Return place and index of each element of a loop, whether it is written, whether it is a reduction's result."""
    uses = []
    for (pointer, index), (_, own) in zip(loop.elements_by_count(), loop.elements, strict=True):
        place, written = loop.pointers[pointer]
        uses.append((place, index, written, own is None))
    return uses


def _nested(axes: Sequence[Axis], lines: list[str], pragma: str = "") -> list[str]:
    """Return lines inside nested loops, the first axis outermost; a pragma stands before the innermost loop."""
    for axis in reversed(axes):
        lines, pragma = [*filter(None, [pragma]), *_over(axis, None, lines)], ""
    return lines
