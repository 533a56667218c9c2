"""Rules for a step in float32: joins copy less, and convolutions read elements where they are before ops move them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from math import prod

import numpy as np

from lstmc import ops
from lstmc.ir import Builder, Graph, Node, Ref
from lstmc.loops.index import Shape
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Concat, Conv, Full, Split
from lstmc.passes.base import Refs, rewrite

_Windows = tuple[Conv, Shape, list[dict[int, int]]]
PHASES = 4  # the largest distance of pixels between which there are zeros
LARGEST = 1 << 20  # the most elements of windows that are compared
MOST_IMAGES = 8  # that are tried in place of one image


def with_fewer_joins(graph: Graph) -> Graph:
    """split(concat(xs)) => pieces of xs; a piece of several xs is joined again only if a concat reads it.
    concat(concat(xs), y) => concat(xs, y)."""
    readers: dict[Ref, list[Node | None]] = {output.ref: [None] for output in graph.outputs}
    for node in graph:
        for ref in graph.args(node.name):
            readers.setdefault(ref, []).append(node)

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the new results of a join or a cut. Return None for another node, or if nothing changes."""
        if isinstance(node.op, Concat):
            flat = tuple(part for ref in args for part in _joined(b, ref, node.op))
            return b.add(node.op, *flat, names=node.names, loc=node.loc) if flat != args else None
        if not isinstance(node.op, Split) or (parts := _joined(b, args[0], Concat(node.op.axis))) == args:
            return None
        whole, axis, found, start = b.copy(node, args), node.op.axis, list[Ref](), 0
        for out, size in enumerate(node.op.sizes):
            pieces, reading = [*_pieces(b, parts, axis, start, start + size)], readers.get(Ref(node.name, out), ())
            if len(pieces) > 1 and not all(reader and reader.op == Concat(axis) for reader in reading):
                pieces = [whole[out]]
            found += pieces if len(pieces) == 1 else b.add(Concat(axis), *pieces)
            start += size
        return tuple(found)

    return rewrite(graph, visit)


def _joined(b: Builder, ref: Ref, join: Concat) -> Refs:
    return b.args(ref.node) if b.node(ref.node).op == join else (ref,)


def _pieces(b: Builder, parts: Refs, axis: int, start: int, stop: int) -> Iterator[Ref]:
    """Yield the pieces of the parts of a join that lie between ``start`` and ``stop`` along the join's axis."""
    for part in parts:
        size = b.type(part).shape[axis]
        low, high = max(start, 0), min(stop, size)
        if (low, high) == (0, size):
            yield part
        elif low < high:
            cuts = [each for each in (low, high - low, size - high) if each]
            yield b.add(Split(axis, tuple(cuts)), part)[1 if low else 0]
        start, stop = start - size, stop - size


def with_rows_that_are_read(graph: Graph) -> Graph:
    """conv(concat(rows)) => conv(concat(the rows that the conv reads)), if its windows are one line, and skip rows."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Conv) or node.op.dilation[0] == 1 or node.op.pad[0] or node.types[0].shape[-2] > 1:
            return None
        axis, (apart, across) = b.type(args[0]).rank - 2, node.op.dilation
        parts = _joined(b, args[0], Concat(axis))
        if len(parts) == 1:
            return None
        starts = (i * apart for i in range(b.type(args[1]).shape[2]))
        (x,) = b.add(Concat(axis), *(row for at in starts for row in _pieces(b, parts, axis, at, at + 1)))
        return b.add(replace(node.op, dilation=(1, across)), x, *args[1:], names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def with_direct_windows(graph: Graph) -> Graph:
    """conv(moved(x)) => conv(x), where padding, shifted copies or zeros between pixels only move elements of x. The
    kernel becomes larger, and pixels with zeros between them become channels."""
    fixed = constants(graph)

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Conv) or args[0].node in fixed or graph.args(node.name)[1].node not in fixed:
            return None
        kernel, shape = b.type(args[1]).shape, node.types[0].shape
        for image, elements in _moved_images(b, args[0]).items():
            found = _same_windows(node.op, kernel, shape, b.type(image).shape, elements)
            if found is not None:
                return _direct(b, node, args, image, *found)
        return None

    return rewrite(graph, visit)


def _moved_images(b: Builder, x: Ref) -> dict[Ref, Array]:
    """Return the smaller images from which ``x`` is made by moves and zeros alone, the smallest first. Each has an
    array of the shape of ``x``: for each element its number in the smaller image, counted from 1, or 0 for a zero."""
    inside: dict[Ref, None] = {x: None}
    pending = [x]
    while pending:
        node = b.node(pending.pop().node)
        if node.op.moves:
            pending += [ref for ref in b.args(node.name) if ref not in inside]
            inside |= dict.fromkeys(b.args(node.name))
    found, types = {}, {ref: b.type(ref) for ref in inside}
    images = [ref for ref, type_ in types.items() if type_.size < b.type(x).size and prod(type_.shape[:-3]) == 1]
    images = [ref for ref in images if types[ref].rank >= 3]
    for ref in sorted(images, key=lambda ref: types[ref].size)[:MOST_IMAGES]:
        shape = types[ref].shape
        known: dict[Ref, Array | None] = {ref: np.arange(1.0, prod(shape) + 1).reshape(shape)}
        elements = _evaluated(b, x, known)
        if elements is not None:
            found[ref] = elements
    return found


def _evaluated(b: Builder, ref: Ref, known: dict[Ref, Array | None]) -> Array | None:
    """Return the elements of a value made of ``known`` values and zeros by moves alone; None for another value."""
    if ref not in known:
        node = b.node(ref.node)
        if node.op == Full(node.types[0].shape, 0.0):
            known[ref] = np.zeros(node.types[0].shape)
        elif node.op.moves:
            args = [_evaluated(b, arg, known) for arg in b.args(node.name)]
            whole = [arg for arg in args if arg is not None]
            results = node.op.eval(*whole) if len(whole) == len(args) else (None,) * len(node.types)
            known |= {Ref(node.name, out): result for out, result in enumerate(results)}
        else:
            known[ref] = None
    return known[ref]


def _elements(op: Conv, image: Array, kernel: Shape, size: Shape) -> Array:
    """Return the elements of each window as [channels * kernel, rows, columns]; ``size`` is (rows, columns)."""
    (down, across), (rows, columns) = op.dilation, size
    padded = np.pad(image, ((0, 0), *((pad, pad) for pad in op.pad)))
    starts = [(i * down, j * across) for i, j in np.ndindex(kernel[0], kernel[1])]
    parts = [padded[:, top :: op.stride[0], left :: op.stride[1]][:, :rows, :columns] for top, left in starts]
    return np.stack(parts, 1).reshape(len(image) * len(parts), rows, columns)


def _same_windows(op: Conv, kernel: Shape, result: Shape, shape: Shape, x: Array) -> _Windows | None:
    """Return a convolution of an image of ``shape`` that has the windows of ``op`` on ``x``, its window size, and for
    each of the neighbouring pixels that it computes as channels the old element of a window by the new one. Return None
    if there is none. ``x`` has the number in the image of each element, as in :func:`_moved_images`."""
    (rows, columns), size = result[-2:], x.shape[-3] * prod(kernel[2:])
    if shape[-3] % op.group or size * rows * columns > LARGEST or prod(x.shape[:-3]) != 1:
        return None
    old = _elements(op, x.reshape(x.shape[-3:]), kernel[2:], (rows, columns))
    image = np.arange(1.0, prod(shape) + 1).reshape(shape[-3:])
    for phases in range(1, PHASES + 1 if op.stride[1] == 1 else 2):
        pixels = rows, -(-columns // phases)
        for new, window in _convolutions(op, image.shape, pixels, x.shape[-2], size):
            windows = _elements(new, image, window, pixels)
            found = [_matched(old[..., phase::phases], windows, op.group) for phase in range(phases)]
            if None not in found:
                return new, window, [each for each in found if each is not None]
    return None


def _convolutions(op: Conv, image: Shape, pixels: Shape, rows: int, most: int) -> Iterator[tuple[Conv, Shape]]:
    """Yield convolutions of an image with ``pixels`` results, and their window sizes of at most ``most`` elements."""
    for down in range(op.pad[0], op.pad[0] + max(rows - image[1], 0) + 1):
        for across in count():
            new = replace(op, pad=(down, across))
            sizes = [*zip(image[1:], new.pad, pixels, op.stride, op.dilation, strict=True)]
            window = tuple((n + 2 * pad - 1 - (many - 1) * step) // apart + 1 for n, pad, many, step, apart in sizes)
            if window[0] < 1 or image[0] * window[0] * window[1] > most:
                break
            found = [
                (n + 2 * pad - 1 - apart * (size - 1)) // step + 1
                for size, (n, pad, _, step, apart) in zip(window, sizes, strict=True)
            ]
            if window[1] > 0 and found == [*pixels]:
                yield new, window


def _matched(old: Array, new: Array, groups: int) -> dict[int, int] | None:
    """Return each old element, but zeros, by an equal new one; None if there is none, or if groups differ."""
    places = {each.tobytes(): at for at, each in enumerate(new[..., : old.shape[-1]].copy())}
    found: list[dict[int, int]] = []
    for group, part in enumerate(np.split(old, groups)):
        taken: dict[int, int] = {}
        for at, each in enumerate(part):
            if each.any():
                place = places.get(each.tobytes(), -1) - group * len(new) // groups
                if not 0 <= place < len(new) // groups or place in taken:
                    return None
                taken[place] = at
        found.append(taken)
    return found[0] if all(each == found[0] for each in found) else None


def _direct(
    b: Builder, node: Node, args: Refs, image: Ref, op: Conv, window: Shape, taken: Sequence[Mapping[int, int]]
) -> Refs:
    """Return a convolution as ``op`` of ``image``, which computes neighbouring pixels as channels; these are then put
    side by side. ``taken`` has for each of them the old weight by the new weight; the other new weights are 0."""
    (*lead, outs, rows, columns), (_, w, *bias) = node.types[0].shape, args
    elements, phases = prod(b.type(w).shape[1:]), len(taken)
    channels, shape = b.type(image).shape[-3] // op.group, (*lead, *b.type(image).shape[-3:])
    (flat,) = b.add(ops.Reshape((outs, elements)), w)
    old = b.add(Split(1, (1,) * elements), flat) if elements > 1 else (flat,)
    (zero,) = b.add(Full((outs, 1), 0.0))
    places = range(channels * prod(window))
    matrix = [old[phase[at]] if at in phase else zero for phase in taken for at in places]
    (joined,) = b.add(Concat(1), *matrix)
    (w,) = b.add(ops.Reshape((outs * phases, channels, *window)), joined, names=(f"{node.name}/windows",))
    if bias and phases > 1:
        (column,) = b.add(ops.Reshape((outs, 1)), *bias)
        (repeated,) = b.add(Concat(1), *[column] * phases)
        bias = [*b.add(ops.Reshape((outs * phases,)), repeated, names=(f"{node.name}/biases",))]
    if b.type(image).shape != shape:
        (image,) = b.add(ops.Reshape(shape), image)
    if phases == 1:
        return b.add(op, image, w, *bias, names=node.names, loc=node.loc)
    apart = -(-columns // phases)
    (y,) = b.add(op, image, w, *bias, names=(f"{node.name}/phases",), loc=node.loc)
    (y,) = b.add(ops.Reshape((outs, phases, rows * apart)), y)
    pixels = [b.add(ops.Reshape((outs, rows * apart, 1)), part)[0] for part in b.add(Split(1, (1,) * phases), y)]
    (y,) = b.add(Concat(2), *pixels)
    (y,) = b.add(ops.Reshape((outs, rows, apart * phases)), y)
    if apart * phases > columns:
        (y, _) = b.add(Split(2, (columns, apart * phases - columns)), y)
    return b.add(ops.Reshape(node.types[0].shape), y, names=node.names, loc=node.loc)
