"""The memory of a generated layer: its blobs and buffers, the work of each step on them, and the functions it calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from lstmc.ir import Node, Ref
from lstmc.loops.index import Index, counter
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.text import Names

WIDEST = 32  # the most columns of a panel: see vectors.h
CPU = ("elements.h", "vectors.h", "panels.h", "products.h", "weight_gradients.h")  # each needs the headers before it
LOW = ("low_precision.h",)  # after them, for a layer with products in low precision
GPU = ("gpu_functions.h",)
_INCLUDES = re.compile(r'^#(?:pragma once|include ".*")\n', re.MULTILINE)  # not needed in a layer
_TAKEN = re.compile(r"(?<!::)\b([A-Za-z_]\w*)(?:<[^<>;]*>)?\(|#define (\w+)")  # functions or the like, macros


def header(name: str) -> str:
    """Return the text of a file of this folder, without the lines that include other headers."""
    return _INCLUDES.sub("", files(__package__).joinpath(name).read_text(encoding="utf-8"))


def functions(names: tuple[str, ...]) -> str:
    return "\n".join(header(name) for name in names)


@cache
def taken_names() -> frozenset[str]:
    """Return the names of functions and macros of all headers, which no variable of a layer may hide."""
    matches = _TAKEN.findall(functions(CPU + LOW + GPU))
    return frozenset(name for names in matches for name in names if name)


# Of C99 and of C++20.
KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
    long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile
    wchar_t while xor xor_eq
    """.split()  # noqa: SIM905
)
# Names that the code of layers uses besides functions, in C++ and in CUDA, and macros of the system's headers.
_OWN = """
count blas part end THREADS atomicAdd threadIdx blockIdx blockDim gridDim T N t n j i k std sum most call begin
NAN INFINITY NULL HUGE_VAL chunk start stop unit launched forward_graphs again_graphs backward_graphs PERSISTENT_ROWS
cooperative_groups
"""
_POINTER = re.compile(r"([pis]|at_)\d+")  # pointers of a loop; counters, sums and operands of nested loops
Kind = Literal["bottom", "bottom_diff", "weight", "weight_diff", "top", "top_diff", "buffer"]


@dataclass(frozen=True)
class Array:
    """Memory of ``size`` floats, for each of N rows (``rows``) and for each of T steps (``time``). ``more`` is the
    number of steps beyond T: 1 if states are stored from before the first step on. ``name`` is the name in the C++.
    With ``every`` the array has each ``every``-th step only; a ``window`` is the number of steps of one chunk, the only
    steps that the array has then."""

    kind: Kind
    number: int
    name: str
    size: int
    rows: bool
    time: bool
    more: int = 0
    every: int = 1
    window: int = 0

    def floats(self, steps: int, rows: int) -> int:
        """Return the size of the array for T steps and N rows."""
        length = -(-steps // self.every) + self.more if self.time else self.window + self.more
        return self.size * max(length, 1) * (rows if self.rows else 1)

    def label_of(self, shape: tuple[int, ...] | None = None) -> str:
        """Return the array's name and shape, as ``h [T+1, N, 500]``; ``shape`` are a blob's axes after T and N."""
        steps = f"T/{self.every}" if self.every > 1 else "T" if self.time else str(self.window or "")
        axes = [f"{steps}+{self.more}" if self.more else steps] if steps else []
        sizes = (self.size,) if shape is None else shape
        return f"{self.name} [{', '.join([*axes, *(['N'] if self.rows else []), *map(str, sizes)])}]"


def _identifier(name: str) -> str:
    base = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return base if base[:1].isalpha() else f"v{base}"


def cpp_names() -> Names:
    """Return unique names for the C++: the user's names, as far as C++ allows them."""
    return Names({*KEYWORDS, *_OWN.split(), *taken_names()}, _identifier, _POINTER.fullmatch)


@dataclass(frozen=True)
class Place:
    """The place of a value at a step: in an array, ``offset`` floats into the row, ``shift`` steps after the current
    one. If a pass computes the ``parts`` of a row one after the other, ``part`` is the index at which part n begins."""

    array: Array
    offset: int = 0
    shift: int = 0
    part: Index = field(default_factory=Index)
    parts: int = 1

    def moved(self, offset: int) -> Place:
        return replace(self, offset=self.offset + offset)

    def holds(self, size: int) -> bool:
        """Return whether the array has ``size`` floats from this place on, for every step t < T and every row n < N."""
        later = self.array.more if self.array.time or self.array.window else 0
        return 0 <= self.offset <= self.array.size - size and 0 <= self.shift <= later

    def holds_matrix(self, lead: int, width: int, of_all: bool) -> bool:
        """Return whether the array has a matrix of ``lead`` contiguous rows of ``width`` floats in each batch row n: at
        a step, or with ``of_all`` at all steps together."""
        whole = self.array.rows and (self.array.time or not of_all)
        return whole and self.holds(lead * width) and (lead == 1 or self.array.size == lead * width)

    @property
    def of_step(self) -> str:
        """Return the C++ of the address of this step."""
        array = self.array
        if not array.time and not array.window:
            return array.name + (f" + {self.offset}" if self.offset else "")
        step = "t - start" if array.window else "t"
        step = f"({step} + {self.shift})" if self.shift else f"({step})" if array.window else step
        rows = "N * " if array.rows else ""
        return f"{array.name} + {step} * {rows}{array.size}" + (f" + {self.offset}" if self.offset else "")

    @property
    def of_all(self) -> str:
        """Return the C++ of the address of the first step."""
        moved = f" + N * {self.array.size}" if self.shift else ""
        return f"{self.array.name}{moved}" + (f" + {self.offset}" if self.offset else "")

    @property
    def of_row(self) -> str:
        """Return the C++ of the address of row ``n`` at this step."""
        part = f" + {self.part.text('share', self.parts)}" if self.part.digits else ""
        return self.of_step + (f" + n * {self.array.size}" if self.array.rows else "") + part

    @property
    def floats(self) -> int:
        """Return the number of contiguous floats of a row, or of a part."""
        return self.part.digits[0].stride if self.part.digits else self.array.size

    @property
    def of_row_alone(self) -> str:
        """Return the C++ of the address of row ``n`` for a thread that runs rows one after the other. The thread's rows
        use one window of a chunk, whose number is ``part``."""
        if not self.array.window:
            return self.of_row
        alone = replace(self, array=replace(self.array, rows=False))
        return f"{alone.of_row} + part * {self.array.floats(0, 1)}"


Places = dict[Ref, Place]


@dataclass(frozen=True)
class Sink:
    """A place where the value ``ref`` is written, or added if ``add``. ``node`` is the join whose operand ``slot`` the
    value is, if that matters."""

    ref: Ref
    place: Place
    add: bool = False
    node: Node | None = None
    slot: int = 0


class Call:
    """Work of a step other than a loop: it computes a result ``y`` from ``operands``."""

    y: Place

    @property
    def operands(self) -> tuple[Place, ...]:
        raise NotImplementedError

    def moved(self, to: Callable[[Place], Place]) -> Self:
        """Return the call with each of its places replaced by what ``to`` returns for it."""
        raise NotImplementedError

    def arrays(self) -> set[str]:
        return {place.array.name for place in (self.y, *self.operands)}


@dataclass
class Product(Call):
    """y [rows, outs] = x [rows, ins] times w [outs, ins] transposed, or w [ins, outs]; plus b, or plus the old y."""

    x: Place
    w: Place
    y: Place
    outs: int
    ins: int
    lead: int
    transposed: bool
    b: Place | None
    panels: Array  # the place of packed w
    when: Literal["before", "step", "after"]  # the loop over steps: one product for all steps, or one for each
    comment: str
    numbers: ProductNumbers = FLOAT32
    add: bool = False  # whether the result is added to y

    @property
    def enough(self) -> int:
        """How many rows in all make packing w pay: measured, docs/decisions/0024."""
        if not self.transposed:
            return 48
        return 32 if self.outs * self.ins <= 2**18 else 96

    @property
    def of_bottom(self) -> bool:
        """Return whether the result is the gradient of a bottom, which a net may not need."""
        return self.when == "after" and self.y.array.kind == "bottom_diff"

    @property
    def inside(self) -> bool:
        """Whether all reads and writes are within the arrays, for any T and N."""
        of_all, bias = self.when != "step", self.b is None or self.b.holds(self.outs)
        matrices = self.x.holds_matrix(self.lead, self.ins, of_all), self.y.holds_matrix(self.lead, self.outs, of_all)
        packed = Place(self.panels).holds(-(-self.outs // WIDEST) * WIDEST * self.numbers.floats(self.ins))
        return all(matrices) and bias and packed and self.w.holds(self.outs * self.ins)

    @property
    def operands(self) -> tuple[Place, ...]:
        return (self.x, self.w, *([self.b] if self.b else []), Place(self.panels))

    def moved(self, to: Callable[[Place], Place]) -> Product:
        return replace(self, x=to(self.x), y=to(self.y), b=self.b and to(self.b))


@dataclass(frozen=True)
class Outer:
    """A product over the rows of all steps: it adds ct^T x (without x, the sum of ct) to a gradient [outs, ins]."""

    ct: Place
    x: Place | None
    into: Place
    outs: int
    ins: int
    lead: int

    @property
    def inside(self) -> bool:
        operands = (self.ct, self.outs), (self.x, self.ins)
        matrices = all(place is None or place.holds_matrix(self.lead, width, True) for place, width in operands)
        return matrices and self.into.holds(self.outs * self.ins)


@dataclass(frozen=True)
class Store:
    """A line of a loop that writes a value to one element, or adds it. ``shared``: the array is the same for all rows,
    so every row of the batch adds to the same element."""

    element: str
    value: str
    add: bool
    shared: bool

    def __str__(self) -> str:
        return f"{self.element} {'+=' if self.add else '='} {self.value};"


@dataclass(frozen=True)
class Value:
    """A line of a loop that computes one element, with a comment."""

    name: str
    value: str
    comment: str

    def __str__(self) -> str:
        return f"const float {self.name} = {self.value};  // {self.comment}"


Line = str | Store | Value


def sum_lines(length: int, x: str, y: str) -> list[Line]:
    """Return the lines that set ``y`` to the sum of ``x`` for each ``k`` below ``length``."""
    each = f"for (int k = 0; k < {length}; ++k)"
    return ["float sum = 0.0f;", "#pragma omp simd reduction(+ : sum)", f"{each} sum += {x};", f"{y} = sum;"]


_Line = TypeVar("_Line", bound=Line)
_ELEMENT = re.compile(r"@(\d+)@")  # the placeholder of an element in a line


@dataclass
class Loop:
    """Lines of C++ for each of ``size`` elements ``j``, row after row; ``pointers`` are the arrays that they use.

    - ``elements``: the elements of arrays in the lines, as indices by the counter of all ``count`` elements. For a
      reduction these are the elements of the operand; ``axis`` has the length of the reduced axis, and the number of
      elements in the axes after it.
    - ``independent``: no element needs another element, so many can be computed at once.
    - ``summed``: the operand of a sum, and its result.
    - ``arithmetic``: the lines have only operators that vectors have too.
    """

    when: ClassVar = "step"  # as of a product
    size: int
    count: int
    pointers: dict[str, tuple[Place, bool]] = field(default_factory=dict)  # name -> place, whether it is written
    lines: list[Line] = field(default_factory=list)  # each with a comment
    comments: list[str] = field(default_factory=list)
    independent: bool = True
    axis: tuple[int, int] = (1, 1)
    summed: tuple[str, str] | None = None
    arithmetic: bool = False
    elements: list[tuple[str, Index | None]] = field(default_factory=list)  # None: the result of a reduction, by j

    @property
    def inside(self) -> bool:
        """Whether all reads and writes are within the arrays, for any T and N."""
        used = [(self.pointers[pointer][0], index) for pointer, index in self.elements_by_count()]
        return all(index.offset >= 0 and place.holds(index.largest + 1) for place, index in used)

    def in_part(self, number: int) -> Loop:
        """Return the loop with its places moved to the part ``number`` of a row."""
        moved = {name: (place.moved(place.part.at(number)), of) for name, (place, of) in self.pointers.items()}
        return replace(self, pointers=moved)

    def moved(self, to: Callable[[Place], Place]) -> Loop:
        """Return the loop with each of its places replaced by what ``to`` returns for it. Two places may become one."""
        return self.with_places([(to(self.pointers[name][0]), index) for name, index in self.elements])

    def with_places(self, elements: Sequence[tuple[Place, Index | None]], **more: Any) -> Loop:
        """Return the loop with another place and index for each of its elements, and with ``more`` fields replaced.
        Equal places have one pointer."""
        names = {place: f"p{i}" for i, place in enumerate(dict.fromkeys(place for place, _ in elements))}
        pairs = zip(elements, self.elements, strict=True)
        written = {place for (place, _), (pointer, _) in pairs if self.pointers[pointer][1]}
        pointers = {name: (place, place in written) for place, name in names.items()}
        return replace(self, pointers=pointers, elements=[(names[place], at) for place, at in elements], **more)

    def arrays(self) -> set[str]:
        return {place.array.name for place, _ in self.pointers.values()}

    def element(self, pointer: str, index: Index | None) -> str:
        """Return a placeholder for an element of an array in a line, which becomes an expression when written."""
        self.elements.append((pointer, index))
        return f"@{len(self.elements) - 1}@"

    def by_counter(self) -> list[Line]:
        """Return the lines of the loop's body for one value of its counter ``j``."""
        length, inner = self.axis
        if self.independent:
            return [with_elements(line, self._texts("j").__getitem__) for line in self.lines]
        before, within = counter(self.size).divided(inner)
        begin = Index() + (before * (length * inner) + within)
        each = f"begin + k * {inner}" if inner != 1 else "begin + k"
        begun = f"const int begin = {begin.text('j', self.size)};"
        return [begun, *(with_elements(line, self._texts(each).__getitem__) for line in self.lines)]

    def _texts(self, name: str) -> list[str]:
        return [f"{p}[{'j' if index is None else index.text(name, self.count)}]" for p, index in self.elements]

    def elements_by_count(self) -> list[tuple[str, Index]]:
        """Return the pointer and the index of each element, by the counter of all elements; results lack the axis."""
        length, inner = self.axis
        before, within = counter(self.count).divided(length * inner)
        result = before * inner + within.divided(inner)[1]
        return [(pointer, result if index is None else index) for pointer, index in self.elements]


def with_elements(line: _Line, texts: Callable[[int], str]) -> _Line:
    """Return a line with each placeholder replaced by what ``texts`` returns for its number."""
    if isinstance(line, str):
        return cast(_Line, _ELEMENT.sub(lambda match: texts(int(match[1])), line))
    if isinstance(line, Store):
        return replace(line, element=with_elements(line.element, texts), value=with_elements(line.value, texts))
    return replace(line, value=with_elements(line.value, texts))


Task = Product | Loop
