"""Random cells, as the Python source that a user would write, and the layers around the scans of a random model.

These are embeddings and convolutions before the scans, and losses after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Protocol

from lstmc.ops import Draw
from lstmc.ops.layers import AvePool, Conv, MaxPool
from lstmc.types import TensorType
from tests.random_models.bodies import OPS_OF_PRODUCT, SIZES, Body, Shape, Variable, text

ROWS = 4  # of a matrix that is embedded from
NORMALIZATIONS = ("", ', normalization="full"', ', normalization="batch_size"', ', normalization="none"')


class Net(Protocol):
    """The model function while it is drawn."""

    body: Body
    steps: int
    batch: int
    inputs: dict[str, str]

    def input(self, name: str, shape: Shape, fill: str = "") -> Variable: ...


def fed(net: Net, name: str, shape: Shape) -> str:
    """Return a new input that no other op reads: numbers of rows or classes."""
    name = f"{name}{len(net.inputs)}"
    net.inputs[name] = f"Input({text(shape)})"
    return name


def embedded(body: Body, ids: str, shape: Shape) -> Variable:
    """Draw an embedding: rows of a new matrix."""
    size = body.draw.integer(1, 4)
    matrix = body.param((ROWS, size), value=body.chance(3)).name
    return body.let(f"embed({ids}, {matrix})", (*shape, size), 1.0)


def images(net: Net) -> Variable:
    """Small images for every step, convolved, pooled, and flattened to vectors."""
    body = net.body
    channels, size = body.choose(((1, 4), (2, 3))), (body.draw.integer(3, 4), body.draw.integer(2, 3))
    group = channels[0] if channels[1] % channels[0] == 0 and body.chance(3) else 1
    x = net.input(f"images{len(net.inputs)}", (net.steps, net.batch, channels[0], *size))
    body.read_names.add(x.name)
    w = (channels[1] // group * group, channels[0] // group, body.draw.integer(1, 2), body.draw.integer(1, 2))
    window, bias = body.param(w, value=False).name, body.choose(("", f", {body.param(w[:1], value=False).name}"))
    stride = (body.draw.integer(1, 2), 1)
    pad = body.draw.integer(0, 1)
    more = f", stride=({text(stride)}), pad={pad}" + (f", group={group}" if group > 1 else "")
    image_size = [(n + 2 * pad - k) // s + 1 for n, k, s in zip(size, w[2:], stride, strict=True)]
    bound = x.bound * max(1.0, 0.5 * sqrt(prod(w[1:])))
    y = body.let(f"conv({x.name}, {window}{bias}{more})", (*x.shape[:2], w[0], *image_size), bound)
    body.read_names.add(y.name)
    kind = body.choose(("max_pool", "ave_pool"))
    pooled = [n - 1 if n > 1 else 1 for n in image_size]
    kernel = text(2 if n > 1 else 1 for n in image_size)
    z = body.let(f"{kind}({y.name}, ({kernel}), stride=1)", (*x.shape[:2], w[0], *pooled), y.bound)
    body.read_names.add(z.name)
    return body.let(f"reshape({z.name}, T, N, -1)", (*x.shape[:2], w[0] * prod(pooled)), z.bound)


def network(net: Net) -> Variable:
    """One or two blocks of convolution, normalization and pooling, over images of every step, signals, or one image
    of a sequence whose columns are the steps; flattened to vectors.
    """
    body, draw = net.body, net.body.draw
    kind = body.choose(("images", "images", "signals", "columns"))
    wide = {"images": draw.integer(2, 4), "signals": 1, "columns": net.steps}[kind]
    lead = (net.batch,) if kind == "columns" else (net.steps, net.batch)
    shape = (*lead, body.choose((1, 2, 4)), draw.integer(3, 5), wide)
    x = net.input(f"images{len(net.inputs)}", shape)
    if body.chance(4):
        body.read_names.add(x.name)
        x = body.let(normalized(body, x.name, shape[-3]), shape, 6.0)
    for _ in range(body.choose((1, 1, 2))):
        x = _pooled(body, _convolved(body, x, kind), kind)
    body.read_names.add(x.name)
    channels, height, wide = x.shape[-3:]
    if kind == "columns":
        columns = f"reshape(transpose({x.name}, (3, 0, 1, 2)), T, N, -1)"
        return body.let(columns, (net.steps, net.batch, channels * height), x.bound)
    if body.chance(4):
        return body.let(f"mean({x.name}, axis=(-2, -1))", (*lead, channels), x.bound)
    return body.let(f"reshape({x.name}, T, N, -1)", (*lead, channels * height * wide), x.bound)


def _convolved(body: Body, x: Variable, kind: str) -> Variable:
    draw, channels = body.draw, x.shape[-3]
    group = body.choose([each for each in (1, 1, 2, channels) if channels % each == 0])
    out = group * draw.integer(1, 2)
    across = {"images": draw.integer(1, min(2, x.shape[-1])), "signals": 1, "columns": body.choose((1, 3))}[kind]
    pad = (draw.integer(0, 2), {"images": draw.integer(0, 1), "signals": 0, "columns": across // 2}[kind])
    high = draw.integer(1, min(3, x.shape[-2] + 2 * pad[0]))
    dilation = (2 if high == 2 and x.shape[-2] + 2 * pad[0] > 2 and body.chance(2) else 1, 1)
    stride = (draw.integer(1, 2), draw.integer(1, 2) if kind == "images" else 1)
    op = Conv(stride=stride, pad=pad, dilation=dilation, group=group)
    window = (out, channels // group, high, across)
    (result,) = op.infer(TensorType(x.shape), TensorType(window))
    arguments = [x.name, body.param(window, value=False).name]
    arguments += [body.param((out,), value=False).name] if body.chance(2) else []
    arguments += [f"stride=({text(stride)})", f"pad=({text(pad)})", f"dilation=({text(dilation)})", f"group={group}"]
    expression, bound = f"conv({', '.join(arguments)})", x.bound * max(1.0, 0.5 * sqrt(prod(window[1:])))
    body.read_names.add(x.name)
    if body.chance(2):
        expression, bound = normalized(body, expression, out), bound + 1
    return body.let(f"relu({expression})" if body.chance(4) else expression, result.shape, bound)


def _pooled(body: Body, x: Variable, kind: str) -> Variable:
    if body.chance(3):
        return x
    draw, height, wide = body.draw, *x.shape[-2:]
    size = (draw.integer(1, min(3, height)), 1 if kind == "columns" else draw.integer(1, min(2, wide)))
    stride, pad = tuple(draw.integer(1, min(2, n)) for n in size), (draw.integer(0, 1) if size[0] > 1 else 0, 0)
    pool = body.choose((MaxPool, AvePool))
    (result,) = pool(size=size, stride=stride, pad=pad).infer(TensorType(x.shape))
    body.read_names.add(x.name)
    arguments = f"({text(size)}), stride=({text(stride)}), pad=({text(pad)})"
    return body.let(f"{pool.name}({x.name}, {arguments})", result.shape, x.bound)


def normalized(body: Body, images: str, channels: int) -> str:
    """Images times a number of each channel, plus another one, or one of these; then ``relu``, or nothing."""
    factor, term = (body.param((channels, 1, 1), value=False).name for _ in range(2))
    affine = body.choose((f"{images} * {factor} + {term}", f"{images} * {factor}", f"({images} - {term}) * {factor}"))
    return f"relu({affine})" if body.chance(2) else f"({affine})"


def losses(net: Net) -> list[Variable]:
    """Losses and scores of values in scope, and a weighted sum of two; none has axes."""
    body = net.body
    x = body.pick(lambda v: len(v.shape) > 1)
    if x is None:
        return []
    axis = body.draw.integer(0, len(x.shape) - 1)
    places = (*x.shape[:axis], *x.shape[axis + 1 :])
    label, ignored = fed(net, "label", places), body.choose(("", ", ignore_label=-1"))
    target = net.input(f"target{len(net.inputs)}", x.shape).name
    body.read_names.add(target)
    more = f", axis={axis}{ignored}"
    noisy = net.input(f"noise{len(net.inputs)}", x.shape).name  # equal scores would be ordered by their rounding
    body.read_names.add(noisy)
    expressions = {
        "entropy": f"softmax_loss({x.name}, {label}{more}{body.choose(NORMALIZATIONS)})",
        "cross": f"sigmoid_cross_entropy_loss({x.name}, {target}{body.choose(NORMALIZATIONS)})",
        "distance": f"euclidean_loss({x.name}, {target})",
        "weighted": "entropy + 0.3 * distance",
        "right": f"accuracy({x.name} + {noisy}, {label}, axis={axis}, top_k={body.draw.integer(1, x.shape[axis])})",
    }
    if ignored:
        del expressions["right"]  # where every label is left out, Caffe divides by zero
    body.lines += [f"{name} = {expression}" for name, expression in expressions.items()]
    return [Variable(name, ()) for name in expressions]


MOST_OPS = 12  # of a cell's own


@dataclass(frozen=True)
class RandomCell:
    """The interface of a drawn cell: the argument shapes of one step, and its outputs."""

    name: str
    source: str
    hidden: int
    inputs: dict[str, Shape]
    states: dict[str, Shape]
    outputs: tuple[Variable, ...]  # each name continues the name of what the cell returned: [0], ["a"] or nothing
    filled: frozenset[str]  # states that start at their fill


def random_cell(draw: Draw, name: str, batch: int, bound: dict[str, RandomCell], wide: bool = False) -> RandomCell:
    """Return a cell of 2 to 12 ops; it may call a bound cell, whose states it then carries."""
    body = Body(draw, lead=1, most=MOST_OPS, wide=wide)
    remembers = wide and body.chance(3)
    hidden = draw.integer(*SIZES)
    inputs: dict[str, Shape] = {"x": (batch, draw.integer(*SIZES))}
    if body.chance(3):
        inputs["u"] = _step_shape(draw, batch)
    rows = body.chance(6)
    states: dict[str, Shape] = {"h": (batch, hidden)}
    callable_here = [b for b in bound if len(bound[b].states) < 3]
    inner = body.choose(callable_here) if callable_here and body.chance(2) else None
    for extra in "cm"[: draw.integer(0, 2 - (len(bound[inner].states) if inner else 0))]:
        states[extra] = _step_shape(draw, batch)
    if remembers:
        body.most, states["m"] = 3 * MOST_OPS, (batch, draw.integer(1, 4), draw.integer(1, 4))
    filled = frozenset(s for s in states if body.chance(5))
    for argument, shape in (inputs | states).items():
        body.declare(argument, shape, 3.0 if argument in inputs else 1.5, argument in inputs, argument in states)
    _first_lines(body, states)
    following = _call_inner(body, inner, bound[inner], inputs, states) if inner else {}
    if remembers:
        following["m"] = _remembered(body, states["m"])
    if rows:
        inputs["k"] = (batch,)
        embedded(body, "k", inputs["k"])
    if body.chance(6):
        body.step_index()
    for _ in range(draw.integer(2, 9)):
        body.step()
    for state, shape in list(states.items()):
        if state not in following:
            variable = body.fit(shape, keep=1, bound=1.5)
            assert variable is not None
            following[state] = variable.name
    assert body.ops <= body.most
    outputs, result = _cell_outputs(body)
    fills = {n: f", fill={body.choose(('constant(0.4)', 'gaussian(0, 0.5)'))}" for n in sorted(filled)}
    arguments = [f"{n}={_signature(n, shape, fills.get(n, ''))}" for n, shape in (inputs | states).items()]
    arguments += ["*", *(f"{n}={declared}" for n, declared in body.params.items())] if body.params else []
    returned = ", ".join(f'"{state}": {value}' for state, value in following.items())
    lines = [f"def {name}({', '.join(arguments)}):", *body.lines, f"return {result}, {{{returned}}}"]
    return RandomCell(name, "@cell\n" + "\n    ".join(lines) + "\n", hidden, inputs, states, outputs, filled)


def _first_lines(body: Body, states: dict[str, Shape]) -> None:
    """Draw the first lines of most cells: the sum of a product of the input and a product of a state."""
    x = body.linear(body.values[0])
    if body.chance(3):
        return
    h = body.pick(lambda v: v.name in states and len(v.shape) == 2)
    y = body.linear(h, x.shape[1], keep=1)
    body.read_names |= {x.name, y.name}
    body.let(f"{x.name} + {y.name}", x.shape, x.bound + y.bound)


def _remembered(body: Body, shape: Shape) -> str:
    """Draw a memory of outer products, as of linear attention, and what is read of it; return its next value."""
    x = body.let(f"tanh({body.values[0].name})", body.values[0].shape, 1.0)
    k, v, q = (body.linear(x, size, keep=1) for size in (*shape[1:], shape[1]))
    kv = body.let(f"outer({k.name}, {v.name})", shape, k.bound * v.bound, 3)
    decay = body.choose(("0.5 * m", f"m * sigmoid({k.name})[:, :, None]", "tanh(m)"))
    following = body.let(f"{decay} + {kv.name}", shape, 1.5 + kv.bound, 3)
    bonus = body.param(shape[1:], value=False).name if body.chance(3) else "0.5"
    read = body.choose((following.name, "m", f"(m + {kv.name})", f"(m + {bonus} * {kv.name})"))
    result = body.choose((f'einsum("abc,ab->ac", {read}, {q.name})', f"sum({read}, axis=1)"))
    body.let(result, (shape[0], shape[2]), 1.5 + kv.bound, 2 + OPS_OF_PRODUCT)
    body.read_names |= {x.name, k.name, v.name, q.name, kv.name, following.name}
    return following.name


def _signature(name: str, shape: Shape, fill: str = "") -> str:
    """Return the declaration of a cell's input or state; x and h by dimensions, the rest by numbers."""
    sizes: tuple[object, ...] = ("N", {"x": "D", "h": "H"}[name]) if name in "xh" else ("N", *shape[1:])
    return f"{'Input' if name in 'xuk' else 'State'}({text(sizes)}{fill})"


def _call_inner(
    body: Body, name: str, cell: RandomCell, inputs: dict[str, Shape], states: dict[str, Shape]
) -> dict[str, str]:
    """Call a bound cell; its states become states of this one, and its numbers of rows. Returns the next states."""
    inputs |= {n: shape for n, shape in cell.inputs.items() if n == "k"}
    operands = [Variable(n, shape) if n == "k" else body.fit(shape, keep=1) for n, shape in cell.inputs.items()]
    arguments = [variable.name for variable in operands if variable is not None]
    for state, shape in cell.states.items():
        states[f"in_{state}"] = shape
        arguments.append(f"{state}=in_{state}")
    body.lines.append(f"y, s = {name}({', '.join(arguments)})")
    for output in cell.outputs:
        body.declare(f"y{output.name}", output.shape, output.bound, recurrent=True)
    return {f"in_{state}": f's["{state}"]' for state in cell.states}


def _cell_outputs(body: Body) -> tuple[tuple[Variable, ...], str]:
    """Draw the outputs of a cell besides its states: a value, a tuple, a dict, or None."""
    kind = body.choose(("value", "value", "tuple", "dict", "none"))
    if kind == "none":
        return (), "None"
    first, second = (body.pick() for _ in range(2))
    assert first is not None
    assert second is not None
    if kind == "value":
        return (Variable("", first.shape, first.bound),), first.name
    keys = ("[0]", "[1]") if kind == "tuple" else ('["a"]', '["b"]')
    pair = tuple(Variable(key, v.shape, v.bound) for key, v in zip(keys, (first, second), strict=True))
    if kind == "tuple":
        return pair, f"({first.name}, {second.name})"
    return pair, f'{{"a": {first.name}, "b": {second.name}}}'


def _step_shape(draw: Draw, batch: int) -> Shape:
    return (batch, *(draw.integer(*SIZES) for _ in range(draw.choice((1, 1, 1, 2)))))
