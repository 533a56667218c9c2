"""Generated layers as operators of PyTorch: forward, backward, shapes without numbers, and the formula of autograd."""

from __future__ import annotations

import ctypes
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from lstmc.errors import BackendError, DataError
from lstmc.loops.native import Loop, gpu_loops_of, loops_of
from lstmc_torch.autograd import Steps, ready, run_native

OTHERWISE = "native=False needs none: the loops then run step by step in PyTorch"
_LINE = 16  # floats of a cache line
_MOST = 2**31 - 1  # T, N and their product are int in the layers
_KEPT = 64 * 2**20  # floats of workspaces that are kept for the next pass
_SMALL = 2**20  # floats of a workspace that the C library keeps for the next pass
_NO_BLAS = nullcontext()
_loops: dict[str, Loop] = {}
_gpu_loops: dict[str, Loop] = {}


def load_or_warn(text: str, name: str, gpu: bool = False) -> bool:
    """Make the layers of a source known to the operators, by their types; with ``gpu`` the source is CUDA. Return
    whether this succeeded. If the layers cannot be compiled here, a warning names the model, ``name``."""
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
    """Return the path of nvcc and its flags for the current GPU, after opening PyTorch's CUDA libraries."""
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
    return (_gpu_loops if _on_gpu(tensor) else _loops)[kind]


def _blas(tensor: Tensor) -> AbstractContextManager[int | None]:
    """Return a context manager that gives cuBLAS's handle, in the current stream, or None for a tensor on the CPU."""
    return _cublas(tensor) if _on_gpu(tensor) else _NO_BLAS


@contextmanager
def _cublas(tensor: Tensor) -> Iterator[int]:
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_blas_handle()


class _Pool:
    """Memory of workspaces for later workspaces: pages that were touched before cost no page faults."""

    def __init__(self) -> None:
        self._free: list[Any] = []  # memory of workspaces that have ended, the oldest first
        self._lock = Lock()

    def take(self, floats: int) -> Tensor:
        """Return a tensor of uninitialised floats that begins at a cache line."""
        if floats <= _SMALL:
            return torch.empty(floats, dtype=torch.float32, device="cpu")  # PyTorch aligns it so
        with self._lock:
            at = next((i for i in reversed(range(len(self._free))) if self._free[i].size == floats + _LINE), None)
            memory = np.empty(floats + _LINE, np.float32) if at is None else self._free.pop(at)
        begin = -(memory.ctypes.data // 4) % _LINE
        view = memory[begin : begin + floats]
        finalize(view, self._give, memory).atexit = False
        return torch.from_numpy(view)

    def _give(self, memory: Any) -> None:
        """Take the memory of a workspace back. Above _KEPT floats, the oldest memory is released."""
        with self._lock:
            self._free.append(memory)
            while sum(each.size for each in self._free) > _KEPT:
                self._free.pop(0)


_pool = _Pool()
_nothing = np.empty(_LINE, np.float32)


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Return the addresses of tensors; an empty tensor gets an address too, because nothing may be copied from null."""
    return [tensor.data_ptr() or _nothing.ctypes.data for tensor in tensors]


def _same(what: str, tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], like: Tensor) -> Sequence[Tensor]:
    """Return tensors as :func:`_checked` does, faster if native code can read them unchanged. The backward pass checks
    again, because ``module.half()`` may have changed the memory of parameters."""
    same = [t.shape for t in tensors] == shapes and [t.device for t in tensors] == [like.device] * len(tensors)
    same = same and all(t.layout is torch.strided and ready(t) is t for t in tensors)
    return tensors if same else _checked(what, tensors, shapes, like)


def _checked(what: str, tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], like: Tensor) -> list[Tensor]:
    """Return ``tensors`` as native code reads them. Raises :class:`DataError`, which calls them ``what``, if they do
    not have these ``shapes``, are not on the device of ``like``, or are not dense tensors of real numbers."""
    device, found = like.device, list[Tensor]()
    for tensor, shape in zip(tensors, shapes, strict=False):
        if tensor.shape != shape:
            break
        if tensor.device != device or tensor.layout is not torch.strided or tensor.is_complex():
            is_now = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise DataError(f"{what} must be dense tensors of real numbers on {device}, found {is_now}")
        found.append(ready(tensor))
    if len(found) != len(shapes) or len(found) != len(tensors):
        listed = [list(tensor.shape) for tensor in tensors]
        raise DataError(f"{what} must be of shapes {list(map(list, shapes))}, found {listed}")
    return found


Check = Callable[[str, Sequence[Tensor], Sequence[tuple[int, ...]], Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class _Pass:
    """A layer at T and N, with the shapes of its operands and results."""

    layer: Loop
    at: tuple[int, int]
    bottoms: list[tuple[int, ...]]
    weights: list[tuple[int, ...]]
    tops: list[tuple[int, ...]]
    floats: int  # floats of the workspace


@lru_cache(maxsize=1024)
def _pass(kind: str, gpu: bool, sizes: tuple[int, int], given: tuple[tuple[int, ...], ...]) -> _Pass:
    """Return a pass for inputs of the shapes ``given``; ``sizes`` are T and N where no input has such an axis. Raises
    :class:`DataError` for shapes that do not fit."""
    layer = (_gpu_loops if gpu else _loops)[kind]
    ranks = [blob.time + blob.rows + len(blob.sizes) for blob in layer.bottoms]
    if [len(shape) for shape in given] != ranks:
        raise DataError(f"the inputs of {kind} must have {ranks} axes, found {list(map(list, given))}")
    at = layer.sizes(given, *sizes)
    if min(at) < 0 or max(at) > _MOST or at[0] * at[1] > _MOST:
        raise DataError(f"{kind}: T * N must be at most {_MOST}, found {at[0]} * {at[1]}")
    bottoms, weights, tops = ([blob.at(*at) for blob in blobs] for blobs in (layer.bottoms, layer.weights, layer.tops))
    return _Pass(layer, at, bottoms, weights, tops, layer.workspace_floats(*at))


def _operands(
    kind: str, sizes: tuple[int, int], bottoms: Sequence[Tensor], weights: Sequence[Tensor], check: Check
) -> tuple[_Pass, Sequence[Tensor], Sequence[Tensor], Tensor]:
    """Return a pass, bottoms and weights as ``check`` (_same, _checked) returns them, and a tensor on their device."""
    some = next(iter((*bottoms, *weights)), torch.empty(0))  # a loop of constants, such as a counter, has none
    run = _pass(kind, _on_gpu(some), sizes, tuple([bottom.shape for bottom in bottoms]))
    bottoms = check(f"the inputs of {kind}", bottoms, run.bottoms, some)
    return run, bottoms, check(f"the weights of {kind}", weights, run.weights, some), some


def _run(
    kind: str, steps: int, rows: int, bottoms: Sequence[Tensor], weights: Sequence[Tensor], check: Check
) -> list[Tensor]:
    """Run a layer forward over all steps, and return its tops, and the workspace that backward reads. ``steps`` and
    ``rows`` are T and N, if no bottom has these axes."""
    run, bottoms, weights, some = _operands(kind, (steps, rows), bottoms, weights, check)
    tops = [some.new_empty(shape, dtype=torch.float32) for shape in run.tops]
    workspace = some.new_empty(run.floats, dtype=torch.float32) if _on_gpu(some) else _pool.take(run.floats)
    arrays = _addresses(bottoms), _addresses(weights), _addresses(tops)
    (at,) = _addresses([workspace])
    with _blas(some) as blas:
        run.layer.forward(run.at, *arrays, at, blas=blas)
    return [*tops, workspace]


def _run_back(
    kind: str, sizes: Sequence[int], bottoms: Sequence[Tensor], weights: Sequence[Tensor], results: Sequence[Tensor],
    gradients: Sequence[Tensor], needed: Sequence[bool], check: Check,
) -> list[Tensor]:  # fmt: skip
    """Run a layer back over all steps, and return the gradients of its bottoms and weights. ``results`` come from
    :func:`loop`, ``sizes`` are its ``steps`` and ``rows``, ``gradients`` belong to its tops. The gradient of a bottom
    that is not ``needed`` has arbitrary numbers."""
    run, bottoms, weights, some = _operands(kind, (sizes[0], sizes[1]), bottoms, weights, check)
    if len(needed) != len(bottoms):
        raise DataError(f"{kind} has {len(bottoms)} inputs, found {len(needed)} in needed")
    *tops, workspace = check(f"the results of {kind}", results, [*run.tops, (run.floats,)], some)
    cotangents = _checked(f"the gradients of {kind}", gradients, run.tops, some)
    of_bottoms = [torch.empty_like(b) for b in bottoms]
    of_weights = [torch.zeros_like(w) for w in weights]
    arrays = _addresses(bottoms), _addresses(weights), _addresses(tops)
    (at,) = _addresses([workspace])
    computed = (_addresses(cotangents), _addresses(of_bottoms), _addresses(of_weights))
    with _blas(some) as blas:
        run.layer.backward(run.at, *arrays, at, computed, needed, blas=blas)
    return [*of_bottoms, *of_weights]


class _Eager:
    """The operators as functions: :mod:`torch.library` takes longer to pass lists than a short sequence takes."""

    loop = partial(_run, check=_same)
    loop_backward = partial(_run_back, check=_same)


def run(
    kind: str, steps: int, rows: int, bottoms: list[Tensor], weights: list[Tensor], plain: Steps
) -> Sequence[Tensor]:
    """Run the layer ``kind`` over all steps, and return its tops. The operands are those of :func:`run_native`."""
    if torch.compiler.is_compiling():
        results: list[Tensor] = loop(kind, steps, rows, bottoms, weights)
        return results[:-1]
    return run_native(_Eager, kind, steps, rows, bottoms, weights, plain)


_LOOP = "(str kind, SymInt steps, SymInt rows, Tensor[] bottoms, Tensor[] weights) -> Tensor[]"
_LOOP_BACKWARD = (
    "(str kind, SymInt[] sizes, Tensor[] bottoms, Tensor[] weights, Tensor[] results, Tensor[] gradients,"
    " bool[] needed) -> Tensor[]"
)
# PyTorch 2.4 infers no schema of annotations that are strings
loop = torch.library.custom_op(
    "lstmc::loop", lambda a, b, c, d, e: _run(a, b, c, d, e, _checked), mutates_args=(), schema=_LOOP
)
loop_backward = torch.library.custom_op(
    "lstmc::loop_backward",
    lambda a, b, c, d, e, f, g: _run_back(a, b, c, d, e, f, g, _checked),
    mutates_args=(),
    schema=_LOOP_BACKWARD,
)


@loop.register_fake
def _(kind: str, steps: int, rows: int, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return uninitialised results of ``loop``: torch.compile needs only their shapes."""
    some = next(iter((*bottoms, *weights)), torch.empty(0))  # a loop of constants, such as a counter, has none
    layer = _loop(kind, some)
    sizes = layer.sizes([tuple(b.shape) for b in bottoms], steps, rows)
    shapes = [*(top.at(*sizes) for top in layer.tops), (layer.workspace_floats(*sizes),)]
    return [some.new_empty(shape, dtype=torch.float32) for shape in shapes]


@loop_backward.register_fake
def _(kind: str, sizes: Sequence[int], bottoms: Sequence[Tensor], weights: Sequence[Tensor], *_: Any) -> list[Tensor]:
    """Return uninitialised gradients, in the shapes of the bottoms and weights."""
    kind_of = {"dtype": torch.float32, "memory_format": torch.contiguous_format}
    return [torch.empty_like(x, **kind_of) for x in (*bottoms, *weights)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """Keep for the backward pass what it reads: the operands and results, and which bottoms need a gradient."""
    kind, steps, rows, bottoms, weights = inputs
    ctx.kind, ctx.sizes, ctx.bottoms, ctx.weights = kind, (steps, rows), len(bottoms), len(weights)  # numbers of these
    ctx.needed = [b.requires_grad for b in bottoms]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*bottoms, *weights, *output)


def _gradients(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Return the gradients of the loop's arguments: None for kind, steps and rows, then bottoms and weights."""
    saved = list(ctx.saved_tensors)
    bottoms, rest = saved[: ctx.bottoms], saved[ctx.bottoms :]
    weights, results = rest[: ctx.weights], rest[ctx.weights :]
    cotangents = [torch.zeros_like(r) if g is None else g for r, g in zip(results[:-1], gradients, strict=False)]
    computed = loop_backward(ctx.kind, ctx.sizes, bottoms, weights, results, cotangents, ctx.needed)
    of_bottoms = [g if needed else None for g, needed in zip(computed, ctx.needed, strict=False)]
    return None, None, None, of_bottoms, computed[ctx.bottoms :]


loop.register_autograd(_gradients, setup_context=_save)
