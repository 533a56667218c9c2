"""Nested loops as C++ on vectors: operands stay in registers for several rows, and sums of rows are added as trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from lstmc.loops.index import Axis, Index
from lstmc.loops.memory import Loop, Place, Store, Value, with_elements

MOST_LANES = 16  # floats of a vector, at most: see vectors.h
ROWS = (4, 2, 1)  # how many rows are done at once, where so many are a part of all


def fits_vectors(loops: Sequence[Loop], axes: Sequence[Axis]) -> bool:
    """Return whether the innermost loop is whole vectors, of which each operand is one, or one number."""
    inner = axes[-1]
    if inner.size % MOST_LANES or not all(loop.arithmetic for loop in loops):
        return False
    for loop in loops:
        written = {pointer for pointer, (_, is_written) in loop.pointers.items() if is_written}
        of_row = loop.summed is not None and loop.axis[1] == 1
        for (pointer, index), (_, own) in zip(loop.elements_by_count(), loop.elements, strict=True):
            whole = pointer in written and not (own is None and of_row)
            if index.stride(inner) not in ((1,) if whole else (0, 1)):
                return False
    return True


class _Operands:
    """The texts of a nest's elements, of some rows at once.

    What is the same for all rows is read before them, and what the nest has written is in a register; ``memory`` are
    arrays that it writes and reads from memory all the same.
    """

    def __init__(
        self, axes: Sequence[Axis], rows: Axis | None, loops: Sequence[Loop], names: Mapping[Place, str]
    ) -> None:
        self._axes = [replace(axis, counter=f"({axis.counter} + i)") if axis == rows else axis for axis in axes]
        self._rows, self._names = rows, names
        self._written = {place.array for loop in loops for place, written in loop.pointers.values() if written}
        self._same: dict[tuple[Place, Index], str] = {}
        self._registers: dict[str, str] = {}
        self.memory: set[str] = set()

    def begun(self) -> list[str]:
        """Return the lines that read elements which are the same for all rows."""
        return [f"const auto {name} = {self._element(*key)};" for key, name in self._same.items()]

    def same(self, index: Index) -> bool:
        """Return whether an element is the same for all rows."""
        return self._rows is None or index.stride(self._rows) == 0

    def of(self, loop: Loop) -> tuple[Callable[[int], str], Callable[[int], str]]:
        """Return the texts of a loop's elements where they are read, and where they are written."""
        elements = [(loop.pointers[pointer][0], index) for pointer, index in loop.elements_by_count()]
        return lambda at: self._read(*elements[at]), lambda at: self._address(*elements[at])

    def written(self, address: str, value: str) -> None:
        """Note that the element at an address is a value."""
        self._registers[address] = value

    def _read(self, place: Place, index: Index) -> str:
        if place.array in self._written:
            if self._address(place, index) in self._registers:
                return self._registers[self._address(place, index)]
            self.memory.add(place.array.name)
        if place.array in self._written or not self.same(index):
            return self._element(place, index)
        return self._same.setdefault((place, index), f"at_{len(self._same)}")

    def _element(self, place: Place, index: Index) -> str:
        if index.stride(self._axes[-1]):
            return f"at({self._address(place, index)})"
        return f"{self._names[place]}[{index.in_nest(self._axes)}]"

    def _address(self, place: Place, index: Index) -> str:
        return f"{self._names[place]} + {index.in_nest(self._axes)}"


def in_vectors(loops: Sequence[Loop], axes: Sequence[Axis], names: Mapping[Place, str], own: Set[str]) -> list[str]:
    """Return the lines of loops that are one nest, for some counts of the loop around the innermost one at once.

    ``own`` are arrays that nothing else uses: what the nest has in registers of them is not written.
    """
    lengths = [loop.axis[0] for loop in loops if loop.summed and loop.axis[1] == 1]
    outer = [axis for axis in axes if lengths and axis.divisor >= lengths[0]]  # each with sums of its own
    rows = axes[-2] if len(axes) > 1 and len(axes) - len(outer) in (1, len(axes)) else None
    count = next(n for n in ROWS if rows.size % n == 0) if rows else 1
    operands = _Operands(axes, rows if count > 1 else None, loops, names)
    body: list[tuple[str, str]] = []  # lines, and the array that one writes
    zeros: list[str] = []
    carried: list[tuple[str, str]] = []  # sums over these rows, and where they go
    sums: list[tuple[str, str]] = []  # sums of these rows
    for loop in loops:
        if not loop.summed:
            body += _lines(loop, operands)
            continue
        reads, addresses = operands.of(loop)
        x, y = with_elements(loop.summed[0], reads), with_elements(loop.summed[1], addresses)
        pointer, index = loop.elements_by_count()[-1]
        name = f"s{len(carried) + len(sums)}"
        if loop.axis[1] == 1:
            sums.append((name, y))
            body.append((f"{name}[i] += {x};", ""))
            continue
        zeros.append(f"for (int j = 0; j < {loop.size}; ++j) {names[loop.pointers[pointer][0]]}[j] = 0.0f;")
        if operands.same(index):
            carried.append((name, y))
            body.append((f"{name} += {x};", ""))
        else:
            body.append((f"at({y}) += {x};", ""))
    lines = [
        *operands.begun(),
        *(f"vector {name} = at({y});" for name, y in carried),
        *_each_row(count, [line for line, array in body if array not in own - operands.memory]),
        *(f"at({y}) = {name};" for name, y in carried),
    ]
    ends = [line for name, y in sums for line in _written(name, y, count)]
    for axis in reversed(axes):
        if outer and axis == outer[-1]:
            lines = [*(f"alignas(4 * LANES) vector {name}[{count}] = {{}};" for name, _ in sums), *lines, *ends]
        step = "LANES" if axis == axes[-1] else str(count) if axis == rows else "1"
        lines = _over(axis, step, lines)
    if sums and not outer:
        lines = [*(f"alignas(4 * LANES) vector {name}[{count}] = {{}};" for name, _ in sums), *lines, *ends]
    return [*zeros, *lines]


def _lines(loop: Loop, operands: _Operands) -> Iterator[tuple[str, str]]:
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
                operands.written(to, value_text)
            yield f"put({to}, {value_text});", array


def _each_row(count: int, lines: Sequence[str]) -> list[str]:
    pragma = [f"#pragma GCC unroll {count}"] if count > 1 else []
    return [*pragma, f"for (int i = 0; i < {count}; ++i) {{", *_indented(lines), "}"]


def _written(name: str, y: str, count: int) -> list[str]:
    """Return the lines that write the sums of some rows, each of the lanes of a vector."""
    whole = f"const vector sum = sums_of<{count}>({name});"
    return ["{", *_indented([whole, *_each_row(count, [f"*({y}) = sum[i * (LANES / {count})];"])]), "}"]


def _over(axis: Axis, step: str, lines: Sequence[str]) -> list[str]:
    head = f"for (int {axis.counter} = 0; {axis.counter} < {axis.size}; {axis.counter} += {step}) {{"
    return [head, *_indented(lines), "}"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [line if line.startswith("#") else f"  {line}" for line in lines]
