"""The C++ and the CUDA of generated layers, from their plans by templates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lstmc.files.output import text_templates
from lstmc.loops.gpu import persistent, step_arrays, step_works
from lstmc.loops.loop_code import number
from lstmc.loops.low_precision import FLOAT32
from lstmc.loops.memory import CPU, GPU, LOW, Array, Loop, Product, Work, functions, header, plain
from lstmc.loops.nests import nests
from lstmc.loops.plan import Plan
from lstmc.loops.plan_text import plan_text

PREFIX = "Fused_"  # begins the types of generated layers
_TEMPLATES = text_templates("lstmc", "loops")
_PLACE = "TYPE"


@dataclass(frozen=True)
class Source:
    """The source of a net's generated layers: C++, and CUDA for a Caffe that runs on GPUs; None without CUDA."""

    cpp: str
    cu: str | None


@dataclass(frozen=True)
class LayerCode:
    """The type of a layer, which its C++ decides, and the namespaces of that name in both languages."""

    plan: Plan
    type: str
    cpp: str

    @cached_property
    def cu(self) -> str:
        return _rendered(self.plan, "gpu.j2").replace(_PLACE, self.type)


def layer_type(plan: Plan) -> str:
    """The type of a layer: the name of its scan, and a hash of its C++."""
    return _typed(plan, _rendered(plan, "cpu.j2"))


def layer_code(plan: Plan) -> LayerCode:
    """A layer's code."""
    cpp = _rendered(plan, "cpu.j2")
    type_ = _typed(plan, cpp)
    return LayerCode(plan, type_, cpp.replace(_PLACE, type_))


def source(title: str, layers: Iterable[LayerCode]) -> Source:
    """The whole source of the layers of a net. Equal layers are there once."""
    types = {layer.type: layer for layer in layers}
    cpp = cpu_source(title, types.values())
    if any(layer.plan.numbers != FLOAT32 for layer in types.values()):
        return Source(cpp, None)
    return Source(cpp, _source(title, GPU, "lstmc_gpu_layers", {name: layer.cu for name, layer in types.items()}))


def cpu_source(title: str, layers: Iterable[LayerCode]) -> str:
    """The C++ of the layers of a net."""
    layers = tuple(layers)
    called = CPU if all(layer.plan.numbers == FLOAT32 for layer in layers) else CPU + LOW
    return _source(title, called, "lstmc_layers", {layer.type: layer.cpp for layer in layers})


def _source(title: str, called: tuple[str, ...], table: str, codes: Mapping[str, str]) -> str:
    return _TEMPLATES.get_template("layers.j2").render(
        title=plain(title),
        header=header("layer.h"),
        functions=functions(called),
        table=table,
        types=codes,
        codes=codes.values(),
    )


def _typed(plan: Plan, cpp: str) -> str:
    return PREFIX + re.sub(r"[^A-Za-z0-9]", "_", plan.name) + "_" + hashlib.sha256(cpp.encode()).hexdigest()[:12]


def _rendered(plan: Plan, where: str) -> str:
    """The code of a plan, with the macros of ``where`` it runs."""
    swapped = {array.name for state in plan.states if not plan.chunk for array in state.gradient}
    blobs = [*plan.bottoms, *plan.weights, *plan.tops, *plan.buffers, *plan.gradients, *plan.top_diffs]
    blobs += [s.top_diff for s in plan.states] + [s.bottom_diff for s in plan.states if s.bottom_diff]
    saved = {s.saved.name for s in plan.states if s.saved}
    forward = (
        _used(plan.forward) | {s.kept.name for s in plan.states if not s.saved} | {s.top.name for s in plan.states}
    )
    forward |= saved
    forward |= {s.bottom.name for s in plan.states if s.bottom}
    zeroed = [a for a in plan.gradients if a.kind == "bottom_diff" and not (a.time and a.rows)]
    backward = (
        _used((*plan.again, *plan.backward)) | saved | {a.name for a in zeroed} | {s.top_diff.name for s in plan.states}
    )
    backward |= {s.bottom_diff.name for s in plan.states if s.bottom_diff}
    backward |= {array.name for s in plan.states for array in (s.gradient[0], s.kept) if plan.chunk}
    backward |= {place.array.name for o in plan.outers for place in (o.ct, o.x, o.into) if place}
    read = _read(plan.backward)  # one gradient may be that of several states
    panels = {w.panels.name for w in (*plan.forward, *plan.backward) if isinstance(w, Product)}
    passes = {"forward": plan.forward, "again": plan.again, "backward": plan.backward}
    if plan.apart:
        backward |= {rows.name for _, rows in plan.row_sums or ()}
    carried = {array.name for s in plan.states for array in (*s.gradient, s.kept)}
    kernels = {name: persistent(plan, works) for name, works in passes.items()}
    packed = {w.panels.name for kernel in kernels.values() if kernel for w in kernel.packed}
    context = {
        "type": _PLACE,
        "plan": plan,
        "works": {name: nests(works, carried) if where == "cpu.j2" else works for name, works in passes.items()},
        "persistent": kernels,
        "stepped": {name: step_arrays(plan, works) if step_works(works) else () for name, works in passes.items()},
        "apart": plan.apart if where == "cpu.j2" else (),
        "elements": {
            "forward": _elements(plan.forward),
            "backward": _elements((*plan.again, *plan.backward)),
        },
        "unpacked": panels - packed,  # of no use to a GPU
        "swaps": [] if plan.chunk else [_swap(*(array.name for array in s.gradient)) for s in plan.states],
        "text": plan_text(plan).splitlines(),
        "number": number,
        "axes": _axes,
        "used_forward": [a for a in blobs if a.name in forward],
        "used_backward": [a for a in blobs if a.name in backward - swapped],
        "zeroed": zeroed,
        # a product with a state that begins as zeros, and one for a gradient that nobody has: not at the first step
        "zero_at_first": [s.kept for s in plan.states if s.bottom is None and s.value == 0 and not s.saved],
        "before": 1 if plan.reverse else 0,  # the shift of a state as it was before the step
        "unread_at_last": [s.gradient[1] for s in plan.states if s.bottom is None and s.gradient[1] not in read],
        "first_slot": "T" if plan.reverse else "0",
        "last_slot": "0" if plan.reverse else "T",
    }
    on = _TEMPLATES.get_template(where).make_module(context)
    text = _TEMPLATES.get_template("layer.j2").render(context, on=on)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\n\s*\n(?=\s*[})]|  for|    //)", "\n", text))


def _swap(one: str, other: str) -> str:
    return f"{{ float* const before = {one}; {one} = {other}; {other} = before; }}"


def _axes(array: Array) -> str:
    return array.label_of().partition("[")[2].removesuffix("]")


def _used(works: Iterable[Work]) -> set[str]:
    return {name for work in works for name in work.arrays()}


def _read(works: Iterable[Work]) -> set[Array]:
    """Arrays that something reads, or adds to, during a step."""
    arrays = set()
    for work in works:
        places = [place for place, _ in work.pointers.values()] if isinstance(work, Loop) else [work.x, work.w, work.b]
        arrays |= {place.array for place in places if place}
    return arrays


def _elements(works: Iterable[Work]) -> int:
    """Return the elements that the loops of a step go over, of one row."""
    return sum(work.count for work in works if isinstance(work, Loop))
