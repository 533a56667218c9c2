"""Random models, as the Python source that a user would write: ``seeded_model(7)`` is always the same one."""

from __future__ import annotations

import linecache
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from lstmc.ir import Graph
from lstmc.ops import Draw
from lstmc.testing import SeededDraw
from tests.random_models.bodies import SIZES, Body, Shape, Variable, text
from tests.random_models.cells import RandomCell, embedded, fed, images, losses, network, random_cell

T = TypeVar("T")


CHANGED = 0.05  # of the choices of a model, in one that is near it


class NearDraw(SeededDraw):
    """The choices of one seed, of which each further seed changes a few."""

    def __init__(self, seed: int, changes: Sequence[int] = ()) -> None:
        super().__init__(seed)
        self.changes = [random.Random(f"change {each}") for each in changes]

    def choice(self, options: Sequence[T]) -> T:
        chosen = super().choice(options)
        for change in self.changes:
            if change.random() < CHANGED:
                chosen = change.choice(options)
        return chosen


IMPORTS = """\
from lstmc import *
from lstmc import abs

T, N, D, H = dims("T N D H")
"""


@dataclass(frozen=True)
class RandomModel:
    """The source of a module with a model ``net``, the sizes to bind, and a seed for weights and inputs."""

    source: str
    T: int
    N: int
    seed: int

    def graph(self) -> Graph:
        """Run the source and trace the model."""
        file = f"<random model {sha256(self.source.encode()).hexdigest()[:16]}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
        module: dict[str, Any] = {"__name__": "random_model"}
        exec(compile(self.source, file, "exec"), module)
        graph: Graph = module["net"].graph(T=self.T, N=self.N)
        return graph

    def __repr__(self) -> str:
        return f"T={self.T}, N={self.N}, seed={self.seed}\n{self.source}"


def seeded_model(seed: int, wide: bool = False, changes: Sequence[int] = ()) -> RandomModel:
    """Return the model of one seed, always the same, or with ``changes``, which are seeds too, one that is near it."""
    return random_model(NearDraw(seed, changes), wide)


def random_model(draw: Draw, wide: bool = False) -> RandomModel:
    """Return a model of one to three scans; ``wide``: with few sequences, images, heads and steps too."""
    steps, batch, seed = draw.integer(1, 6), draw.integer(1, 2 if wide else 4), draw.integer(0, 99)
    cells: list[RandomCell] = []
    bound: dict[str, RandomCell] = {}
    for i in range(draw.choice((1, 1, 2))):
        cells.append(random_cell(draw, f"cell{i}", batch, bound, wide))
        bound["ABC"[i]] = cells[-1]
    if draw.integer(1, 3) == 3:
        bound["C"] = cells[0]  # the same cell again, with parameters of its own
    parts = [IMPORTS]
    for cell in cells:
        parts.append(cell.source)
        parts += [f"{name} = {cell.name}(H={cell.hidden})\n" for name, of in bound.items() if of is cell]
    return RandomModel("\n".join((*parts, _random_net(draw, bound, steps, batch, wide))), steps, batch, seed)


def _declared(kind: str, shape: Shape, fill: str = "") -> str:
    return f"{kind}({text(shape)}{fill})"


# models --------------------------------------------------------------------------------------------------------


class _Net:
    """The model function around the scans, while it is drawn."""

    def __init__(self, draw: Draw, steps: int, batch: int, wide: bool) -> None:
        self.draw, self.steps, self.batch = draw, steps, batch
        self.body = Body(draw, lead=1, wide=wide)
        self.inputs: dict[str, str] = {}

    def input(self, name: str, shape: Shape, fill: str = "") -> Variable:
        self.inputs[name] = _declared("Input", shape, fill)
        return self.body.declare(name, shape, 3.0, raw=not fill)

    def scan(self, bound: str, cell: RandomCell, number: int) -> None:
        body = self.body
        unrolled = body.chance(8)  # over no sequence: every input is the same at each step
        static = {
            n: self.step_value(n, shape)
            for n, shape in cell.inputs.items()
            if unrolled or (n != "x" and body.chance(2))
        }
        xs = []
        for name, shape in cell.inputs.items():
            if name == "k" and name not in static:
                xs.append(f"{name}={fed(self, name, (self.steps, *shape))}")
            elif name not in static:
                value_of_step = body.fit((self.steps, *shape), keep=2)
                xs.append(f"{name}={value_of_step.name}" if value_of_step else "")
        init = {s: self.initial(f"{s}{number}", shape) for s, shape in cell.states.items()}
        init = {state: value for state, value in init.items() if value and (state not in cell.filled)}
        arguments = [bound, "length=T" if unrolled else self.sequences(xs)]
        arguments += [f"init={{{_items(init)}}}"] if init else []
        arguments += [f"static={{{_items(static)}}}"] if static else []
        masks = self.masks(cell, bool(init))
        arguments += masks
        arguments += [f'name="scan{number}"'] if body.chance(4) else []
        body.lines.append(f"y{number}, last{number} = scan({', '.join(arguments)})")
        for output in cell.outputs:
            y = body.declare(f"y{number}{output.name}", (self.steps, *output.shape), output.bound)
            if body.wide and "lengths=lengths" in masks and body.chance(2):
                body.let(f"last_valid({y.name}, lengths)", output.shape, output.bound)
        for state, shape in cell.states.items():
            body.declare(f'last{number}["{state}"]', shape, 1.5)

    def masks(self, cell: RandomCell, begun: bool) -> list[str]:
        """Draw the arguments of a scan on its steps; one with initial states carries none to the next batch."""
        body = self.body
        arguments = []
        if body.chance(5):
            self.inputs["cont"] = "Input(T, N)"
            arguments.append("cont=cont")
        if body.chance(5) and all(output.shape[0] == self.batch for output in cell.outputs):
            self.inputs["lengths"] = "Input(N)"
            arguments.append("lengths=lengths")
        if body.chance(4):
            arguments.append("reverse=True")
        elif not begun and body.chance(6):
            arguments.append("carry=True")
        return arguments

    def sequences(self, xs: list[str]) -> str:
        """Draw the form of the sequences: a dict by name, a list in order, or a single one."""
        names = [x.partition("=")[2] for x in xs]
        if self.body.chance(3):
            return f"{{{', '.join(f'{x[0]!r}: {n}' for x, n in zip(xs, names, strict=True))}}}"
        return names[0] if len(names) == 1 else f"[{', '.join(names)}]"

    def step_value(self, name: str, shape: Shape) -> str:
        if name == "k":
            return fed(self, name, shape)
        value = self.body.fit(shape, keep=1) if self.body.chance(2) else None
        return (value or self.input(f"static_{name}{len(self.inputs)}", shape)).name

    def initial(self, name: str, shape: Shape) -> str:
        """Return a state's first value: zero (''), fed, filled, a parameter, or something computed."""
        kind = self.body.choose(("zero", "zero", "fed", "filled", "param", "learned", "computed"))
        if kind == "fed":
            return self.input(f"init_{name}", shape).name
        if kind == "filled":
            fill = self.body.choose(("constant(0)", "constant(0.3)", "uniform(-1, 1)"))
            return self.input(f"init_{name}", shape, f", fill={fill}").name
        if kind == "param":
            return self.body.param(shape).name
        if kind == "learned":  # the same for the whole batch
            return self.body.param(shape[1:], value=False).name
        value = self.body.fit(shape, keep=1) if kind == "computed" else None
        return value.name if value else ""


def _items(values: dict[str, str]) -> str:
    return ", ".join(f'"{name}": {value}' for name, value in values.items())


def _random_net(draw: Draw, bound: dict[str, RandomCell], steps: int, batch: int, wide: bool) -> str:
    net = _Net(draw, steps, batch, wide)
    body = net.body
    net.input("X", (steps, batch, draw.integer(*SIZES)))
    net.inputs["X"] = f"Input(T, N, {body.values[0].shape[2]})"
    if body.chance(3 if wide else 6):
        network(net) if wide else images(net)
    if body.chance(6):
        embedded(body, fed(net, "ids", (steps, batch)), (steps, batch))
    for _ in range(draw.choice((0, 0, 1, 2))):
        body.step()
    uses = [*bound, *(draw.choice(list(bound)) for _ in range(draw.integer(0, 1)))]
    for number, name in enumerate(uses):
        net.scan(name, bound[name], number)
    for _ in range(draw.integer(0, 4)):
        body.step()
    results = [v for v in (body.pick() for _ in range(draw.integer(1, 4))) if v is not None]
    results += body.unread()[-2:]
    results += losses(net) if body.chance(5) else []
    if body.chance(4):
        returned = ", ".join(v.name for v in results)
    else:
        returned = "{" + _items({f"out{i}": v.name for i, v in enumerate(results)}) + "}"
    arguments = [f"{n}={declared}" for n, declared in (*net.inputs.items(), *body.params.items())]
    lines = [f"def net({', '.join(arguments)}):", *body.lines, f"return {returned}"]
    return "@model\n" + "\n    ".join(lines) + "\n"
