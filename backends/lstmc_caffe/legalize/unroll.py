"""Time and wide layers in Caffe: cut a sequence into steps, join steps and share values, in trees of layers. Caffe's
``Net::AppendTop`` copies the whole message of a layer once for each of its tops, so a Slice (or an inserted Split) with
T tops costs T x T to load. A tree of layers with at most ``FAN`` tops each costs T."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Ref, Step, is_weight, reshaped
from lstmc.ops import Op
from lstmc.passes import Pass, PassResult, Refs, TimeAxis, result, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.ops import ConcatLayer, SliceLayer, SplitLayer

FAN = 100  # tops or bottoms of one layer


def branches(count: int, most: int = FAN) -> tuple[range, ...]:
    """Divide ``count`` leaves among a root's children, in the flattest tree of at most ``most`` children a node."""
    levels = 1
    while most**levels < count:
        levels += 1
    width = next(w for w in range(1, count + 1) if w**levels >= count)
    ends = [i * count // width for i in range(width + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(ends))


def _branch_name(name: str, branch: range) -> str:
    return f"{name}_{branch.start}_to_{branch.stop - 1}"


def _tops(
    b: Builder,
    x: Ref,
    layer: Callable[[tuple[int, ...]], Op],
    sizes: Sequence[int],
    names: Sequence[str],
    steps: Sequence[Step | None],
    most: int,
) -> Refs:
    """Cut x by a tree of layers of at most ``most`` tops; return the leaves. ``layer`` maps sizes of tops to a
    layer."""
    if len(sizes) == 1:
        return (x,)
    inside, ends = branches(len(sizes), most), [0, *accumulate(sizes)]
    blocks = tuple(ends[i.stop] - ends[i.start] for i in inside)
    name, step = b.node(x.node).names[x.out], b.of_step(x)
    # a top that is a leaf has the leaf's own name and step
    top_names = [names[i.start] if len(i) == 1 else _branch_name(name, i) for i in inside]
    top_steps = tuple([steps[i.start] if len(i) == 1 else step for i in inside])
    leaves: list[Ref] = []
    for top, i in zip(b.add(layer(blocks), x, names=top_names, steps=top_steps), inside, strict=True):
        span = slice(i.start, i.stop)
        leaves += _tops(b, top, layer, sizes[span], names[span], steps[span], most)
    return tuple(leaves)


def slice_tree(
    b: Builder,
    x: Ref,
    axis: int,
    sizes: Sequence[int],
    names: Sequence[str],
    steps: Sequence[Step | None] = (),
    most: int = FAN,
) -> Refs:
    """Return the pieces of x along ``axis``, with these names and steps, by Slices of at most ``most`` tops."""
    steps = steps or (None,) * len(names)
    return _tops(b, x, lambda blocks: SliceLayer(axis, blocks), sizes, names, steps, most)


def split_tree(b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step | None], most: int = FAN) -> Refs:
    """Return x for every name and step: x itself, if one Split of Caffe's is enough, or copies by a tree of Splits."""
    if len(names) <= most:
        return (x,) * len(names)
    return _tops(b, x, lambda blocks: SplitLayer(len(blocks)), (1,) * len(names), names, steps, most)


def concat_tree(b: Builder, xs: Sequence[Ref], axis: int, name: str, step: Step | None = None, most: int = FAN) -> Ref:
    """Join ``xs`` along ``axis`` by Concats of at most ``most`` bottoms."""
    if len(xs) == 1:
        return xs[0]
    inside = branches(len(xs), most)
    blocks = [concat_tree(b, xs[i.start : i.stop], axis, _branch_name(name, i), step, most) for i in inside]
    return b.add(ConcatLayer(axis), *blocks, names=(name,), steps=(step,))[0]


@dataclass(frozen=True)
class LimitFan(Pass):
    """Replace every Slice, Concat or split with more than ``most`` parts by a tree.

    1. a Slice with more tops      => Slices of Slices
    2. a Concat with more bottoms  => a Concat of Concats
    3. a value with more readers   => Splits of Splits, each reader having its own top (Caffe would insert one Split)

    ``CaffeTimeAxis`` writes trees for sequences; this pass makes trees of a model's other wide layers.
    """

    name = "limit_fan"
    most: int = FAN

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        layers = Counter(graph.readers())  # the number of layers that read each value
        layers.subtract(output.ref for output in graph.outputs)  # below, weights are left out: they have no tops
        readers = {ref: n for ref, n in layers.items() if n > self.most and not is_weight(graph, ref)}
        copies: dict[Ref, Iterator[Ref]] = {}

        def visit(b: Builder, node: Node, args: Refs) -> Refs:
            """Write a node that reads its own copies of values; copy a result for each of many readers."""
            old = graph.args(node.name)
            args = tuple(next(copies[was]) if was in copies else ref for was, ref in zip(old, args, strict=True))
            results = self._narrow(b, node, args, counts)
            for out, ref in enumerate(results):
                if count := readers.get(Ref(node.name, out)):
                    counts["split_readers"] += 1
                    names = [f"{node.names[out]}_copy{i}" for i in range(count)]
                    steps = (node.of_step(out),) * count
                    copies[Ref(node.name, out)] = iter(split_tree(b, ref, names, steps, self.most))
            return results

        if not readers and not any(self._is_wide(graph, node) for node in graph):
            return result(graph, graph, counts)
        return result(graph, rewrite(graph, visit), counts)

    def _narrow(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs:
        """Write a node: a Slice or Concat that is too wide as a tree, any other node unchanged."""
        op = node.op
        if isinstance(op, SliceLayer) and len(op.sizes) > self.most:
            counts["slice_of_slices"] += 1
            return slice_tree(b, args[0], op.axis, op.sizes, node.names, node.steps, self.most)
        if isinstance(op, ConcatLayer) and len(args) > self.most:
            counts["concat_of_concats"] += 1
            return (concat_tree(b, args, op.axis, node.name, node.step, self.most),)
        return b.copy(node, args)

    def ensures(self, graph: Graph) -> None:
        for node in graph:
            if self._is_wide(graph, node):
                raise PassError(f"limit_fan left %{node.name} with more than {self.most} tops or bottoms")

    def _is_wide(self, graph: Graph, node: Node) -> bool:
        if len(node.types) > self.most:
            return type(node.op) is SliceLayer
        return type(node.op) is ConcatLayer and len(graph.args(node.name)) > self.most


@dataclass(frozen=True)
class CaffeTimeAxis(TimeAxis):
    """Time axis of layers: a sequence [T, N, ...] is viewed as [T*N, ...], so that a slice is a step [N, ...]. Steps
    that keep their axis, [1, N, ...], need no view. Trees of layers cut, join and share long sequences."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """Return x [T, N, ...] as T values [N, ...], or as T values [1, N, ...] if the axis is ``kept``."""
        length, *step = b.type(x).shape
        if kept:
            return slice_tree(b, x, 0, (1,) * length, names, steps)
        if length > 1 and not step:
            return self._numbers(b, x, names, steps)
        name = b.node(x.node).names[x.out]
        if length == 1:
            return (reshaped(b, x, caffe.ReshapeLayer(tuple(step)), names, steps=tuple(steps)),)
        size, *rest = step
        together = reshaped(b, x, caffe.ReshapeLayer((length * size, *rest)), (f"{name}/rows",))
        return slice_tree(b, together, 0, (size,) * length, names, steps)

    @staticmethod
    def _numbers(b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """Return x [T] as T values without axes. A slice of x is [1], so each gets a Reshape."""
        cut = slice_tree(b, x, 0, (1,) * len(names), [f"{name}/row" for name in names], steps)
        return tuple(
            b.add(caffe.ReshapeLayer(()), row, names=(name,), steps=(b.of_step(row),))[0]
            for row, name in zip(cut, names, strict=True)
        )

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """Return T values [N, ...], or [1, N, ...] if the axis is ``kept``, as one [T, N, ...]."""
        if kept:
            return concat_tree(b, steps, 0, name)
        shape = (len(steps), *b.type(steps[0]).shape)
        if len(shape) == 1:  # numbers, which have no axis to be joined along
            numbers = [b.add(caffe.ReshapeLayer((1,)), number, names=(f"{name}/row",))[0] for number in steps]
            return concat_tree(b, numbers, 0, name)
        rows = concat_tree(b, steps, 0, f"{name}/rows")
        return b.add(caffe.ReshapeLayer(shape), rows, names=(name,))[0]

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        return split_tree(b, x, names, steps)
