"""Random cells, as the Python source that a user would write."""

from __future__ import annotations

from dataclasses import dataclass

from lstmc.ops import Draw
from lstmc.testing.random_bodies import SIZES, Body, Shape, Variable, text
from lstmc.testing.random_layers import embedded

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
    filled = frozenset(s for s in states if body.chance(5))
    for argument, shape in (inputs | states).items():
        body.declare(argument, shape, 3.0 if argument in inputs else 1.5, argument in inputs, argument in states)
    _first_lines(body, states)
    following = _call_inner(body, inner, bound[inner], inputs, states) if inner else {}
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
    assert body.ops <= MOST_OPS
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
