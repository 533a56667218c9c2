"""The C++ and the CUDA of generated layers, rendered from plans by templates; and the cost of a step on a GPU."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lstmc.files.templates import text_templates
from lstmc.loops.layer import plan_text
from lstmc.loops.loop_code import number
from lstmc.loops.low_precision import FLOAT32
from lstmc.loops.memory import CPU, GPU, LOW, Array, Loop, Product, Store, Task, Value, functions, header
from lstmc.loops.nests import nests
from lstmc.loops.plan import Plan
from lstmc.ops import Price, Work
from lstmc.ops.base import BYTES
from lstmc.text import quoted

PERSISTENT_WEIGHTS = 2**18
"""The most floats of weights that each block of a persistent kernel reads in a step: docs/decisions/0036."""
PERSISTENT_ROWS = 64
"""The largest number of rows for a persistent kernel; ``gpu_functions.h`` has the same number."""
WARP, MOST_THREADS = 32, 512


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: peak rates, cycles a second, multiprocessors, bytes of shared memory for a block."""

    name: str
    price: Price
    clock: float
    multiprocessors: int
    shared: int


def _price(bandwidth: float, flops: float) -> Price:
    """Return the price for ``bandwidth`` bytes a second of memory and ``flops`` FLOPs a second without tensor cores."""
    return Price(LAUNCH_SECONDS, 1 / bandwidth, 1 / flops)


LAUNCH_SECONDS, BARRIER_SECONDS = 2e-6, 1e-6
"""Seconds for the launch of a kernel after another in a stream, and for a barrier over the grid. Both are assumptions:
no data sheet has them."""
GPUS = (
    Gpu("T4", _price(320e9, 8.1e12), 1.59e9, 40, 64 * 1024),
    Gpu("L4", _price(300e9, 30.3e12), 2.04e9, 58, 99 * 1024),
    Gpu("A100 SXM 80 GB", _price(2039e9, 19.5e12), 1.41e9, 108, 163 * 1024),
    Gpu("H100 SXM", _price(3350e9, 66.9e12), 1.98e9, 132, 227 * 1024),
)
BYTES_PER_CYCLE = 128
"""The most bytes a cycle that a multiprocessor reads from its first-level cache or shared memory (NVIDIA's white
papers, Volta to Hopper)."""


@dataclass(frozen=True)
class Persistent:
    """All steps of a pass as one kernel, with blocks of ``threads`` and ``arrays`` as parameters.

    Without ``grid`` each row has a block, which reads all weights. With ``grid`` all blocks work on each row: each
    block holds the weights of some columns of a product in shared memory, and computes each column by a warp; after
    each product or loop all blocks wait for each other. ``width`` is the number of threads that a row can use,
    ``works`` the number of products and loops of a step.
    """

    threads: int
    arrays: tuple[Array, ...]
    products: tuple[Product, ...]
    grid: bool
    width: int
    works: int

    @property
    def packed(self) -> list[Product]:
        """Return one product for each transposed weight matrix. Its weights are transposed before the first step, so
        that neighbouring threads read neighbouring weights."""
        return [*{work.panels: work for work in self.products if work.transposed and not self.grid}.values()]

    def blocks(self, gpu: Gpu, rows: int) -> int:
        """Return the number of blocks on a GPU, or 0 if a block's weights exceed its shared memory."""
        if not self.grid:
            return rows
        blocks = min(-(-rows * self.width // self.threads), gpu.multiprocessors)
        return blocks if 4 * (self.threads + self.block_weights(blocks)) <= gpu.shared else 0

    def block_weights(self, blocks: int) -> int:
        return sum(-(-work.outs // (blocks if self.grid else 1)) * work.ins for work in self.products)


def step_works(works: Iterable[Task]) -> list[Task]:
    """Return the products and loops that run in each step, not once for all steps."""
    return [work for work in works if isinstance(work, Loop) or work.when == "step"]


def step_arrays(plan: Plan, works: tuple[Task, ...], packed: bool = False) -> tuple[Array, ...]:
    """Return the arrays of the steps of a pass; if ``packed``, with packed copies of transposed weight matrices."""
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


def persistent(plan: Plan, works: tuple[Task, ...]) -> Persistent | None:
    """Return the persistent kernel of a pass. Return None if the pass has no steps, or more than PERSISTENT_ROWS rows
    that depend on each other."""
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
    """The work of a step of a pass, with the launches of kernels that it needs if no ``kernel`` contains all steps.
    ``own_bytes`` counts only arrays that differ from step to step, because caches may hold the other arrays."""

    work: Work
    own_bytes: int
    rows: int
    kernel: Persistent | None

    def launches_on(self, gpu: Gpu) -> int:
        """Return the number of launches of a step: 0 if the weights fit, so that one kernel contains all steps."""
        return 0 if self.kernel and self.kernel.blocks(gpu, self.rows) else self.work.launches

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time of a step: the largest time for launches or barriers, memory, FLOPs, and weights."""
        least = gpu.price.seconds(replace(self.work, bytes=self.own_bytes, launches=0))
        if self.kernel is None or self.launches_on(gpu):
            return max(least, self.work.launches * gpu.price.launch)
        weights = 4 * self.kernel.block_weights(self.kernel.blocks(gpu, self.rows)) / (BYTES_PER_CYCLE * gpu.clock)
        return max(least, weights, self.kernel.works * BARRIER_SECONDS if self.kernel.grid else 0)


def step_cost(plan: Plan, works: tuple[Task, ...], rows: int) -> StepCost:
    """Return the cost of a step with ``rows`` rows: its operations, and the bytes that it reads and writes."""
    rows = 1 if plan.rows.fixed else rows
    total, own = Work(), dict[Array, int]()
    for work in step_works(works):
        if isinstance(work, Product):
            x, y = rows * work.lead * work.ins, rows * work.lead * work.outs
            counts = [(work.x.array, x), (work.y.array, y)]
            total += Work(y * work.ins, 0, BYTES * (x + y + work.outs * work.ins), 2 if work.b else 1)
        else:
            sizes = [(p.array, work.size if work.independent else p.array.size) for p, _ in work.pointers.values()]
            counts = [(array, size * (rows if array.rows else 1)) for array, size in sizes]
            computing = (line for line in work.lines if not isinstance(line, Store))
            lines = sum(isinstance(line, Value) or not line.startswith("#") for line in computing)
            operations = rows * lines * max(work.size, *(size for _, size in sizes))
            total += Work(0, operations, BYTES * sum(count for _, count in counts), 1)
        own |= {array: max(BYTES * count, own.get(array, 0)) for array, count in counts if array.time}
    kernel = persistent(plan, works) if rows <= PERSISTENT_ROWS else None
    return StepCost(total, sum(own.values()), rows, kernel)


def gpu_text(plan: Plan, steps: int, rows: int) -> str:
    """Return as text the cost of a step of each pass on a GPU, and the least time of a step on each of GPUS."""
    costs = {"forward": step_cost(plan, plan.forward, rows), "backward": step_cost(plan, plan.backward, rows)}
    where = f"T = {steps}" if plan.rows.fixed else f"T = {steps}, N = {rows}"
    lines = [f"  on a GPU at {where}, each step:"]
    for name, cost in costs.items():
        launches = f"{cost.work.launches} launch{'' if cost.work.launches == 1 else 'es'}"
        if cost.kernel:
            blocks = "all blocks share the weights" if cost.kernel.grid else "a block for each row"
            launches = f"0 launches (one kernel has all steps, {blocks})"
        moved = f"{cost.work.bytes:,} bytes read and written, {cost.own_bytes:,} of this step alone"
        lines.append(f"    {name}: {launches}, {moved}, {cost.work.flops:,} FLOP")
    lines.append("  at least, by arithmetic and peak rates, not measured:")
    for gpu in GPUS:
        times = []
        for name, cost in costs.items():
            without = cost.launches_on(gpu) if cost.kernel else 0
            too_large = f" (weights do not fit: {without} launches)" if without else ""
            times.append(f"{name} {1e6 * cost.seconds(gpu):.2g} us{too_large}")
        lines.append(f"    {gpu.name}: {', '.join(times)}")
    return "\n".join(lines) + "\n"


PREFIX = "Fused_"  # the first word of a generated layer's type
_TEMPLATES = text_templates("lstmc", "loops")
_PLACE = "TYPE"
PASSES = {"forward": ("forward",), "backward": ("again", "backward")}  # pass -> its functions in the code


@dataclass(frozen=True)
class Source:
    """The source of a net's generated layers: C++, and CUDA for a Caffe that runs on GPUs (None if a layer has products
    in low precision, for which there is no CUDA)."""

    cpp: str
    cu: str | None


@dataclass(frozen=True)
class LayerCode:
    """The C++ and the CUDA of a layer; its type depends on the C++ alone and names the namespaces of both."""

    plan: Plan
    type: str
    cpp: str

    @cached_property
    def cu(self) -> str:
        return _rendered(self.plan, "gpu.j2").replace(_PLACE, self.type)


def layer_code(plan: Plan) -> LayerCode:
    """Return the code of a layer. Its type is made of the scan's name and a hash of the C++."""
    cpp, name = _rendered(plan, "cpu.j2"), re.sub(r"[^A-Za-z0-9]", "_", plan.name)
    type_ = f"{PREFIX}{name}_{hashlib.sha256(cpp.encode()).hexdigest()[:12]}"
    return LayerCode(plan, type_, cpp.replace(_PLACE, type_))


def source(title: str, layers: Iterable[LayerCode]) -> Source:
    """Return the source of the layers of a net, in which equal layers stand once."""
    types = {layer.type: layer for layer in layers}
    cpp = cpu_source(title, types.values())
    if any(layer.plan.numbers != FLOAT32 for layer in types.values()):
        return Source(cpp, None)
    return Source(cpp, _source(title, GPU, "lstmc_gpu_layers", {name: layer.cu for name, layer in types.items()}))


def cpu_source(title: str, layers: Iterable[LayerCode]) -> str:
    layers = tuple(layers)
    headers = CPU if all(layer.plan.numbers == FLOAT32 for layer in layers) else CPU + LOW
    return _source(title, headers, "lstmc_layers", {layer.type: layer.cpp for layer in layers})


def _source(title: str, headers: tuple[str, ...], table: str, codes: Mapping[str, str]) -> str:
    """Return a source file: headers, the code of each layer by its type, and the table of layers, named ``table``."""
    texts = {"title": quoted(title, "comment"), "header": header("layer.h"), "functions": functions(headers)}
    return _TEMPLATES.get_template("layers.j2").render(texts, table=table, types=codes, codes=codes.values())


def _rendered(plan: Plan, where: str) -> str:
    """Return the code of a plan, written by the macros of the template ``where``."""
    swapped = {array.name for state in plan.states if not plan.chunk for array in state.gradient}
    blobs = [*plan.bottoms, *plan.weights, *plan.tops, *plan.buffers, *plan.gradients, *plan.top_diffs]
    blobs += [s.top_diff for s in plan.states] + [s.bottom_diff for s in plan.states if s.bottom_diff]
    zeroed = [a for a in plan.gradients if a.kind == "bottom_diff" and not (a.time and a.rows)]
    forward, backward = _used_by_passes(plan, where == "cpu.j2")
    backward |= {a.name for a in zeroed}
    read = _read(plan.backward)  # several states may share a gradient
    panels = {w.panels.name for w in (*plan.forward, *plan.backward) if isinstance(w, Product)}
    passes = {"forward": plan.forward, "again": plan.again, "backward": plan.backward}
    carried = {array.name for s in plan.states for array in (*s.gradient, s.kept)}
    kernels = {name: persistent(plan, works) for name, works in passes.items()}
    packed = {w.panels.name for kernel in kernels.values() if kernel for w in kernel.packed}
    parts_alone = {a.name for a in plan.buffers} - forward - backward
    works = _by_phase(plan, passes) if where == "cpu.j2" else passes
    gradients = () if plan.chunk else ([array.name for array in s.gradient] for s in plan.states)
    context = {
        "type": _PLACE,
        "plan": plan,
        "works": {name: nests(each, carried) if where == "cpu.j2" else each for name, each in works.items()},
        "persistent": kernels,
        "stepped": {name: step_arrays(plan, works) if step_works(works) else () for name, works in passes.items()},
        "apart": plan.apart if where == "cpu.j2" else (),
        "parts": plan.parts if where == "cpu.j2" else 1,
        "stages": {name: _stages(works, of, name in plan.apart and where == "cpu.j2") for name, of in PASSES.items()},
        "unused": (panels - packed) | parts_alone if where == "gpu.j2" else (),
        "swaps": [f"{{ float* const before = {a}; {a} = {b}; {b} = before; }}" for a, b in gradients],
        "text": plan_text(plan).splitlines(),
        "number": number,
        "axes": lambda array: array.label_of().partition("[")[2].removesuffix("]"),
        "used_forward": [a for a in blobs if a.name in forward],
        "used_backward": [a for a in blobs if a.name in backward - swapped],
        "zeroed": zeroed,
        # skipped at the first step: a product with a state that starts as zeros, and a product for an unused gradient
        "zero_at_first": [s.kept for s in plan.states if s.bottom is None and s.value == 0 and not s.saved],
        "before": 1 if plan.reverse else 0,  # the offset of a state before the step
        "unread_at_last": [s.gradient[1] for s in plan.states if s.bottom is None and s.gradient[1] not in read],
        "first_slot": "T" if plan.reverse else "0",
        "last_slot": "0" if plan.reverse else "T",
    }
    on = _TEMPLATES.get_template(where).make_module(context)
    text = _TEMPLATES.get_template("layer.j2").render(context, on=on)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\n\s*\n(?=\s*[})]|  for|    //)", "\n", text))


def _used_by_passes(plan: Plan, with_phases: bool) -> tuple[set[str], set[str]]:
    """Return the names of the arrays that the forward and the backward pass use, ``with_phases`` also in phases."""
    saved = {s.saved.name for s in plan.states if s.saved}
    forward = _used(plan.forward) | saved | {s.top.name for s in plan.states}
    forward |= {s.kept.name for s in plan.states if not s.saved} | {s.bottom.name for s in plan.states if s.bottom}
    backward = _used((*plan.again, *plan.backward)) | saved | {s.top_diff.name for s in plan.states}
    backward |= {s.bottom_diff.name for s in plan.states if s.bottom_diff}
    backward |= {array.name for s in plan.states for array in (s.gradient[0], s.kept) if plan.chunk}
    backward |= {place.array.name for o in plan.outers for place in (o.ct, o.x, o.into) if place}
    backward |= {rows.name for _, rows in plan.row_sums or () if plan.apart}
    by_phase = [_used((*phases.inside, *phases.after)) for phases in plan.phases if with_phases]
    return forward.union(*by_phase[:1]), backward.union(*by_phase[1:])


def _stages(works: Mapping[str, Sequence[Task]], passes: Sequence[str], apart: bool) -> dict[str, int]:
    """Return how many elements loops compute in each stage ("_before", "", "_after") of a pass that runs row by row
    (``apart``); empty for another pass. ``passes`` are the pass's functions."""
    stages: dict[str, int] = {}
    for stage in ("_before", "", "_after") if apart else ():
        loops = [work for name in passes for work in works.get(name + stage, ()) if isinstance(work, Loop)]
        stages |= {stage: sum(loop.count for loop in loops)} if loops or not stage else {}
    return stages


def _by_phase(plan: Plan, passes: Mapping[str, tuple[Task, ...]]) -> Mapping[str, Sequence[Task]]:
    """Return the work of each pass by name; with phases, of each phase: NAME_before, NAME with products, NAME_after."""
    works: dict[str, Sequence[Task]] = dict(passes)
    for (name, each), phases in zip(passes.items(), plan.phases, strict=False):
        products = [work for work in each if isinstance(work, Product)]
        works |= {f"{name}_before": phases.before, name: [*products, *phases.inside], f"{name}_after": phases.after}
    return works


def _used(works: Iterable[Task]) -> set[str]:
    return {name for work in works for name in work.arrays()}


def _read(works: Iterable[Task]) -> set[Array]:
    """Return the arrays that products and loops read in a step, or to which they add."""
    arrays = set()
    for work in works:
        places = [place for place, _ in work.pointers.values()] if isinstance(work, Loop) else [work.x, work.w, work.b]
        arrays |= {place.array for place in places if place}
    return arrays
