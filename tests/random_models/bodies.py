"""The lines of one random function in the DSL: values in scope with their shapes, and every op that can follow.

Shapes are tracked as the text is drawn, so that each drawn line is legal. Magnitudes are tracked roughly, and
squashed where they grow: what is compared in float32 must be well conditioned. ``relu``, ``abs`` and ``elu`` get
raw inputs or shifted values, because a value that is zero up to rounding has no defined slope there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

from lstmc.dsl.operators import common_shape
from lstmc.ops import Draw
from lstmc.ops.layers import flatten_axis
from lstmc.types import TensorType
from tests.random_models.functions import (
    COMPOSED,
    JUMPING,
    KINKED,
    OPS_OF_WHOLE,
    POLYNOMIAL,
    SCALED,
    SMOOTH,
    STEP_INDEX,
    WHOLE,
)

Shape = tuple[int, ...]
NAME = re.compile(r"[A-Za-z_]\w*(?:\[[^]]*\])?")
SIZES = (1, 5)
LARGEST = 120  # elements of one value
SQUASHED_ABOVE = 5.0
OPS_OF_STEP, OPS_OF_FIT = 3, 4  # at most
OPS_OF_PRODUCT = 5  # about: two reshapes or transpositions, a product, a sum

MATRIX_FILLS = ("uniform(-0.6, 0.6)", "xavier()", "gaussian(0.1, 0.4)", 'xavier("average")', 'msra("fan_out")')
VECTOR_FILLS = ("uniform(-0.6, 0.6)", "constant(0.3)", "gaussian(0, 0.5)", "uniform(0.2, 1)")
MULTIPLIERS = ("", "", "", ", lr_mult=2, decay_mult=0", ", lr_mult=0.5")


@dataclass(frozen=True)
class Variable:
    """A value in scope: the expression that names it, its shape, and about how large its elements are."""

    name: str
    shape: Shape
    bound: float = 1.0
    raw: bool = False  # an input: its elements are random numbers, none of them zero by construction
    recurrent: bool = False  # it depends on a state
    weight: bool = False  # it is a parameter, or reads no other value in scope than parameters


@dataclass
class Body:
    """One function while it is drawn."""

    draw: Draw
    lead: int  # how many axes in front stand for time and batch, and are kept by linear
    most: int = 99  # ops
    wide: bool = False  # steps, argmax and heads too
    values: list[Variable] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    read_names: set[str] = field(default_factory=set)
    ops: int = 0

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw.choice(options)

    def chance(self, one_in: int) -> bool:
        return self.draw.integer(1, one_in) == one_in

    def declare(self, *args: Any, **kwargs: Any) -> Variable:
        self.values.append(Variable(*args, **kwargs))
        return self.values[-1]

    def let(self, expression: str, shape: Shape, bound: float, ops: int = 1) -> Variable:
        """Add a line ``vN = expression``; squashed where the result may be large."""
        if bound > SQUASHED_ABOVE:
            expression, bound, ops = f"tanh({expression})", 1.0, ops + 1
        self.ops += ops
        read = self.read_by(expression)
        recurrent, weight = any(v.recurrent for v in read), all(v.weight for v in read)
        variable = self.declare(f"v{len(self.values)}", shape, bound, recurrent=recurrent, weight=weight)
        self.lines.append(f"{variable.name} = {expression}")
        return variable

    def read_by(self, expression: str) -> list[Variable]:
        """Return the values that an expression reads, as far as ops may read them."""
        names = set(NAME.findall(expression))
        return [v for v in self.values if v.name in names]

    def pick(self, fits: Callable[[Variable], bool] = lambda v: True) -> Variable | None:
        """Return a value that fits; rather an unread one, and rather one that depends on a state."""
        fitting = [v for v in self.values if fits(v)]
        if not fitting:
            return None
        for preferred in (lambda v: v.name not in self.read_names, lambda v: v.recurrent):
            some = [v for v in fitting if preferred(v)]
            fitting = some if some and not self.chance(3) else fitting
        variable: Variable = self.choose(fitting)
        self.read_names.add(variable.name)
        return variable

    def unread(self) -> list[Variable]:
        return [v for v in self.values if v.name not in self.read_names]

    def param(self, shape: Shape, value: bool = True) -> Variable:
        """Return a new parameter; ``value``: other ops may read it too, as a value."""
        name = f"P{len(self.params)}"
        fill = self.choose(MATRIX_FILLS if len(shape) == 2 else VECTOR_FILLS)
        declared = f"{text(shape)}, fill={fill}{self.choose(MULTIPLIERS)}"
        if self.chance(25):  # a tuple, whose second is a value that other ops may read
            self.params[name] = f"params(2, {declared})"
            self.declare(f"{name}[1]", shape, weight=True)
            name += "[0]"
        else:
            self.params[name] = f"Param({declared})"
        variable = Variable(name, shape, 1.0, weight=True)
        if value:
            self.values.append(variable)
        return variable

    def step(self) -> None:
        """Draw one op, if there is room for it and one more."""
        if self.ops + OPS_OF_STEP > self.most - 1:
            return
        more = (*2 * (Body.heads, Body.composed), Body.largest, Body.blocks, Body.joined) if self.wide else ()
        shaping = (*SHAPING, *more)
        kind = self.choose((self.linear, self.linear, self.unary, self.unary, self.binary, self.binary, *shaping))
        kind(self) if kind in shaping else kind()

    # the ops -----------------------------------------------------------------------------------------------

    def linear(self, x: Variable | None = None, out: int | None = None, keep: int | None = None) -> Variable:
        x = x or self.pick(lambda v: len(v.shape) > 0) or self.param((3,))
        rank = len(x.shape)
        axis = min(self.lead, rank - 1) if keep is None else keep
        if keep is None and rank - axis > 1 and self.chance(3):
            axis += 1
        width, out = prod(x.shape[axis:]), out or self.draw.integer(*SIZES)
        shared = [name for name, declared in self.params.items() if declared.startswith(f"Param({out}, {width}, fill")]
        w = self.choose(shared) if shared and self.chance(2) else self.param((out, width), value=False).name
        bias = ""
        if self.chance(2):
            variable = self.pick(lambda v: v.shape == (out,)) if self.chance(2) else None
            bias = f", {(variable or self.param((out,), value=self.chance(2))).name}"
        explicit = "" if flatten_axis(TensorType(x.shape), width) == axis else f", axis={axis}"
        bound = x.bound * max(1.0, 0.5 * sqrt(width))
        return self.let(f"linear({x.name}, {w}{bias}{explicit})", (*x.shape[:axis], out), bound)

    def unary(self) -> Variable:
        x = self.pick()
        assert x is not None
        tables = [SMOOTH, SMOOTH, SCALED, KINKED, "softmax", *([POLYNOMIAL] if x.bound <= 1.7 else [])]
        tables += 3 * [WHOLE] if x.raw and self.ops + OPS_OF_WHOLE <= self.most - 1 else []
        tables += 3 * [JUMPING] if self.wide and x.raw else []
        table = self.choose(tables)
        if table == "softmax":
            axis = self.draw.integer(-1, len(x.shape) - 1)
            return self.let(f"softmax({x.name})" if axis < 0 else f"softmax({x.name}, axis={axis})", x.shape, 1)
        expression, bound = self.choose(table)
        operand, size = x.name, x.bound
        if table is KINKED and not x.raw:
            operand, size = f"{x.name} {self.choose(('+ 0.37', '- 0.41'))}", size + 0.4
        ops = OPS_OF_WHOLE if table is WHOLE else expression.count("(") + (table is SCALED)
        return self.let(expression.format(operand), x.shape, bound(size), max(1, ops))

    def step_index(self) -> None:
        """Draw an expression of the step's number, in a cell only."""
        if self.ops + OPS_OF_WHOLE > self.most - 1:
            return
        expression, bound = self.choose(STEP_INDEX)
        variable = self.declare(f"v{len(self.values)}", (1,), bound, recurrent=True)  # it is a state of the scan
        self.lines.append(f"{variable.name} = {expression}")
        self.ops += OPS_OF_WHOLE

    def binary(self) -> Variable:
        x = self.pick()
        assert x is not None
        if self.chance(2):
            y: Variable | None = self.broadcast_param(x)
        else:
            of_x: Shape = x.shape
            most: int = max(LARGEST, prod(of_x))
            y = self.pick(lambda v: prod(common_shape(v.shape, of_x) or (most + 1,)) <= most)
        assert y is not None  # x itself, if nothing else
        shape = common_shape(x.shape, y.shape)
        assert shape is not None
        if self.chance(5) and self.ops + 6 <= self.most:
            return self.let(f"{x.name} / (1.5 + tanh({y.name}))", shape, 2 * x.bound, 4)
        if self.chance(6):
            function = self.choose(("maximum", "minimum"))
            return self.let(f"{function}({x.name} + 0.37, {y.name} - 0.41)", shape, x.bound + y.bound + 0.8, 3)
        symbol = self.choose("*+-*")
        x, y = (x, y) if self.chance(2) else (y, x)
        bound = x.bound * y.bound if symbol == "*" else x.bound + y.bound
        return self.let(f"{x.name} {symbol} {y.name}", shape, bound)

    def broadcast_param(self, x: Variable) -> Variable:
        """Return a parameter over a run of x's axes: [H] over [N, H], [N, 1], the whole shape, or one number."""
        rank = len(x.shape)
        start = self.draw.integer(0, rank - 1)
        stop = self.draw.integer(start, rank)
        return self.param(x.shape[start:stop] + (1,) * (rank - stop) or (1,))

    def split(self) -> None:
        x = self.pick(lambda v: max(v.shape) > 1)
        if x is None:
            return
        axis = self.choose([a for a, size in enumerate(x.shape) if size > 1])
        cut = self.draw.integer(1, x.shape[axis] - 1)
        sizes = (cut, x.shape[axis] - cut)
        parts = "2" if sizes[0] == sizes[1] else f"({text(sizes)})"
        names = [f"v{len(self.values) + i}" for i in (0, 1)]
        where = "" if axis == len(x.shape) - 1 else f", axis={axis}"
        self.lines.append(f"{', '.join(names)} = split({x.name}, {parts}{where})")
        self.ops += 1
        for name, size in zip(names, sizes, strict=True):
            self.declare(name, replaced(x.shape, axis, size), x.bound, recurrent=x.recurrent, weight=x.weight)

    def concat(self) -> None:
        x = self.pick(lambda v: 2 * prod(v.shape) <= LARGEST)
        if x is None:
            return
        axis = self.draw.integer(0, len(x.shape) - 1)

        def joins(v: Variable) -> bool:
            same_rank = len(v.shape) == len(x.shape) and prod(v.shape) + prod(x.shape) <= LARGEST
            return same_rank and replaced(v.shape, axis, 1) == replaced(x.shape, axis, 1)

        y = self.pick(joins)
        assert y is not None  # x itself, if nothing else
        where = "" if axis == len(x.shape) - 1 else f", axis={axis}"
        total = replaced(x.shape, axis, x.shape[axis] + y.shape[axis])
        self.let(f"concat({x.name}, {y.name}{where})", total, max(x.bound, y.bound))

    def reshape(self) -> None:
        x = self.pick()
        assert x is not None
        kept = self.draw.integer(0, len(x.shape))
        rest = prod(x.shape[kept:])
        first = self.choose([d for d in range(1, rest + 1) if rest % d == 0])
        shape = self.choose(
            ((*x.shape[:kept], first, rest // first), (*x.shape[:kept], rest), (*x.shape[:kept], rest, 1))
        )
        self.let(f"reshape({x.name}, {text(shape)})", shape, x.bound)

    def arrange(self) -> None:
        """Draw an index, a tile, a transposition, or a new axis."""
        x = self.pick(lambda v: len(v.shape) > 1 and 2 * prod(v.shape) <= LARGEST)
        if x is None:
            return
        axis = self.draw.integer(0, len(x.shape) - 1)
        places, size = ":, " * axis, x.shape[axis]
        at = self.draw.integer(0, size - 1)
        options = [
            (f"{x.name}[{places}{at}]", (*x.shape[:axis], *x.shape[axis + 1 :])),
            (f"{x.name}[{places}{at}:]", replaced(x.shape, axis, size - at)),
            (f"{x.name}[{places}None]", (*x.shape[:axis], 1, *x.shape[axis:])),
            (f"tile({x.name}, ({text((2,) + (1,) * (len(x.shape) - axis - 1))},))", replaced(x.shape, axis, 2 * size)),
            (f"transpose({x.name})", (*x.shape[:-2], x.shape[-1], x.shape[-2])),
        ]
        expression, shape = self.choose(options)
        self.let(expression, shape, x.bound)

    def reduce(self) -> None:
        x = self.pick(lambda v: len(v.shape) > 1)
        if x is None:
            return
        axis = self.draw.integer(0, len(x.shape) - 1)
        size, keeps = x.shape[axis], self.chance(2)
        # the largest of values that differ by rounding alone is another one in float32: rather of raw inputs
        long = ("var", "layer_norm") if self.ops + 9 <= self.most else ()
        kind = self.choose(("sum", "mean", *long, *(("max", "min") if x.raw else ())))
        if kind == "layer_norm":
            self.let(f"layer_norm({x.name}, axis={axis}, eps=0.5)", x.shape, 2, 8)
            return
        shape = (*x.shape[:axis], *((1,) if keeps else ()), *x.shape[axis + 1 :])
        bound = {"sum": x.bound * size, "var": x.bound**2}.get(kind, x.bound)
        keepdims = ", keepdims=True" if keeps else ""
        self.let(f"{kind}({x.name}, axis={axis}{keepdims})", shape, bound, 6 if kind == "var" else 2)

    def heads(self) -> None:
        """The last axis as heads, each times or plus numbers of its own, or of its elements; then one axis again."""
        x = self.pick(lambda v: len(v.shape) > 1 and v.shape[-1] > 3 and v.shape[-1] % 2 == 0)
        if x is None or self.ops + OPS_OF_STEP + 2 > self.most - 1:
            return
        split = (*x.shape[:-1], 2, x.shape[-1] // 2)
        p = self.param(self.choose(((2, 1), split[-1:], split[-2:], split, (1,)))).name
        symbol = self.choose("*+-*")
        y = self.let(f"reshape({x.name}, {text(split)}) {symbol} {p}", split, x.bound + 1, 2)
        if self.chance(2):
            self.let(f"reshape({y.name}, {text(x.shape)})", x.shape, y.bound)

    def composed(self) -> None:
        """Functions and norms that are made of several ops."""
        expression, bound, ops = self.choose(COMPOSED)
        x = self.pick(lambda v: v.bound <= 2)
        if x is not None and self.ops + ops + 1 <= self.most - 1:
            operand, size = (x.name, x.bound) if x.raw else (f"({x.name} + 0.37)", x.bound + 0.4)
            self.let(expression.format(operand), x.shape, bound(size), ops + 1)

    def blocks(self) -> None:
        """Two groups of the last axis, each normalized or times a matrix of its own; or a product with W, computed."""
        x = self.pick(lambda v: len(v.shape) == self.lead + 1)
        if x is None or self.ops + 9 > self.most - 1:
            return
        half, odd = divmod(x.shape[-1], 2)
        kind = self.choose(("computed", "groups", "matrices")) if half and not odd else "computed"
        if kind == "computed":
            w = self.param((self.draw.integer(*SIZES), x.shape[-1]))
            computed = self.choose(("tanh({0})", "{0} * 0.5", "abs({0})", "{0} * {0}", "softmax({0})")).format(w.name)
            self.let(f"linear({x.name}, {computed})", (*x.shape[:-1], w.shape[0]), x.bound, 2)
        elif kind == "groups":
            self.let(f"group_norm({x.name}, 2, eps=0.5)", x.shape, 2, 8)
        else:
            w = self.param((2, self.draw.integer(1, 3), half))
            self.let(f"block_linear({x.name}, {w.name})", (*x.shape[:-1], 2 * w.shape[1]), x.bound, 4)

    def joined(self) -> None:
        """Values of one shape on a new axis, a value repeated along one, or a value times fixed numbers."""
        x = self.pick(lambda v: len(v.shape) > 1 and 2 * prod(v.shape) <= LARGEST)
        if x is None:
            return
        kind, axis = self.choose(("stack", "expand", "const")), self.draw.integer(0, len(x.shape) - 1)
        shape = (*x.shape[:axis], 2, *x.shape[axis:])
        if kind == "stack":
            y = self.pick(lambda v: v.shape == x.shape) or x
            self.let(f"stack({x.name}, {y.name}, axis={axis})", shape, max(x.bound, y.bound))
        elif kind == "expand":
            self.let(f"expand({x.name}[{':, ' * axis}None], {text(shape)})", shape, x.bound, 2)
        else:
            numbers = [0.5 + 0.25 * i * (-1) ** i for i in range(x.shape[axis])]
            shaped = f"reshape(const({numbers}), {text((-1,) + (1,) * (len(x.shape) - axis - 1))})"
            self.let(f"{x.name} {self.choose('*+')} {shaped}", x.shape, 2 * x.bound, 2)

    def largest(self) -> None:
        """Where the largest of raw values is: as a number, or as a one in zeros."""
        x = self.pick(lambda v: v.raw and len(v.shape) > 1)
        if x is None or self.ops + 2 * OPS_OF_WHOLE > self.most - 1:
            return
        axis = self.draw.integer(0, len(x.shape) - 1)
        places = (*x.shape[:axis], *x.shape[axis + 1 :])
        at = f"argmax({x.name}, axis={axis})"
        if self.chance(2):
            self.let(at, places, float(x.shape[axis]), OPS_OF_WHOLE)
        else:
            size = x.shape[axis]
            self.let(f"one_hot({at}, {size})", (*places, size), 1.0, 2 * OPS_OF_WHOLE)

    def product(self) -> None:
        """A matrix product, an outer product, or products by letters of the axes, one of them summed."""
        x = self.pick(lambda v: len(v.shape) > 1 and prod(v.shape) <= LARGEST)
        if x is None or self.ops + OPS_OF_PRODUCT > self.most - 1:
            return
        self.choose((self.matmul, self.outer, self.einsum))(x)

    def matmul(self, x: Variable) -> None:
        *lead, rows, inner = x.shape

        def fits(v: Variable) -> bool:
            if v.weight and v.name.partition("[")[0] not in self.params:
                return False  # a blob of several parameters is refused where they are trained otherwise or used again
            places = common_shape(tuple(lead), v.shape[:-2]) if v.shape[-2:-1] == (inner,) else None
            return places is not None and prod((*places, rows, inner, v.shape[-1])) <= LARGEST

        y = self.pick(fits) if self.chance(2) else None
        y = y or self.param((inner, self.draw.integer(*SIZES)))
        places = common_shape(tuple(lead), y.shape[:-2])
        assert places is not None
        product = self.choose((f"{x.name} @ {y.name}", f"matmul({x.name}, {y.name})"))
        self.let(product, (*places, rows, y.shape[-1]), x.bound * y.bound * sqrt(inner), OPS_OF_PRODUCT)

    def outer(self, x: Variable) -> None:
        def result_shape(v: Variable) -> Shape | None:
            return common_shape((*x.shape, 1), (*v.shape[:-1], 1, *v.shape[-1:])) if v.shape else None

        y = self.pick(lambda v: prod(result_shape(v) or (LARGEST + 1,)) <= LARGEST) if self.chance(2) else None
        y = y or self.param((self.draw.integer(*SIZES),))
        shape = result_shape(y)
        assert shape is not None
        self.let(f"outer({x.name}, {y.name})", shape, x.bound * y.bound, 3)

    def einsum(self, x: Variable) -> None:
        sizes = dict(zip("abcdefgh", x.shape, strict=False))
        y = self.pick(lambda v: len(v.shape) > 0) if self.chance(2) else None
        y = y or self.param(self.choose((x.shape, x.shape[-1:], x.shape[:2])))
        of_y = ""
        for new, size in zip("stuvwxyz", y.shape, strict=False):
            shared = [letter for letter in sizes if sizes[letter] == size and letter not in of_y]
            small = prod(sizes.values()) * size <= LARGEST
            of_y += self.choose(shared) if shared and not (small and self.chance(4)) else new
            sizes[of_y[-1]] = size
        if prod(sizes.values()) > LARGEST:
            return
        left, of_result, inner = list(sizes), "", 1
        if len(left) > 1 and not self.chance(4):
            inner = sizes[left.pop(self.draw.integer(0, len(left) - 1))]
        while left:
            of_result += left.pop(0 if self.chance(2) else self.draw.integer(0, len(left) - 1))
        specification = f"{''.join(sizes)[: len(x.shape)]},{of_y}->{of_result}"
        shape = tuple(sizes[letter] for letter in of_result)
        expression = f'einsum("{specification}", {x.name}, {y.name})'
        self.let(expression, shape, x.bound * y.bound * sqrt(inner), OPS_OF_PRODUCT)

    # making a value of a given shape ------------------------------------------------------------------------

    def fit(self, shape: Shape, keep: int, bound: float = SQUASHED_ABOVE) -> Variable | None:
        """Return a value of ``shape``: one in scope, or one made by a linear that keeps the first ``keep`` axes."""
        room = self.ops + OPS_OF_FIT <= self.most

        def right(v: Variable) -> bool:
            return v.shape == shape and (room or v.bound <= bound)

        variable = self.pick(lambda v: right(v) and v.name.startswith("v")) or self.pick(right)
        if room and (variable is None or self.chance(4)):
            source = self.pick(lambda v: len(v.shape) > keep and v.shape[:keep] == shape[:keep])
            if source is not None:
                variable = self.linear(source, prod(shape[keep:]), keep)
                if variable.shape != shape:
                    variable = self.let(f"reshape({variable.name}, {text(shape)})", shape, variable.bound)
        if variable is not None and variable.bound > bound:
            variable = self.let(f"{self.choose(('tanh', 'sigmoid'))}({variable.name})", shape, 1.0)
        if variable is not None:
            self.read_names.add(variable.name)
        return variable


SHAPING: tuple[Callable[[Body], None], ...] = (
    Body.split,
    Body.concat,
    Body.reshape,
    Body.reduce,
    Body.arrange,
    Body.product,
)


def replaced(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def text(shape: Iterable[object]) -> str:
    return ", ".join(map(str, shape))
