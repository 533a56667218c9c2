"""Trees of layers where one layer would have a top or a bottom for every step.

Caffe's ``Net::AppendTop`` copies the whole message of a layer once for each of its tops, so a Slice (or an inserted
Split) with T tops costs T x T to load. A tree of layers with at most ``FAN`` each costs T.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from lstmc.ir import Builder, Ref, Step, Steps
from lstmc.passes import Refs
from lstmc_caffe.ops.shape import ConcatLayer, SliceLayer, SplitLayer

FAN = 100  # tops or bottoms of one layer


def branches(count: int, most: int = FAN) -> tuple[range, ...]:
    """``count`` leaves as the ranges below the root of the flattest balanced tree with ``most`` children a node."""
    levels = 1
    while most**levels < count:
        levels += 1
    width = next(w for w in range(1, count + 1) if w**levels >= count)
    ends = [i * count // width for i in range(width + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(ends))


def _branch_name(name: str, branch: range) -> str:
    return f"{name}_{branch.start}_to_{branch.stop - 1}"


def _top_names(name: str, leaves: Sequence[str], inside: Sequence[range]) -> list[str]:
    """The names of a layer's tops: a leaf's own name for one that is a leaf."""
    return [leaves[i.start] if len(i) == 1 else _branch_name(name, i) for i in inside]


def _top_steps(step: Step | None, leaves: Sequence[Step | None], inside: Sequence[range]) -> Steps:
    """The steps of a layer's tops: a leaf's own for one that is a leaf."""
    return tuple([leaves[i.start] if len(i) == 1 else step for i in inside])


def slice_tree(
    b: Builder,
    x: Ref,
    axis: int,
    sizes: Sequence[int],
    names: Sequence[str],
    steps: Sequence[Step | None] = (),
    most: int = FAN,
) -> Refs:
    """The pieces of x along ``axis``, called ``names`` and of ``steps``, by Slices of at most ``most`` tops."""
    if len(sizes) == 1:
        return (x,)
    inside = branches(len(sizes), most)
    if len(inside) == len(sizes):
        return b.add(SliceLayer(axis, tuple(sizes)), x, names=names, steps=tuple(steps))
    ends = [0, *accumulate(sizes)]
    blocks = tuple(ends[branch.stop] - ends[branch.start] for branch in inside)
    name = b.node(x.node).names[x.out]
    steps = steps or (None,) * len(names)
    top_steps = _top_steps(b.of_step(x), steps, inside)
    tops = b.add(SliceLayer(axis, blocks), x, names=_top_names(name, names, inside), steps=top_steps)
    pieces: list[Ref] = []
    for top, i in zip(tops, inside, strict=True):
        of = slice(i.start, i.stop)
        pieces += slice_tree(b, top, axis, sizes[of], names[of], steps[of], most)
    return tuple(pieces)


def concat_tree(b: Builder, xs: Sequence[Ref], axis: int, name: str, step: Step | None = None, most: int = FAN) -> Ref:
    """xs joined along ``axis``, by Concats of at most ``most`` bottoms."""
    if len(xs) == 1:
        return xs[0]
    inside = branches(len(xs), most)
    if len(inside) == len(xs):
        return b.add(ConcatLayer(axis), *xs, names=(name,), steps=(step,))[0]
    blocks = [concat_tree(b, xs[i.start : i.stop], axis, _branch_name(name, i), step, most) for i in inside]
    return b.add(ConcatLayer(axis), *blocks, names=(name,), steps=(step,))[0]


def split_tree(b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step | None], most: int = FAN) -> Refs:
    """A copy of x for every name and step, by Splits of at most ``most`` tops; x itself where one layer would do.

    Caffe inserts that one layer itself.
    """
    return (x,) * len(names) if len(names) <= most else _split(b, x, names, steps, most)


def _split(b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step | None], most: int) -> Refs:
    if len(names) == 1:
        return (x,)
    inside = branches(len(names), most)
    if len(inside) == len(names):
        return b.add(SplitLayer(len(names)), x, names=names, steps=tuple(steps))
    name = b.node(x.node).names[x.out]
    top_steps = _top_steps(b.of_step(x), steps, inside)
    tops = b.add(SplitLayer(len(inside)), x, names=_top_names(name, names, inside), steps=top_steps)
    leaves: list[Ref] = []
    for top, i in zip(tops, inside, strict=True):
        leaves += _split(b, top, names[i.start : i.stop], steps[i.start : i.stop], most)
    return tuple(leaves)
