"""The plan of a generated layer as text, and how large its buffers are."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.loops.low_precision import FLOAT32
from lstmc.loops.memory import Array, Loop, Product, Work, plain
from lstmc.loops.plan import Plan


def plan_text(plan: Plan) -> str:
    """The plan, whatever T and N are."""
    sizes = (
        "N and T are what its bottoms have"
        if not plan.rows.fixed
        else f"rows depend on each other: N is {plan.rows.batch}"
    )
    lines = [f"layer {plain(plan.name)}: {sizes}{', from the last step to the first' if plan.reverse else ''}"]
    lines += [f"  {_each_step(title, works)}" for title, works in _passes(plan)]
    if plan.chunk:
        names = plain(", ".join(state.name for state in plan.states if state.saved))
        lines.append(f"  kept each {plan.chunk} steps, and computed again in between: {names}")
    lines += [f"  bottom  {array.label_of(plan.shapes[array.name])}" for array in plan.bottoms]
    lines += [f"  weight  {array.label_of(plan.shapes[array.name])}" for array in plan.weights]
    lines += [f"  top     {array.label_of(plan.shapes[array.name])}" for array in plan.tops]
    lives = _lives(plan)
    lines += [f"  buffer  {array.label_of()}: {lives[array]}" for array in plan.buffers]
    if plan.nodes_again:
        lines.append(f"  computed again by backward: {plain(', '.join(plan.nodes_again))}")
    for title, works in _passes(plan):
        for heading, when in WHEN.items():
            texts = [line for work in works if _when(work) == when for line in _work_text(work)]
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


def memory_text(plan: Plan, steps: int, rows: int) -> str:
    """Return the size of the buffers for these steps and rows, and the part that is kept from forward to backward."""
    lives, sizes = _lives(plan), {}
    for array in plan.buffers:
        sizes[array] = 4 * array.floats(steps, 1 if plan.rows.fixed else rows)
    kept = sum(size for array, size in sizes.items() if lives[array] == KEPT)
    where = f"T = {steps}" if plan.rows.fixed else f"T = {steps}, N = {rows}"
    return f"  buffers at {where}: {sum(sizes.values()):,} bytes, of which {kept:,} are kept for backward\n"


WHEN = {"once for all steps, before": "before", "each step": "step", "once for all steps, after": "after"}
KEPT = "kept for backward"


def _passes(plan: Plan) -> tuple[tuple[str, tuple[Work, ...]], ...]:
    again = (("a chunk again", plan.again),) if plan.again else ()
    return (("forward", plan.forward), *again, ("backward", plan.backward))


def _each_step(title: str, works: tuple[Work, ...]) -> str:
    """Return the number of products and loops of a step."""
    each = [work for work in works if _when(work) == "step"]
    products = sum(isinstance(work, Product) for work in each)
    return f"{title}, each step: {_count(products, 'product')}, {_count(len(each) - products, 'loop')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _lives(plan: Plan) -> dict[Array, str]:
    """Return the live range of each buffer, as text."""
    uses: dict[str, set[tuple[str, str]]] = {array.name: set() for array in plan.buffers}
    for title, works in _passes(plan):
        for work in works:
            for name in work.arrays():
                uses.get(name, set()).add(("backward" if work in plan.again else title, _when(work)))
    for outer in plan.outers:
        for place in (outer.ct, outer.x):
            if place is not None:
                uses.get(place.array.name, set()).add(("backward", "after"))
    for state in plan.states:  # the last one is taken from the one, the first gradient from the others
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


def _when(work: Work) -> str:
    return work.when if isinstance(work, Product) else "step"


def _lead(lead: int) -> str:
    return f" * {lead}" if lead != 1 else ""


def _work_text(work: Work) -> Iterator[str]:
    if isinstance(work, Product):
        w = f"[{work.outs}, {work.ins}]^T" if work.transposed else f"[{work.ins}, {work.outs}]"
        plus = f" + {work.b.array.name}" if work.b else ""
        rows = f"{'N' if work.when == 'step' else 'T * N'}{_lead(work.lead)}"
        low = "" if work.numbers == FLOAT32 else f", in {work.numbers.format}"
        yield (
            f"product {work.y.array.name} [{rows}, {work.outs}] = {work.x.array.name} [{rows}, {work.ins}]"
            f" {work.w.array.name} {w}{plus}{low}"
        )
    else:
        assert isinstance(work, Loop)
        yield f"loop over [N, {work.size}]"
        yield from (f"  {comment}" for comment in work.comments)
