"""Run generated layers in this process, by ctypes: all that it takes is a C++ compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lstmc.loops.code import layer_code, source
from lstmc.loops.compiler import FLAGS, Compiler, cached
from lstmc.loops.memory import Array, header
from lstmc.loops.plan import Plan

_LINE = 16  # floats of a line of the cache, where buffers begin
_Pointers = ctypes.POINTER(ctypes.c_void_p)


class _Call(ctypes.Structure):
    """``lstmc_call`` of ``layer.h``."""

    _fields_ = [
        *(("T", ctypes.c_int), ("N", ctypes.c_int), ("bottom", _Pointers), ("bottom_diff", _Pointers)),
        *(("wanted", ctypes.c_char_p), ("weight", _Pointers), ("weight_diff", _Pointers), ("top", _Pointers)),
        *(("top_diff", _Pointers), ("buffer", _Pointers), ("blas", ctypes.c_void_p), ("seen", ctypes.c_void_p)),
    ]


_Pass = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Call))


class _Layer(ctypes.Structure):
    """``lstmc_layer`` of ``layer.h``."""

    _fields_ = [
        *(("type", ctypes.c_char_p), ("fixed", ctypes.c_int)),
        *((name, ctypes.c_int) for name in ("bottoms", "weights", "tops", "buffers")),
        *((name, ctypes.c_void_p) for name in ("bottom", "weight", "top", "buffer")),
        *(("forward", _Pass), ("backward", _Pass)),
    ]


@dataclass(frozen=True)
class Loop:
    """A generated layer in this process, for any T and N. Memory is given by address, in the order of the plan.

    ``workspace`` is memory for all buffers, of :meth:`workspace_floats`, where
    ``backward`` reads what ``forward`` left.
    """

    plan: Plan
    layer: _Layer

    def sizes(self, shapes: Iterable[tuple[int, ...]], steps: int, rows: int) -> tuple[int, int]:
        """Return T and N by the shapes of the bottoms; ``steps`` and ``rows`` where none of them has these axes."""
        for array, shape in zip(self.plan.bottoms, shapes, strict=True):
            if array.time:
                steps = shape[0]
            if array.rows:
                rows = shape[int(array.time)]
        return steps, 1 if self.plan.rows.fixed else rows

    def shape(self, array: Array, steps: int, rows: int) -> tuple[int, ...]:
        """Return the shape of a blob at T steps and N rows."""
        by_row = (rows,) if array.rows and not self.plan.rows.fixed else ()
        return (*((steps,) if array.time else ()), *by_row, *self.plan.shapes[array.name])

    def workspace_floats(self, steps: int, rows: int) -> int:
        """Return how many floats all buffers have together."""
        return self._offsets(steps, rows)[-1]

    def _offsets(self, steps: int, rows: int) -> list[int]:
        """Return where each buffer begins in the workspace, and its end."""
        offsets = [0]
        for array in self.plan.buffers:
            floats = array.size * (rows if array.rows else 1) * (steps + array.more if array.time else 1)
            offsets.append(offsets[-1] + -(-floats // _LINE) * _LINE)
        return offsets

    def forward(
        self,
        sizes: tuple[int, int],
        bottoms: Sequence[int],
        weights: Sequence[int],
        tops: Sequence[int],
        workspace: int,
    ) -> None:
        """Run all steps at ``sizes`` T and N: write the tops."""
        call = self._call(sizes, bottoms, weights, workspace)
        call.top = _pointers(tops)
        self.layer.forward(call)

    def backward(
        self,
        sizes: tuple[int, int],
        bottoms: Sequence[int],
        weights: Sequence[int],
        tops: Sequence[int],
        workspace: int,
        gradients: tuple[Sequence[int], Sequence[int], Sequence[int]],
    ) -> None:
        """Run all steps back: of ``gradients`` read those of tops, write those of bottoms, add to those of weights."""
        call = self._call(sizes, bottoms, weights, workspace)
        call.top, call.top_diff = _pointers(tops), _pointers(gradients[0])
        call.bottom_diff, call.weight_diff = _pointers(gradients[1]), _pointers(gradients[2])
        call.wanted = b"\1" * len(bottoms)
        self.layer.backward(call)

    def _call(self, sizes: tuple[int, int], bottoms: Sequence[int], weights: Sequence[int], workspace: int) -> _Call:
        offsets = self._offsets(*sizes)
        return _Call(
            *sizes,
            bottom=_pointers(bottoms),
            weight=_pointers(weights),
            buffer=_pointers([workspace + ctypes.sizeof(ctypes.c_float) * offset for offset in offsets]),
        )


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * (len(addresses) + 1))(*addresses)


def loops(plans: Sequence[Plan], otherwise: str) -> list[Loop]:
    """Return the loops of some plans, compiled now or found in the cache.

    Raises :class:`~lstmc.errors.BackendError` where there is no compiler, with ``otherwise``, which says what needs
    none; where the cache cannot be used; and with what the compiler says.
    """
    codes = [layer_code(plan) for plan in plans]
    text = source("native", codes).cpp + header("native.cpp")
    found = opened(library(text, otherwise))
    return [Loop(plan, found[code.type]) for plan, code in zip(plans, codes, strict=True)]


def library(text: str, otherwise: str) -> Path:
    """Return the library of a source that ends in ``native.cpp``. Raises as :func:`loops`."""
    compiler = Compiler.find(otherwise)
    flags = (*FLAGS, "-fvisibility=hidden", "-shared", "-Wl,-Bsymbolic")

    def build(work: Path) -> Path:
        (work / "layers.cpp").write_text(text, encoding="utf-8")
        compiler.run((*flags, "layers.cpp", "-o", "layers.so"), work, "compiling generated layers")
        return work / "layers.so"

    return cached(".so", [text, compiler.identity, *flags], build)


@cache
def opened(path: Path) -> Mapping[str, _Layer]:
    """Return the layers of a library by their types; it stays open."""
    table = ctypes.CDLL(str(path)).lstmc_native
    table.restype = ctypes.POINTER(ctypes.POINTER(_Layer))
    layers, found = table(), {}
    for at in range(2**31):
        if not layers[at]:
            break
        layer = layers[at].contents
        found[layer.type.decode()] = layer
    return found
