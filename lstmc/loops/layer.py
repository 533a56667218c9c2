"""Generated layers: scans with generated code, the pass that makes them, and their plans as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from zlib import crc32

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Rounding, Scan, Stage
from lstmc.loops import plan as plans
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.loops.memory import Array, Loop, Product, Task
from lstmc.loops.rows import with_rows_first
from lstmc.ops import Arg, Dropout, Full, Mul, Transpose
from lstmc.passes import NodePass, Refs, rewrite
from lstmc.text import quoted


@dataclass(frozen=True)
class GeneratedScan(Scan):
    """A scan for which there is generated code. Its body has no dropout, and takes weights last. ``initial`` has for
    each state the number with which all its elements start, or None if an operand gives the initial value. ``products``
    is the arithmetic of its products."""

    initial: tuple[float | None, ...] = ()
    products: ProductNumbers = FLOAT32

    @property
    def rounding(self) -> Rounding | None:
        """The arithmetic of its products, or None if that is float32."""
        return None if self.products == FLOAT32 else self.products

    def in_numbers(self, products: ProductNumbers) -> GeneratedScan:
        return replace(self, products=products)

    def plan(self) -> plans.Plan:
        """Return the plan of its code. Raises :class:`BackendError` for a scan without code, with the reason."""
        return plans.plan_of(self, self.initial, self.products)

    def inlined(self, operands: int) -> frozenset[int]:
        """Return the slots of the operands that the code does not read, because it contains their numbers."""
        states = [slot for slot in range(operands) if self.role(slot) == "state"]
        return frozenset(slot for slot, value in zip(states, self.initial, strict=True) if value is not None)


@dataclass(frozen=True)
class GenerateLoops(NodePass):
    """Turn every scan that has code into one generated layer.

    1. scan(body) => a generated scan; a scan with an op that has no code stays
    2. dropout(x) in body => x * mask: the masks of all steps are one dropout of ones, before the scan
    3. scan(x [T, S, N]) => scan(transpose(x)) [T, N, S], if each row of the batch is then independent

    With ``any_batch`` a scan whose rows depend on each other stays too, because its code is for one size of the batch.
    """

    name = "generate_loops"
    after = Stage.EXPANDED
    any_batch: bool = False
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        """Return the results of a generated scan. Return None to keep a node that is no scan, a scan without code, and,
        with ``any_batch``, a scan for one batch size."""
        if not isinstance(node.op, Scan) or isinstance(node.op, GeneratedScan):
            return None
        scan = node.op
        states = [b.node(ref.node).op for slot, ref in enumerate(args) if scan.role(slot) == "state"]
        initial = tuple([op.value if isinstance(op, Full) else None for op in states])
        generated, dropouts = _generated(scan, initial)
        try:
            fixed = generated.plan().rows.fixed
            if fixed and (apart := with_rows_first(scan)):
                inner, slots = apart
                other = replace(scan, body=inner)
                first, first_dropouts = _generated(other, initial)
                if not first.plan().rows.fixed:
                    fixed, scan, generated, dropouts = False, other, first, first_dropouts
                    swaps = {slot: Transpose(int(scan.role(slot) == "x")) for slot in slots}
                    args = tuple([b.add(swaps[i], ref)[0] if i in swaps else ref for i, ref in enumerate(args)])
        except BackendError:
            return None
        if fixed and self.any_batch:
            return None
        counts["generate_loop"] += 1
        masks = [_masks(b, dropout, scan.length) for dropout in dropouts]
        return b.add(generated, *in_layer_order(scan, args, masks), names=node.names, loc=node.loc)


@dataclass(frozen=True)
class RoundProducts(NodePass):
    """Give the products of every generated loop numbers of low precision."""

    name = "round_products"
    after = Stage.EXPANDED
    numbers: ProductNumbers = FLOAT32
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        if not isinstance(node.op, GeneratedScan) or node.op.products == self.numbers:
            return None
        counts["round_products"] += 1
        return b.add(node.op.in_numbers(self.numbers), *args, names=node.names, loc=node.loc)


def product_numbers(graph: Graph) -> ProductNumbers:
    """Return the arithmetic of the products in a graph's loops: FLOAT32, unless a loop has low precision."""
    found = (node.op.products for node in graph if isinstance(node.op, GeneratedScan))
    return next((numbers for numbers in found if numbers != FLOAT32), FLOAT32)


def other_ties(graph: Graph, seed: int) -> Graph:
    """Return the graph with low-precision loops that round near-ties to either neighbour at random."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, GeneratedScan) or node.op.rounding is None:
            return None
        products = replace(node.op.products, ties=seed)
        return b.add(replace(node.op, products=products), *args, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _generated(scan: Scan, initial: tuple[float | None, ...]) -> tuple[GeneratedScan, tuple[Node, ...]]:
    body, dropouts = without_dropouts(scan.body)
    return GeneratedScan(body, scan.length, scan.reverse, initial=initial), dropouts


def without_dropouts(body: Graph) -> tuple[Graph, tuple[Node, ...]]:
    """Return the body with products in place of dropouts, and the dropouts. Each product reads a mask; the masks are
    new sequences before the weights, which are the last arguments."""
    dropouts = tuple(node for node in body if isinstance(node.op, Dropout))
    rebuild, masks = Rebuild(body), dict[str, Ref]()
    args = body.body_args()
    weights = [arg for arg in args if isinstance(arg.op, Arg) and arg.op.role == "weight"]
    for arg in args:
        if arg not in weights:
            rebuild.copy(arg)
    for node in dropouts:
        mask = Arg(node.types[0].shape, "x")
        (masks[node.name],) = rebuild.builder.add(mask, names=(mask_name(node),), loc=node.loc)
    for arg in weights:
        rebuild.copy(arg)
    for node in body:
        if isinstance(node.op, Dropout):
            product = rebuild.builder.add(Mul(), *rebuild.args(node), masks[node.name], names=node.names, loc=node.loc)
            rebuild.put(node, product)
        elif not isinstance(node.op, Arg):
            rebuild.copy(node)
    return rebuild.finish(), dropouts


def in_layer_order(scan: Scan, args: Refs, masks: list[Ref]) -> list[Ref]:
    """Return a scan's operands and the masks of its dropouts in the order of :func:`without_dropouts`."""
    weights = [ref for slot, ref in enumerate(args) if scan.role(slot) == "weight"]
    return [*(ref for slot, ref in enumerate(args) if scan.role(slot) != "weight"), *masks, *weights]


def mask_name(dropout: Node) -> str:
    return f"{dropout.name}/mask"


def own_draw(ones: Ref) -> int:
    """Return a number that distinguishes dropouts of several bodies, from the unique name of ``ones``, the operand."""
    return crc32(ones.node.encode())


def _masks(b: Builder, dropout: Node, length: int) -> Ref:
    """Return the masks of a dropout for all steps: a dropout of ones before the scan."""
    assert isinstance(dropout.op, Dropout)
    name = mask_name(dropout)
    (ones,) = b.add(Full((length, *dropout.types[0].shape), 1.0), names=(f"{name}/ones",), loc=dropout.loc)
    return b.add(replace(dropout.op, draw=own_draw(ones)), ones, names=(name,), loc=dropout.loc)[0]


def plan_text(plan: plans.Plan) -> str:
    """Return the plan as text, for any T and N."""
    fixed = f"rows depend on each other: N is {plan.rows.batch}"
    sizes = fixed if plan.rows.fixed else "N and T are what its bottoms have"
    order = ", from the last step to the first" if plan.reverse else ""
    lines = [f"layer {quoted(plan.name, 'comment')}: {sizes}{order}"]
    lines += [f"  {_each_step(title, works)}" for title, works in _passes(plan)]
    if plan.chunk:
        names = quoted(", ".join(state.name for state in plan.states if state.saved), "comment")
        lines.append(f"  kept each {plan.chunk} steps, and computed again in between: {names}")
    if plan.parts > 1:
        lines.append(f"  on a CPU all steps of each of {plan.parts} parts of them, one part after the other")
    for kind, arrays in (("bottom", plan.bottoms), ("weight", plan.weights), ("top", plan.tops)):
        lines += [f"  {kind:6}  {array.label_of(plan.shapes[array.name])}" for array in arrays]
    lives = _lives(plan)
    lines += [f"  buffer  {array.label_of()}: {lives[array]}" for array in plan.buffers]
    if plan.nodes_again:
        lines.append(f"  computed again by backward: {quoted(', '.join(plan.nodes_again), 'comment')}")
    for title, works in _passes(plan):
        for heading, when in WHEN.items():
            texts = [line for work in works if work.when == when for line in _work_text(work)]
            lines += [f"  {title}, {heading}:", *(f"    {line}" for line in texts)] if texts else []
    lines.append("  backward, gradients of weights, once for all steps:")
    for o in plan.outers:
        ct, rows = o.ct.array.name, f"T * N{_lead(o.lead)}"
        if o.x is None:
            lines.append(f"    sum {o.into.array.name} [{o.outs}] += rows of {ct} [{rows}, {o.outs}]")
        else:
            product = f"{ct} [{rows}, {o.outs}]^T {o.x.array.name} [{rows}, {o.ins}]"
            lines.append(f"    product {o.into.array.name} [{o.outs}, {o.ins}] += {product}")
    return "\n".join(lines) + "\n"


def memory_text(plan: plans.Plan, steps: int, rows: int) -> str:
    """Return as text the bytes of the buffers for these steps and rows, and how many are kept for the backward pass."""
    lives, batch = _lives(plan), 1 if plan.rows.fixed else rows
    sizes = {array: 4 * array.floats(steps, batch) for array in plan.buffers}
    kept = sum(size for array, size in sizes.items() if lives[array] == KEPT)
    where = f"T = {steps}" if plan.rows.fixed else f"T = {steps}, N = {rows}"
    return f"  buffers at {where}: {sum(sizes.values()):,} bytes, of which {kept:,} are kept for backward\n"


WHEN = {"once for all steps, before": "before", "each step": "step", "once for all steps, after": "after"}
KEPT = "kept for backward"


def _passes(plan: plans.Plan) -> tuple[tuple[str, tuple[Task, ...]], ...]:
    """Return the passes of a plan: the title of each, and its products and loops."""
    again = (("a chunk again", plan.again),) if plan.again else ()
    return (("forward", plan.forward), *again, ("backward", plan.backward))


def _each_step(title: str, works: tuple[Task, ...]) -> str:
    """Return as text how many products and loops a step of a pass has."""
    each = [work for work in works if work.when == "step"]
    products = sum(isinstance(work, Product) for work in each)
    return f"{title}, each step: {_count(products, 'product')}, {_count(len(each) - products, 'loop')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _lives(plan: plans.Plan) -> dict[Array, str]:
    """Return for each buffer, as text, how long its values are needed: for a step, a chunk, a pass, or both passes."""
    uses: dict[str, set[tuple[str, str]]] = {array.name: set() for array in plan.buffers}
    all_passes = _passes(plan)
    parts = [(title, (*each.inside, *each.after)) for (title, _), each in zip(all_passes, plan.phases, strict=False)]
    for title, works in (*all_passes, *parts):
        for work in works:
            for name in work.arrays():
                uses.get(name, set()).add((title if title == "forward" else "backward", work.when))
    for place in (place for outer in plan.outers for place in (outer.ct, outer.x) if place):
        uses.get(place.array.name, set()).add(("backward", "after"))
    for state in plan.states:  # after all steps, the last state and the first state's gradient are read from these
        if state.saved:
            uses[state.saved.name] |= {("forward", "before"), ("backward", "before")}
        else:
            uses[state.kept.name].add(("forward", "after"))
        for array in state.gradient:
            uses[array.name].add(("backward", "after"))
    lives = {}
    for array in plan.buffers:
        passes = sorted({title for title, _ in uses[array.name]}, reverse=True)
        if len(passes) > 1:
            lives[array] = KEPT
        elif array.rows and not array.time and any(array in state.gradient for state in plan.states):
            lives[array] = "from step to step of backward"
        elif not passes:
            lives[array] = "nothing reads it"
        elif array.window:
            lives[array] = f"a chunk of {passes[0]}"
        elif array.rows and not array.time:
            lives[array] = f"a step of {passes[0]}"
        else:
            lives[array] = f"all of {passes[0]}"
    return lives


def _lead(lead: int) -> str:
    return f" * {lead}" if lead != 1 else ""


def _work_text(work: Task) -> Iterator[str]:
    """Yield the lines that describe a product or a loop."""
    if isinstance(work, Product):
        w = f"[{work.outs}, {work.ins}]^T" if work.transposed else f"[{work.ins}, {work.outs}]"
        plus = f" + {work.b.array.name}" if work.b else ""
        rows = f"{'N' if work.when == 'step' else 'T * N'}{_lead(work.lead)}"
        low = "" if work.numbers == FLOAT32 else f", in {work.numbers.format}"
        y, x = f"{work.y.array.name} [{rows}, {work.outs}]", f"{work.x.array.name} [{rows}, {work.ins}]"
        yield f"product {y} {'+=' if work.add else '='} {x} {work.w.array.name} {w}{plus}{low}"
    else:
        assert isinstance(work, Loop)
        yield f"loop over [N, {work.size}]"
        yield from (f"  {comment}" for comment in work.comments)
