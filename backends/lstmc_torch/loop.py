"""Generated layers as operators of PyTorch: forward, backward, shapes without numbers, and the formula of autograd."""

from __future__ import annotations

import ctypes
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lstmc.errors import BackendError
from lstmc.loops.native import Loop, gpu_loops_of, loops_of

OTHERWISE = "native=False needs none: the loops then run step by step in PyTorch"
_LINE = 16  # floats of a line of the cache
_KEPT = 64 * 2**20  # floats of workspaces that are kept for the next pass
_loops: dict[str, Loop] = {}
_gpu_loops: dict[str, Loop] = {}


def load_or_warn(text: str, name: str, gpu: bool = False) -> bool:
    """Make the layers of a source known to the operators, by their types; with ``gpu`` the source is CUDA.

    Return whether they are; where they cannot be compiled here, a warning says so of the model called ``name``.
    """
    try:
        if gpu:
            _gpu_loops.update(gpu_loops_of(text, *_cuda(), OTHERWISE))
        else:
            _loops.update(loops_of(text, OTHERWISE))
    except (BackendError, OSError) as error:
        warnings.warn(f"{name} runs step by step in PyTorch: {error}", stacklevel=4)
        return False
    return True


def _cuda() -> tuple[str, tuple[str, ...]]:
    """Return nvcc, and the flag of the current GPU. The libraries of PyTorch's own CUDA are opened for all."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise BackendError("generated layers for a GPU are compiled, and nvcc was not found", notes=(OTHERWISE,))
    major = str(torch.version.cuda).partition(".")[0]
    for library in ("cudart", "cublas"):
        ctypes.CDLL(f"lib{library}.so.{major}", ctypes.RTLD_GLOBAL)
    return nvcc, (f"-arch=sm_{''.join(map(str, torch.cuda.get_device_capability()))}",)


def _on_gpu(tensor: Tensor) -> bool:
    return bool(tensor.is_cuda)


def _loop(kind: str, tensor: Tensor) -> Loop:
    """Return the layer for the device of a tensor."""
    return (_gpu_loops if _on_gpu(tensor) else _loops)[kind]


@contextmanager
def _blas(tensor: Tensor) -> Iterator[int | None]:
    """Yield the handle of cuBLAS for a tensor on a GPU, in PyTorch's current stream there; None for others."""
    if not _on_gpu(tensor):
        yield None
        return
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_blas_handle()


class _Pool:
    """Memory of workspaces that nothing reads any more: pages that were touched once cost no faults again."""

    def __init__(self) -> None:
        self._free: list[Any] = []
        self._lock = Lock()

    def take(self, floats: int) -> Tensor:
        """Return a tensor of so many floats, whatever they are, which begins where a line of the cache does."""
        with self._lock:
            at = next((i for i in reversed(range(len(self._free))) if self._free[i].size == floats + _LINE), None)
            memory = np.empty(floats + _LINE, np.float32) if at is None else self._free.pop(at)
        begin = -(memory.ctypes.data // 4) % _LINE
        view = memory[begin : begin + floats]
        finalize(view, self._give, memory).atexit = False
        return torch.from_numpy(view)

    def _give(self, memory: Any) -> None:
        with self._lock:
            self._free.append(memory)
            while sum(each.size for each in self._free) > _KEPT:
                self._free.pop(0)


_pool = _Pool()


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


_Saved = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]  # bottoms, weights, what the forward pass returned


def _run(kind: str, sizes: Sequence[int], bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    some = next(iter((*bottoms, *weights)), torch.empty(0))  # a loop of constants alone, as one that counts, has none
    layer = _loop(kind, some)
    at = layer.sizes([b.shape for b in bottoms], *sizes)
    tops = [some.new_empty(top.at(*at)) for top in layer.tops]
    floats = layer.workspace_floats(*at)
    workspace = some.new_empty(floats) if _on_gpu(some) else _pool.take(floats)
    with _blas(some) as blas:
        layer.forward(at, _addresses(bottoms), _addresses(weights), _addresses(tops), workspace.data_ptr(), blas=blas)
    return [*tops, workspace]


def _run_back(
    kind: str, sizes: Sequence[int], saved: _Saved, gradients: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor]:
    bottoms, weights, results = saved
    layer = _loop(kind, results[-1])
    at = layer.sizes([b.shape for b in bottoms], *sizes)
    cotangents = [
        torch.zeros_like(r) if g is None else g.contiguous() for r, g in zip(results[:-1], gradients, strict=False)
    ]
    of_bottoms = [torch.empty_like(b) for b in bottoms]
    of_weights = [torch.zeros_like(w) for w in weights]
    with _blas(results[-1]) as blas:
        layer.backward(
            at,
            _addresses(bottoms),
            _addresses(weights),
            _addresses(results[:-1]),
            results[-1].data_ptr(),
            (_addresses(cotangents), _addresses(of_bottoms), _addresses(of_weights)),
            needed,
            blas=blas,
        )
    return [*of_bottoms, *of_weights]


def _contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


class _Eager(torch.autograd.Function):
    """The same without :mod:`torch.library`, whose handling of lists takes longer than a short sequence."""

    @staticmethod
    def forward(ctx: Any, kind: str, sizes: tuple[int, int], count: int, *operands: Tensor) -> tuple[Tensor, ...]:
        tensors = _contiguous(operands)
        results = _run(kind, sizes, tensors[:count], tensors[count:])
        ctx.kind, ctx.sizes, ctx.counts = kind, sizes, (count, len(tensors))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *results)
        return tuple(results[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        count, end = ctx.counts
        saved = ctx.saved_tensors
        needed = ctx.needs_input_grad[3 : 3 + count]
        parts = saved[:count], saved[count:end], saved[end:]
        computed = _run_back(ctx.kind, ctx.sizes, parts, gradients, needed)
        return (
            None,
            None,
            None,
            *(g if needed else None for g, needed in zip(computed, ctx.needs_input_grad[3:], strict=True)),
        )


def run(kind: str, steps: int, rows: int, bottoms: list[Tensor], weights: list[Tensor]) -> Sequence[Tensor]:
    """Run the layer ``kind`` over all steps, and return its tops. ``steps`` and ``rows`` as of :func:`loop`."""
    if torch.compiler.is_compiling():
        results: list[Tensor] = loop(kind, steps, rows, bottoms, weights)
        return results[:-1]
    tops: tuple[Tensor, ...] = _Eager.apply(kind, (steps, rows), len(bottoms), *bottoms, *weights)
    return tops


@torch.library.custom_op("lstmc::loop", mutates_args=())
def loop(kind: str, steps: int, rows: int, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Run the layer ``kind`` forward over all steps, and return its tops, and the workspace that backward reads.

    ``steps`` and ``rows`` are T and N where no bottom has them.
    """
    return _run(kind, (steps, rows), _contiguous(bottoms), _contiguous(weights))


@loop.register_fake
def _(kind: str, steps: int, rows: int, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    some = next(iter((*bottoms, *weights)), torch.empty(0))  # a loop of constants alone, as one that counts, has none
    layer = _loop(kind, some)
    sizes = layer.sizes([tuple(b.shape) for b in bottoms], steps, rows)
    tops = [some.new_empty(top.at(*sizes)) for top in layer.tops]
    return [*tops, some.new_empty(layer.workspace_floats(*sizes))]


@torch.library.custom_op("lstmc::loop_backward", mutates_args=())
def loop_backward(
    kind: str,
    sizes: Sequence[int],
    bottoms: Sequence[Tensor],
    weights: Sequence[Tensor],
    results: Sequence[Tensor],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:
    """Run the layer ``kind`` back over all steps, and return the gradients of its bottoms and weights.

    ``results`` are those of :func:`loop`, ``sizes`` its ``steps`` and ``rows``, ``gradients`` those of its tops. The
    gradient of a bottom that is not ``needed`` has any numbers.
    """
    return _run_back(kind, sizes, (_contiguous(bottoms), _contiguous(weights), results), gradients, needed)


@loop_backward.register_fake
def _(
    kind: str,
    sizes: Sequence[int],
    bottoms: Sequence[Tensor],
    weights: Sequence[Tensor],
    results: Sequence[Tensor],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (*bottoms, *weights)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    kind, steps, rows, bottoms, weights = inputs
    ctx.kind, ctx.sizes, ctx.bottoms, ctx.weights = kind, (steps, rows), len(bottoms), len(weights)
    ctx.needed = [b.requires_grad for b in bottoms]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*bottoms, *weights, *output)


def _gradients(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    bottoms, rest = saved[: ctx.bottoms], saved[ctx.bottoms :]
    weights, results = rest[: ctx.weights], rest[ctx.weights :]
    cotangents = [torch.zeros_like(r) if g is None else g for r, g in zip(results[:-1], gradients, strict=False)]
    computed = loop_backward(ctx.kind, ctx.sizes, bottoms, weights, results, cotangents, ctx.needed)
    of_bottoms = [g if needed else None for g, needed in zip(computed, ctx.needed, strict=False)]
    return None, None, None, of_bottoms, computed[ctx.bottoms :]


loop.register_autograd(_gradients, setup_context=_save)
