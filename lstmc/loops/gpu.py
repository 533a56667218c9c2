"""A generated layer on a GPU: the passes that are one kernel, and the cost of a step, counted from the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lstmc.loops.memory import Array, Loop, Product, Value, Work
from lstmc.loops.plan import Plan

PERSISTENT_WEIGHTS = 2**18
"""Floats of weights that each block of a persistent kernel reads in a step, at most: see docs/decisions/0036."""
PERSISTENT_ROWS = 64
"""Rows of a batch that a persistent kernel is for, at most; ``gpu_functions.h`` has the same number."""
WARP, MOST_THREADS = 32, 512


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU by its maker's data sheet: bytes a second of memory, FLOPs a second of float32 without tensor
    cores, cycles a second at boost; its multiprocessors, and the bytes of shared memory that a block may have."""

    name: str
    bandwidth: float
    flops: float
    clock: float
    multiprocessors: int
    shared: int


GPUS = (
    Gpu("T4", 320e9, 8.1e12, 1.59e9, 40, 64 * 1024),
    Gpu("L4", 300e9, 30.3e12, 2.04e9, 58, 99 * 1024),
    Gpu("A100 SXM 80 GB", 2039e9, 19.5e12, 1.41e9, 108, 163 * 1024),
    Gpu("H100 SXM", 3350e9, 66.9e12, 1.98e9, 132, 227 * 1024),
)
LAUNCH_SECONDS, BARRIER_SECONDS = 2e-6, 1e-6
"""Of one kernel after another in a stream, and of a barrier over the grid: assumptions, as no data sheet has them."""
BYTES_PER_CYCLE = 128
"""That a multiprocessor reads of its first cache or shared memory, at most (NVIDIA's white papers, Volta to Hopper)."""


@dataclass(frozen=True)
class Persistent:
    """All steps of a pass as one kernel of blocks of ``threads``, with ``arrays`` as its parameters.

    Without ``grid`` each row has a block, which reads all weights. With it all blocks have a share of each row: of a
    product the columns whose weights they keep in shared memory, a warp for each. They wait for each other after each
    work. ``width`` is how many threads a row can use.
    """

    threads: int
    arrays: tuple[Array, ...]
    products: tuple[Product, ...]
    grid: bool
    width: int
    works: int

    @property
    def packed(self) -> list[Product]:
        """Return one product for each matrix that is transposed before, so that neighbouring threads read neighbouring
        weights."""
        return [*{work.panels: work for work in self.products if work.transposed and not self.grid}.values()]

    def blocks(self, gpu: Gpu, rows: int) -> int:
        """Return the number of blocks on a GPU; 0 if their shares of the weights do not fit into shared memory."""
        if not self.grid:
            return rows
        blocks = min(-(-rows * self.width // self.threads), gpu.multiprocessors)
        return blocks if 4 * (self.threads + self.block_weights(blocks)) <= gpu.shared else 0

    def block_weights(self, blocks: int) -> int:
        """Return the floats of weights that a block reads in a step, of so many blocks."""
        return sum(-(-work.outs // (blocks if self.grid else 1)) * work.ins for work in self.products)


def step_works(works: Iterable[Work]) -> list[Work]:
    """Return the work of each step."""
    return [work for work in works if isinstance(work, Loop) or work.when == "step"]


def step_arrays(plan: Plan, works: tuple[Work, ...], packed: bool = False) -> tuple[Array, ...]:
    """Return the arrays that the steps of a pass use; with ``packed``, those of transposed matrices."""
    arrays: dict[Array, None] = {}
    for work in step_works(works):
        if isinstance(work, Product):
            matrix = work.panels if packed and work.transposed else work.w.array
            arrays |= dict.fromkeys([matrix, *(place.array for place in (work.x, work.b, work.y) if place)])
        else:
            arrays |= dict.fromkeys(place.array for place, _ in work.pointers.values())
    if works is plan.backward:
        arrays |= dict.fromkeys(array for state in plan.states for array in state.gradient)
    return tuple(arrays)


def persistent(plan: Plan, works: tuple[Work, ...]) -> Persistent | None:
    """Return the persistent kernel of a pass; None where it has no steps, or rows that depend on each other and are
    more than PERSISTENT_ROWS."""
    steps = step_works(works)
    products = [work for work in steps if isinstance(work, Product)]
    if not steps or (plan.rows.fixed and plan.rows.batch > PERSISTENT_ROWS):
        return None
    grid = plan.rows.fixed or sum(work.outs * work.ins for work in products) > PERSISTENT_WEIGHTS
    threads = WARP if grid else 1  # for each element of a product
    width = max(work.lead * work.outs * threads if isinstance(work, Product) else work.size for work in steps)
    block = min(MOST_THREADS, -(-width // WARP) * WARP)
    return Persistent(block, step_arrays(plan, works, not grid), tuple(products), grid, width, len(steps))


@dataclass(frozen=True)
class StepCost:
    """The cost of a step of a pass: the floats that it reads and writes, and its FLOPs; a function counts as one.

    ``launches`` are those of a step where no ``kernel`` has all. ``own_floats`` are what arrays have for this step
    alone, each once, whatever caches keep from step to step.
    """

    launches: int
    floats: int
    own_floats: int
    flops: int
    rows: int
    kernel: Persistent | None

    def launches_on(self, gpu: Gpu) -> int:
        """Return the launches of a step: 0 where one kernel has all steps."""
        return 0 if self.kernel and self.kernel.blocks(gpu, self.rows) else self.launches

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time by arithmetic: of launches or barriers, memory, FLOPs, or a block's weights."""
        least = max(4 * self.own_floats / gpu.bandwidth, self.flops / gpu.flops)
        if self.kernel is None or self.launches_on(gpu):
            return max(least, self.launches * LAUNCH_SECONDS)
        weights = 4 * self.kernel.block_weights(self.kernel.blocks(gpu, self.rows)) / (BYTES_PER_CYCLE * gpu.clock)
        return max(least, weights, self.kernel.works * BARRIER_SECONDS if self.kernel.grid else 0)


def step_cost(plan: Plan, works: tuple[Work, ...], rows: int) -> StepCost:
    """Return the cost of a step with so many rows."""
    rows = 1 if plan.rows.fixed else rows
    launches = floats = flops = 0
    own: dict[Array, int] = {}
    for work in step_works(works):
        if isinstance(work, Product):
            x, y = rows * work.lead * work.ins, rows * work.lead * work.outs
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
    kernel = persistent(plan, works) if rows <= PERSISTENT_ROWS else None
    return StepCost(launches, floats, sum(own.values()), flops, rows, kernel)


def gpu_text(plan: Plan, steps: int, rows: int) -> str:
    """Return the cost of a step on a GPU, by pass, with the least time that follows from it on each of GPUS."""
    costs = {"forward": step_cost(plan, plan.forward, rows), "backward": step_cost(plan, plan.backward, rows)}
    where = f"T = {steps}" if plan.rows.fixed else f"T = {steps}, N = {rows}"
    lines = [f"  on a GPU at {where}, each step:"]
    for name, cost in costs.items():
        launches = f"{cost.launches} launch{'' if cost.launches == 1 else 'es'}"
        if cost.kernel:
            blocks = "all blocks share the weights" if cost.kernel.grid else "a block for each row"
            launches = f"0 launches (one kernel has all steps, {blocks})"
        moved = f"{4 * cost.floats:,} bytes read and written, {4 * cost.own_floats:,} of this step alone"
        lines.append(f"    {name}: {launches}, {moved}, {cost.flops:,} FLOP")
    lines.append("  at least, by arithmetic and peak rates, not measured:")
    for gpu in GPUS:
        times = []
        for name, cost in costs.items():
            without = cost.launches_on(gpu) if cost.kernel else 0
            too_large = f" (weights do not fit: {without} launches)" if without else ""
            times.append(f"{name} {1e6 * cost.seconds(gpu):.2g} us{too_large}")
        lines.append(f"    {gpu.name}: {', '.join(times)}")
    return "\n".join(lines) + "\n"
