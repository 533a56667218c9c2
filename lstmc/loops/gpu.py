"""A generated layer on a GPU: which passes are one kernel, and what a step costs, counted from the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lstmc.loops.memory import Array, Loop, Product, Value, Work
from lstmc.loops.plan import Plan

PERSISTENT_WEIGHTS = 2**18
"""Floats of weights that a step of a persistent kernel reads, at most: see docs/decisions/0036."""
PERSISTENT_ROWS = 64
"""Rows of a batch that a persistent kernel has blocks for, at most; ``gpu_functions.h`` has the same number."""
WARP, MOST_THREADS = 32, 512


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU by its maker's data sheet: bytes a second of memory, FLOPs a second of float32 without tensor
    cores, and cycles a second of a multiprocessor at boost."""

    name: str
    bandwidth: float
    flops: float
    clock: float


GPUS = (
    Gpu("T4", 320e9, 8.1e12, 1.59e9),
    Gpu("L4", 300e9, 30.3e12, 2.04e9),
    Gpu("A100 SXM 80 GB", 2039e9, 19.5e12, 1.41e9),
    Gpu("H100 SXM", 3350e9, 66.9e12, 1.98e9),
)
LAUNCH_SECONDS = 2e-6
"""Of one kernel after another in a stream: an assumption, as no data sheet has it."""
BYTES_PER_CYCLE = 128
"""That a multiprocessor reads of its first cache, at most (NVIDIA's architecture white papers, Volta to Hopper)."""


@dataclass(frozen=True)
class Persistent:
    """All steps of a pass as one kernel, with a block of ``threads`` for each row of the batch.

    ``arrays`` are its parameters. The matrices of ``packed`` are transposed before, so that threads beside each other
    read weights beside each other.
    """

    threads: int
    arrays: tuple[Array, ...]
    packed: tuple[Product, ...]


def step_works(works: Iterable[Work]) -> list[Work]:
    """Return the work of each step."""
    return [work for work in works if isinstance(work, Loop) or work.when == "step"]


def persistent(plan: Plan, works: tuple[Work, ...]) -> Persistent | None:
    """Return the persistent kernel of a pass; None where each step has launches of its own.

    Those are passes whose rows depend on each other, as blocks cannot wait for each other, and those whose weights are
    too large for one multiprocessor to read at each step.
    """
    steps = step_works(works)
    products = [work for work in steps if isinstance(work, Product)]
    if plan.rows.fixed or not steps or sum(work.outs * work.ins for work in products) > PERSISTENT_WEIGHTS:
        return None
    arrays: dict[Array, None] = {}
    for work in steps:
        if isinstance(work, Product):
            matrix = work.panels if work.transposed else work.w.array
            arrays |= dict.fromkeys([matrix, *(place.array for place in (work.x, work.b, work.y) if place)])
        else:
            arrays |= dict.fromkeys(place.array for place, _ in work.pointers.values())
    if works is plan.backward:
        arrays |= dict.fromkeys(array for state in plan.states for array in state.gradient)
    width = max(work.lead * work.outs if isinstance(work, Product) else work.size for work in steps)
    packed = {work.panels: work for work in products if work.transposed}
    return Persistent(min(MOST_THREADS, -(-width // WARP) * WARP), tuple(arrays), tuple(packed.values()))


@dataclass(frozen=True)
class StepCost:
    """What a step of a pass does: launches, floats that it reads and writes, and FLOPs; a function counts as one.

    ``own_floats`` are what arrays have for this step alone, each once, whatever caches keep from step to step;
    ``block_floats`` are the weights that each block of a persistent kernel reads.
    """

    launches: int
    floats: int
    own_floats: int
    block_floats: int
    flops: int

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time by arithmetic: of launches, memory, FLOPs, or the weights that one block reads."""
        block = 4 * self.block_floats / (BYTES_PER_CYCLE * gpu.clock)
        return max(self.launches * LAUNCH_SECONDS, 4 * self.own_floats / gpu.bandwidth, self.flops / gpu.flops, block)


def step_cost(plan: Plan, works: tuple[Work, ...], rows: int) -> StepCost:
    """Return the cost of a step with so many rows."""
    rows = 1 if plan.rows.fixed else rows
    one_kernel = rows <= PERSISTENT_ROWS and persistent(plan, works) is not None
    launches = floats = weights = flops = 0
    own: dict[Array, int] = {}
    for work in step_works(works):
        if isinstance(work, Product):
            x, y = rows * work.lead * work.ins, rows * work.lead * work.outs
            weights += work.outs * work.ins
            floats += x + y + work.outs * work.ins
            counts = [(work.x.array, x), (work.y.array, y)]
            launches += 2 if work.b else 1
            flops += 2 * rows * work.lead * work.outs * work.ins
        else:
            sizes = [(p.array, work.size if work.independent else p.array.size) for p, _ in work.pointers.values()]
            counts = [(array, size * (rows if array.rows else 1)) for array, size in sizes]
            floats += sum(count for _, count in counts)
            lines = sum(
                isinstance(line, Value) or (isinstance(line, str) and not line.startswith("#")) for line in work.lines
            )
            launches += 1
            flops += rows * lines * max(work.size, *(size for _, size in sizes))
        own |= {array: max(count, own.get(array, 0)) for array, count in counts if array.time}
    return StepCost(0 if one_kernel else launches, floats, sum(own.values()), weights if one_kernel else 0, flops)


def gpu_text(plan: Plan, steps: int, rows: int) -> str:
    """Return what a step costs on a GPU, by pass, and the least time that follows for each of GPUS."""
    costs = {"forward": step_cost(plan, plan.forward, rows), "backward": step_cost(plan, plan.backward, rows)}
    where = f"T = {steps}" if plan.rows.fixed else f"T = {steps}, N = {rows}"
    lines = [f"  on a GPU at {where}, each step:"]
    for name, cost in costs.items():
        kernel = " (one kernel has all steps)" if cost.launches == 0 else ""
        launches = f"{cost.launches} launch{'' if cost.launches == 1 else 'es'}{kernel}"
        moved = f"{4 * cost.floats:,} bytes read and written, {4 * cost.own_floats:,} of this step alone"
        lines.append(f"    {name}: {launches}, {moved}, {cost.flops:,} FLOP")
    lines.append("  at least, by arithmetic and peak rates, not measured:")
    for gpu in GPUS:
        times = ", ".join(f"{name} {1e6 * cost.seconds(gpu):.2g} us" for name, cost in costs.items())
        lines.append(f"    {gpu.name}: {times}")
    return "\n".join(lines) + "\n"
