"""Random bodies of scans, made of few ops on states and sequences: some are linear in their states, some are not."""

from __future__ import annotations

import random
from contextlib import suppress

from lstmc.errors import LstmcError
from lstmc.ir import Builder, Graph, Output, Rebuild, Ref, Scan
from lstmc.ops import (
    Add,
    Affine,
    Arg,
    Concat,
    Full,
    Input,
    Linear,
    Max,
    Maximum,
    Mul,
    Op,
    Param,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Split,
    StopGradient,
    Sub,
    Sum,
    Tile,
    Transpose,
)

Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((2, 3), (2, 1), (2, 3, 2))


def random_body(seed: int) -> Graph:
    """Return a body of one to three states."""
    draw = random.Random(seed)
    b = Builder("cell")
    of_states = [draw.choice(SHAPES[:1] * 3 + SHAPES) for _ in range(draw.choice((1, 1, 1, 2, 2, 3)))]
    states = [b.add(Arg(shape, "state"), names=(f"s{i}",))[0] for i, shape in enumerate(of_states)]
    values = [*states]
    for i in range(draw.choice((1, 2, 3))):
        values += b.add(Arg(draw.choice((*of_states, (2, 1))), "x"), names=(f"x{i}",))
    (w,) = b.add(Arg((3, 3), "weight"), names=("W",))
    values += b.add(Arg((3,), "weight"), names=("v",))
    for _ in range(draw.randint(2, 14)):
        x, y = (draw.choice(values[-2:] + states + values) for _ in range(2))
        kind = draw.choice((1, 2, 2, 2, 3, 4))
        with suppress(LstmcError, IndexError):  # these shapes do not fit
            if kind == 4:
                values += _register(b, x if draw.random() < 0.5 else states[0], y)
            elif kind == 3:
                values += b.add(Linear(len(b.type(x).shape) - 1), x, w)
            else:
                shape = b.type(x).shape
                values += b.add(_op(draw, shape), x, y) if kind == 2 else b.add(_op_of_one(draw, shape), x)
    nexts = []
    for shape in of_states:
        fitting = [ref for ref in values if b.type(ref).shape == shape]
        nexts.append(draw.choice(fitting[-4:]))
    outputs = [Output(f"y{i}", ref) for i, ref in enumerate(draw.sample(values, 2)) if _of_step(b, ref)]
    return b.finish([*outputs, *(Output(f"s{i}", ref) for i, ref in enumerate(nexts))])


def masked(body: Graph, seed: int) -> Graph:
    """Return the body with each state as it was where a mask ``m`` is 0; in some, another value in place of it."""
    draw, rebuild = random.Random(seed), Rebuild(body)
    b = rebuild.builder
    (m,) = b.add(Arg((2, 1), "x"), names=("m",))
    (absent,) = b.add(Affine(-1.0, 1.0), m)
    for node in body:
        rebuild.copy(node)
    states = [Ref(arg.name) for arg in body.body_args() if isinstance(arg.op, Arg) and arg.op.role == "state"]
    results = [rebuild.new[output.ref] for output in body.outputs]
    for place, state in enumerate(states, len(results) - len(states)):
        old, shape = rebuild.new[state], body.type(state).shape
        others = [rebuild.new[ref] for ref in states if body.type(ref).shape == shape]
        others += [*b.add(Affine(0.5, 0.0), old), *b.add(Affine(1.0, 0.5), old), *b.add(Relu(), old)]
        if draw.random() < 0.3:
            old = draw.choice(others)
        present, past = (b.add(Reshape((2, *(1,) * (len(shape) - 1))), ref)[0] for ref in (m, absent))
        terms = [*b.add(Mul(), results[place], present), *b.add(Mul(), old, past)]
        (results[place],) = b.add(Add(), *draw.sample(terms, 2))
    return b.finish([(output.name, ref) for output, ref in zip(body.outputs, results, strict=True)])


def _register(b: Builder, x: Ref, y: Ref) -> tuple[Ref, ...]:
    """The values of x but the first along an axis, and the first of y."""
    axis = 1
    size = b.type(x).shape[axis]
    _, rest = b.add(Split(axis, (1, size - 1)), x)
    first, *_ = b.add(Split(axis, (1, b.type(y).shape[axis] - 1)), y)
    return b.add(Concat(axis), rest, first)


def _of_step(b: Builder, ref: Ref) -> bool:
    op = b.node(ref.node).op
    return not (isinstance(op, Arg) and op.role == "weight")


def _op(draw: random.Random, shape: Shape) -> Op:
    axis = draw.randrange(len(shape) or 1)
    return draw.choice((Add(), Add(), Add(), Sub(), Mul(), Mul(), Mul(), Maximum(), Concat(axis)))


def _op_of_one(draw: random.Random, shape: Shape) -> Op:
    axis = draw.randrange(len(shape) or 1)
    size = (*shape, 1)[axis]
    moves: tuple[Op, ...] = (
        Reshape((*shape[:axis], 1, *shape[axis:])),
        Reshape((*shape[:-2], shape[-2] * shape[-1]) if len(shape) > 1 else shape),
        Reshape((2, 3)),
        Transpose(max(axis - 1, 0)),
        Tile(axis, 2),
        Split(axis, (1, size - 1) if size > 1 else (1,)),
        Sum(axis),
    )
    others = (Affine(-0.5, 0.25), Affine(1.0, 0.5), Affine(0.9), Relu(), Sigmoid(), StopGradient(), Max(axis))
    return draw.choice((*moves, *others, Softmax(axis)))


def model_of(body: Graph, steps: int, reverse: bool, zero: bool) -> Graph:
    """Return a model that runs a body over inputs; ``zero``: its states begin as zeros."""
    b = Builder("net")
    operands: list[Ref] = []
    for arg in body.body_args():
        assert isinstance(arg.op, Arg)
        shape, role = arg.types[0].shape, arg.op.role
        leaf = Input((steps, *shape)) if role == "x" else Param(shape) if role == "weight" else Input(shape)
        operands += b.add(Full(shape) if role == "state" and zero else leaf, names=(f"of_{arg.name}",))
    results = b.add(Scan(body, steps, reverse), *operands)
    return b.finish([(f"out{i}", ref) for i, ref in enumerate(results)])


def as_model(body: Graph) -> Graph:
    """A body with its arguments as inputs, and numbers for its results."""
    rebuild = Rebuild(body)
    for node in body:
        if isinstance(node.op, Arg):
            rebuild.put(node, rebuild.builder.add(Input(node.op.shape), names=node.names))
        else:
            rebuild.copy(node)
    return rebuild.finish([Output(f"{i}", output.ref) for i, output in enumerate(body.outputs)])
