"""Layers of stock Caffe as those of a narrower target; steps in float16; embeddings; names of blobs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from keyword import kwlist
from math import prod
from typing import Any

import numpy as np

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref
from lstmc.ops import Abs, Affine, Concat, Embed, Linear, Op, Pointwise, Relu, Reshape, Tanh, Transpose
from lstmc.passes import FixedArrays, Pass, PassResult, Refs, compared, graph_pass, node_pass, result, rewrite
from lstmc.text import Names
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.functions import FUNCTIONS, combined, power_layers
from lstmc_caffe.rows.layout import Form, last_axis, matrix_at
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class Narrow(Pass):
    """Replace each layer that a target lacks by layers that its file allows.

    For targets whose blobs are matrices (``layout = "rows"``):

    1. Input                           => an array of the host; blobs are fed from it
    2. DummyData                       => a matrix of that number, which ``constants`` replaces later
    3. InnerProduct, Slice, Concat, Softmax on axis k => on axis 1 of the matrix whose columns begin at k; on axis 0 =>
       on axis 0; Softmax on an axis before others => Softmax of the same columns, side by side; InnerProduct of one
       column, if not allowed => InnerProduct of that column and a column of zeros
    4. Reshape                         => a view
    5. an elementwise layer => the layer on the matrix that its operand is, or is a view of

    For all targets, if a layer is not allowed:

    6. Eltwise of several bottoms; with coeff => two bottoms at a time; Eltwise of y times its coeff
    7. Power                           => Eltwise PROD of x and x; SUM with coeff; plus a constant
    8. Scale, Bias with its own blob => the layer on the last axes of a matrix; x + p => Eltwise of x and a Scale of
       ones
    9. p + 0                           => Scale of ones
    10. Tile                           => Concat of the operand with itself
        Scale, Bias of two bottoms => the smaller bottom repeated, then Eltwise
        Reduction; Pooling of whole columns => Slice and Eltwise SUM, for a mean with Power; Eltwise MAX
    11. BNLL                           => AbsVal, Exp and Log, or Sigmoid and a polynomial; AbsVal => ReLU of x, -x;
        Exp => TanH and Power, or Sigmoid and polynomials; Log => Power and a polynomial;
        Eltwise MAX => ReLU and Sigmoid of the difference; in float16 a smaller shift that rounds
    12. Dropout(x), in a net that is not trained => x

    Refused, with the target's reason: every other layer that it does not allow.
    """

    name = "narrow"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            """Return the results of a layer's rule; None if the node stays as it is."""
            if not isinstance(node.op, caffe.CaffeOp) or isinstance(node.op, caffe.Feed):
                return None
            form = Form(self.target, b, node)
            if _fits_unchanged(form, node.op, args):
                return None
            rule = RULES.get(type(node.op)) or (pointwise if isinstance(node.op, Pointwise) else as_it_is)
            counts[rule.__name__] += 1
            return rule(form, node.op, args)

        return compared(graph, rewrite(graph, visit, bodies=True), counts)


def _fits_unchanged(form: Form, op: caffe.CaffeOp, args: Refs) -> bool:
    """Return whether a layer stays as it is: its operands are no views, and the target allows it."""
    changed = (*INPUTS, caffe.DummyData) if form.target.float16 else INPUTS
    # rows: inputs and views always change
    if form.rows and (isinstance(op, changed) or any(isinstance(form.b.node(a.node).op, caffe.View) for a in args)):
        return False
    of_channels = not isinstance(op, caffe.Bias | caffe.Scale) or (op.axis, op.num_axes) == (1, 1)
    if form.rows and not of_channels and form.b.type(args[0]).rank > 2:
        return False  # on images, a Bias or Scale may only cover the channels
    of_power = form.rows and form.target.allows("Power")
    if of_power and isinstance(op, caffe.PowerLayer) and op.power != 1 and not op.shift:
        return False  # OpenCV misreads it: see `power`
    return form.fits(op, *[form.b.type(ref) for ref in args])


NarrowRule = Callable[[Form, Any, Refs], Refs]
INPUTS = (caffe.InputLayer, caffe.FilledInput)


def input_of_host(form: Form, op: caffe.InputLayer | caffe.FilledInput, args: Refs) -> Refs:
    """Write an input as an array of the host if blobs are matrices, otherwise as an Input layer, which is fed."""
    if form.rows:
        return form.b.copy(form.node, args, caffe.HostInput(op.shape, op.fill, op.values))
    return form.layers(caffe.InputLayer(op.shape, op.fill, op.values))


def constant(form: Form, op: caffe.DummyData, args: Refs) -> Refs:
    """Write a constant as a matrix of its number. In float16 the number that undoes :func:`rounding` is smaller."""
    in_half = form.target.float16 and op.value == -caffe.RoundingPower.shift
    value = -caffe.RoundingPower.HALF if in_half else op.value
    return (form.result(form.constant(last_axis(op.shape), value, form.node.name)),)


def rounding(form: Form, op: caffe.RoundingPower, args: Refs) -> Refs:
    """Round by adding a large number, in float16 a smaller one. There a ReLU leaves the positive sum unchanged: without
    it, readers of the net merge this addition with the subtraction in the next layer."""
    if not form.target.float16:
        return pointwise(form, op, args)
    shift, name = caffe.RoundingPower(caffe.RoundingPower.HALF), f"{form.node.name}/shifted"
    return (form.result(form.layer(caffe.ReLULayer(), form.layer(shift, form.blob(args[0]), name=name))),)


def inner_product(form: Form, op: caffe.InnerProduct, args: Refs) -> Refs:
    """Write an InnerProduct on the matrix whose columns are the axes of x from ``op.axis`` on."""
    x, *learned = args
    rows = form.view(x, matrix_at(form.shape(x), op.axis))
    product = caffe.InnerProduct(1, op.num_output, op.bias)
    if form.rows and form.shape(rows)[1] == 1 and not form.fits(product, *map(form.b.type, (rows, *learned))):
        return (form.result(column_by(form, rows, *learned)),)
    return (form.result(form.layer(product, rows, *learned)),)


def column_by(form: Form, x: Ref, w: Ref, *b: Ref) -> Ref:
    """Return x w for a column x, for targets without products of one column: x gets a second column, of zeros."""
    name = f"{form.named(x)}/{form.node.name}"
    zeros = power_layers(form, caffe.PowerLayer(scale=0.0), x, f"{name}/zeros")
    wide = form.layer(caffe.ConcatLayer(1), x, zeros, name=f"{name}/wide")
    (double,) = form.b.add(Concat(1), w, w, names=(f"{form.named(w)}/double",))
    return form.layer(caffe.InnerProduct(1, form.shape(w)[0], bool(b)), wide, double, *b)


def softmax(form: Form, op: caffe.SoftmaxLayer, args: Refs) -> Refs:
    """Write a softmax over any axis as a Softmax over axis 1 of a matrix: axes after that axis move to the rows."""
    shape = form.shape(args[0])
    lead, length, rest = prod(shape[: op.axis]), shape[op.axis], prod(shape[op.axis + 1 :])
    if rest == 1:
        return (form.result(form.layer(caffe.SoftmaxLayer(1), form.view(args[0], (lead, length)))),)
    columns = [form.view(piece, (lead * rest, 1)) for piece in pieces(form, args[0], op.axis)]
    turned = form.joined(1, columns, f"{form.node.name}/columns")
    soft = form.layer(caffe.SoftmaxLayer(1), turned, name=f"{form.node.name}/softmax")
    rows = [form.view(piece, (lead, rest)) for piece in pieces(form, soft, 1)]
    return (form.result(form.joined(1, rows)),)


def pieces(form: Form, x: Ref, axis: int) -> Refs:
    """Return a piece of x for each index along an axis, a matrix: rows are the axes before, columns the axes after."""
    shape = form.shape(x)
    lead, length, rest = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    if length == 1:
        return (form.view(x, (lead, rest)),)
    names = [f"{form.named(x)}/{form.node.name}/{i}" for i in range(length)]
    return form.layers(caffe.SliceLayer(1, (rest,) * length), form.view(x, (lead, length * rest)), names=names)


MOST_COLUMNS = 32  # that a sum or maximum combines one by one; longer axes are halved first


def _columns(form: Form, op: caffe.Eltwise, x: Ref, axis: int) -> Refs:
    """Return pieces of x along an axis, for the caller to combine by ``op``; halves of a long axis are combined here.
    But not for a maximum if the target is trained: single pieces give the first of equal numbers the gradient."""
    shape, rest = form.shape(x), prod(form.shape(x)[axis + 1 :])
    length, type_ = shape[axis], TensorType((prod(shape[:axis]), rest))
    odd: list[Ref] = []
    one_by_one = (op.operation == "MAX" and form.target.trained) or not form.fits(op, type_, type_)
    while length > MOST_COLUMNS and not one_by_one:
        half, name = length // 2, f"{form.named(x)}/{form.node.name}/{length}"
        sizes, names = (half * rest, half * rest, rest)[: 2 + length % 2], [f"{name}/{part}" for part in "012"]
        whole = form.view(x, (type_.shape[0], length * rest))
        first, second, *last = form.layers(caffe.SliceLayer(1, sizes), whole, names=names[: len(sizes)])
        x, length, odd, axis = combined(form, op, [first, second], name), half, [*last, *odd], 1
    return (*pieces(form, form.view(x, (type_.shape[0], length, rest)), 1), *odd)


def reduction(form: Form, op: caffe.Reduction, args: Refs) -> Refs:
    """Write a sum over the last axes as an Eltwise sum of columns, cut by a Slice. Raise BackendError without Slice."""
    if not form.rows or not form.target.allows("Slice"):
        return form.layers(op, *args)  # refused
    x, total = form.view(args[0], matrix_at(form.shape(args[0]), op.axis)), caffe.Eltwise("SUM")
    return (form.result(combined(form, total, _columns(form, total, x, 1))),)


def pooling(form: Form, op: caffe.AvePooling | caffe.MaxPooling, args: Refs) -> Refs:
    """Write the mean or maximum of whole columns of an image of one channel as an Eltwise of the image's rows. A
    maximum stays a pooling if that is allowed and Eltwise MAX is not: it must be exact, as argmax compares with it."""
    count, channels, height, width = form.shape(args[0])
    column = channels == 1 and op.size == (height, 1) and op.pad == (0, 0)
    two = [TensorType((count, width))] * 2
    inexact = isinstance(op, caffe.MaxPooling) and not form.fits(caffe.Eltwise("MAX"), *two)
    stays = inexact and form.fits(op, form.b.type(args[0]))
    if not form.rows or not column or not form.target.allows("Slice") or stays:
        return form.layers(op, *args)
    each = caffe.Eltwise("MAX" if isinstance(op, caffe.MaxPooling) else "SUM")
    rows = _columns(form, each, args[0], 2)
    if isinstance(op, caffe.MaxPooling):  # reversed: of equal bottoms the second has the gradient, so the first row
        return (form.result(combined(form, each, rows[::-1])),)
    total = combined(form, each, rows, f"{form.node.name}/sum")
    return (form.result(form.layer(caffe.PowerLayer(scale=1 / height), form.blob(total))),)


def slice_(form: Form, op: caffe.SliceLayer, args: Refs) -> Refs:
    """Write a Slice on the matrix whose columns begin at ``op.axis``; a Slice of axis 0, on the rows of the matrix."""
    shape = form.shape(args[0])
    axis, inner = min(op.axis, 1), prod(shape[op.axis + 1 :]) if op.axis else 1
    rows = form.view(args[0], matrix_at(shape, op.axis or 1))
    pieces = form.layers(caffe.SliceLayer(axis, tuple(size * inner for size in op.sizes)), rows)
    return tuple(form.result(piece, out) for out, piece in enumerate(pieces))


def concat(form: Form, op: caffe.ConcatLayer, args: Refs) -> Refs:
    rows = [form.view(ref, matrix_at(form.shape(ref), op.axis or 1)) for ref in args]
    return (form.result(form.joined(min(op.axis, 1), rows)),)


def reshape(form: Form, op: caffe.ReshapeLayer, args: Refs) -> Refs:
    return (form.view(args[0], op.shape, form.node.names),)


def tile(form: Form, op: caffe.TileLayer, args: Refs) -> Refs:
    x = form.view(args[0], matrix_at(form.shape(args[0]), op.axis)) if form.rows else args[0]
    return (form.result(form.repeated(x, 1 if form.rows else op.axis, op.tiles, form.node.name)),)


def pointwise(form: Form, op: caffe.CaffeOp, args: Refs) -> Refs:
    return (form.result(form.layer(op, form.blob(args[0]))),)


def dropout(form: Form, op: caffe.DropoutLayer, args: Refs) -> Refs:
    return form.layers(op, *args) if form.target.trained else args


def as_it_is(form: Form, op: caffe.CaffeOp, args: Refs) -> Refs:
    """Keep a layer that has no replacement; raise BackendError if the target does not allow it."""
    return form.layers(op, *args)


RULES: dict[type[Op], NarrowRule] = {
    caffe.InputLayer: input_of_host,
    caffe.FilledInput: input_of_host,
    caffe.DummyData: constant,
    caffe.RoundingPower: rounding,
    caffe.InnerProduct: inner_product,
    caffe.SoftmaxLayer: softmax,
    caffe.SliceLayer: slice_,
    caffe.ConcatLayer: concat,
    caffe.ReshapeLayer: reshape,
    caffe.TileLayer: tile,
    caffe.Reduction: reduction,
    caffe.AvePooling: pooling,
    caffe.MaxPooling: pooling,
    **FUNCTIONS,
    caffe.DropoutLayer: dropout,
}

LEAST_STEP = 2.0**27  # tanh of this factor times any float16 number is 1, 0 or -1: the smallest number is 2^-24
HALF_FACTOR = 2.0**15  # the largest power of 2 in float16


@node_pass()
def half_steps(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Write step functions with factors that float16 can hold, for targets whose readers compute in float16.

    1. tanh(k x), k from 2^27 on => tanh(2^15 tanh(2^15 tanh(x)))
    2. k x - k, k from 2^27 on => 2^15 x - 2^15

    ``step(x)`` is tanh(2^96 relu(x)): in float16 that factor is infinite, and its product with 0 is NaN. Rule 2 is for
    masks of lengths: past the end of a sequence k x - k is below all other numbers.
    """
    if isinstance(node.op, Affine) and node.op.scale == -node.op.shift >= LEAST_STEP:
        counts["mask"] += 1
        return b.add(Affine(HALF_FACTOR, -HALF_FACTOR), *args, names=node.names, loc=node.loc)
    factor = b.node(args[0].node).op if args else None
    if not isinstance(node.op, Tanh) or not isinstance(factor, Affine):
        return None
    if factor.scale < LEAST_STEP or factor.shift:
        return None
    counts["tanh_of_tanh"] += 1
    (x,) = b.args(args[0].node)
    for number in (1, 2):
        (x,) = b.add(Tanh(), x, names=(f"{node.name}/{number}",), loc=node.loc)
        (x,) = b.add(Affine(HALF_FACTOR, 0.0), x, names=(f"{node.name}/{number}/scaled",), loc=node.loc)
    return b.add(Tanh(), x, names=node.names, loc=node.loc)


MOST_ROWS = 2**11  # up to here float16 has all integers


@graph_pass()
def embed_products(graph: Graph, counts: Counter[str]) -> Graph:
    """Write the lookup of rows by integers as a product, for targets without Embed.

    1. embed(x, W), W of up to 2048 rows => linear(relu(1 - abs(linear(x, 1) - i)), W.T), i = 0, 1, 2, ...: each integer
       becomes a one-hot row

    Embeddings of states, within a loop, already are products; all others were moved before the loop.
    """
    fixed = FixedArrays()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return an embed as a product; None for any other node, and for a matrix of over ``MOST_ROWS`` rows."""
        if not isinstance(node.op, Embed) or (rows := graph.type(graph.args(node.name)[1]).shape[0]) > MOST_ROWS:
            return None
        counts["embed"] += 1
        ones = fixed.add(b, np.ones((rows, 1)), f"embed/ones_{rows}")
        places = fixed.add(b, -np.arange(rows, dtype=float), f"embed/places_{rows}")
        x, matrix = args
        axis, value = b.type(x).rank, x
        ops = (Reshape((*b.type(x).shape, 1)), Linear(axis), Abs(), Affine(-1.0, 1.0), Relu())
        for op, word in zip(ops, ("column", "less_places", "away", "near", "one_hot"), strict=True):
            more = (ones, places) if isinstance(op, Linear) else ()
            (value,) = b.add(op, value, *more, names=(f"{node.name}/{word}",), loc=node.loc)
        (turned,) = b.add(Transpose(0), matrix, names=(f"{node.name}/transposed",), loc=node.loc)
        return b.add(Linear(axis), value, turned, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


@dataclass(frozen=True)
class RenameBlobs(Pass):
    """Give each blob a name that the target's readers accept; the manifest keeps the model's names.

    1. a layer => the layer with a free name: with ``names = "words"`` of small letters, digits and ``_`` alone, and no
       keyword of Python; with ``"apart"`` not the name of another layer followed by ``_1``, ``_weight_0`` or
       ``_weight_1``, which that layer's weights have
    2. an Input => an input of the host, and the renamed blob that is fed from it

    ``a/b_2`` and ``a_b/2`` are two names, but a reader that writes ``_`` for ``/`` would confuse them.
    """

    name = "rename_blobs"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        layers = {node.name: node.op for node in graph if isinstance(node.op, caffe.CaffeOp)}
        learning = [name for name, op in layers.items() if op.blobs(len(graph.args(name)))]
        taken = {f"{name}_{end}" for name in learning for end in ("1", "weight_0", "weight_1")}
        words = self.target.names == "words"

        def fits(name: str) -> bool:
            return (_word(name) == name and name not in kwlist) if words else name not in taken

        renamed = {name for name in layers if not all(map(fits, graph.node(name).names))}
        if not renamed:
            return PassResult(graph, False)
        counts: Counter[str] = Counter()
        rebuild = Rebuild(graph)
        used = {name for node in graph for name in node.names} | (set(kwlist) if words else taken)
        free = Names(used, _word if words else str)
        sources: dict[Ref, Ref] = {}
        for node in graph:
            if node.name not in renamed:
                rebuild.copy(node)
                continue
            names = tuple(name if fits(name) else free.unique(name) for name in node.names)
            if isinstance(node.op, caffe.InputLayer):
                counts["feed"] += 1
                source = rebuild.builder.copy(node, (), caffe.HostInput(node.op.shape, node.op.fill, node.op.values))
                feed = rebuild.builder.add(caffe.Feed(node.op.shape), *source, names=names, loc=node.loc)
                rebuild.put(node, feed)
                sources[Ref(node.name)] = source[0]
            else:
                counts["rename"] += 1
                rebuild.put(node, rebuild.builder.copy(replace(node, names=names), rebuild.args(node)))
        renewed = {**rebuild.new, **sources}  # a value that was carried to an Input is carried to the host's input
        outputs = [
            o._replace(ref=rebuild.new[o.ref], carried_to=o.carried_to and renewed.get(o.carried_to))
            for o in graph.outputs
        ]
        return result(graph, rebuild.builder.finish(outputs), counts)


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name.lower(), flags=re.ASCII)
