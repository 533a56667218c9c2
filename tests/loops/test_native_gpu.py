"""Loops in CUDA called from a process, in a stream of its own: they compute what those in C++ do."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstmc.loops import code
from lstmc.loops.code import PERSISTENT_ROWS, PERSISTENT_WEIGHTS, LayerCode, layer_code, source
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.native import Loop, gpu_loops_of, loops_of
from lstmc.pipeline import compile_graph
from lstmc_caffe.install.downloads import installed_toolkit
from lstmc_caffe.install.recipe import EMULATED, cuda_recipe
from lstmc_caffe.install.record import installed
from lstmc_torch import TorchBackend
from tests.cells.scanned import cell_graph
from tests.loops import small_scans

SIZES = 4, 3  # T, N
BEHIND = 7.0  # each array on the device
WIDE = 2, PERSISTENT_ROWS  # with more elements than all threads of the blocks that share a step
MANY = 4, PERSISTENT_ROWS + 2  # of which each step is launched by itself, and recorded


def codes(cell: str) -> list[LayerCode]:
    """Return the loops of a small scan, or of a cell of the library."""
    made = getattr(small_scans, cell, None)
    graph = made.graph(T=SIZES[0], N=SIZES[1]) if made else cell_graph(cell, SIZES)
    graph = compile_graph(graph, TorchBackend()).expanded
    return [layer_code(node.op.plan()) for node in graph if isinstance(node.op, GeneratedScan)]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("cell", "weights"),
    [("gru", PERSISTENT_WEIGHTS), ("two_products", PERSISTENT_WEIGHTS), ("lstm_layernorm", 0), ("cfc", 0)],
)
def test_a_loop_in_cuda_computes_what_the_one_in_c_does(cell: str, weights: int) -> None:
    """In a process of its own, as the device has memory that it ends a process for touching. With 0, blocks share the
    weights."""
    command = [sys.executable, __file__, cell, str(weights)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "equal\n"), ended.stderr


class Memory:
    """Arrays on the emulated device, each with a number behind it that stays as it is."""

    def __init__(self, runtime: ctypes.CDLL) -> None:
        self.runtime, self.arrays = runtime, dict[int, np.ndarray]()

    def put(self, array: np.ndarray) -> int:
        address, guarded = ctypes.c_void_p(), np.append(array, np.float32(BEHIND))
        assert self.runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(guarded.nbytes)) == 0
        self.copy(address.value, guarded.ctypes.data, guarded.nbytes, 1)
        self.arrays[address.value or 0] = array
        return address.value or 0

    def get(self) -> None:
        """Copy everything back."""
        for address, array in self.arrays.items():
            guarded = np.append(array, np.float32(0))
            self.copy(guarded.ctypes.data, address, guarded.nbytes, 2)
            assert guarded[-1] == BEHIND, array.shape
            array[...] = guarded[:-1].reshape(array.shape)

    def copy(self, to: int | None, start: int, size: int, kind: int) -> None:
        assert self.runtime.cudaMemcpy(ctypes.c_void_p(to), ctypes.c_void_p(start), ctypes.c_size_t(size), kind) == 0


def passes(loop: Loop, size: tuple[int, int], memory: Memory | None, blas: int | None) -> list[np.ndarray]:
    """Run forward and backward on random arrays, and return tops and gradients."""
    rng = np.random.default_rng(0)

    def draw(shapes: object) -> list[np.ndarray]:
        return [rng.normal(size=shape.at(*size)).astype(np.float32) for shape in shapes]  # type: ignore[attr-defined]

    bottoms, weights, given = draw(loop.bottoms), draw(loop.weights), draw(loop.tops)
    tops, of_bottoms, of_weights = draw(loop.tops), draw(loop.bottoms), draw(loop.weights)  # the last are added to
    work = np.full(loop.workspace_floats(*size), np.nan, np.float32)
    put = memory.put if memory else lambda array: array.ctypes.data
    at = [
        [put(array) for array in arrays] for arrays in (bottoms, weights, tops, given, of_bottoms, of_weights, [work])
    ]
    for _ in range(3):  # the second time steps are recorded, the third time they are launched as a graph
        loop.forward(size, at[0], at[1], at[2], at[6][0], blas=blas)
    loop.backward(size, at[0], at[1], at[2], at[6][0], (at[3], at[4], at[5]), [True] * len(bottoms), blas=blas)
    if memory:
        memory.get()
    return [*tops, *of_bottoms, *of_weights]


def main(cell: str, weights: str) -> None:
    """Compare both."""
    code.PERSISTENT_WEIGHTS = int(weights)
    caffe = installed(recipe=cuda_recipe((EMULATED,)))
    assert caffe is not None
    toolkit = installed_toolkit(Path(caffe.pythonpath).parent)
    includes = [f"-I{folder}" for folder in toolkit.includes]
    libraries = {path.name.partition(".")[0]: ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in toolkit.libraries}
    runtime, cublas = libraries["libcudart"], libraries["libcublas"]
    text = source(cell, codes(cell))
    assert text.cu is not None
    on_gpu = gpu_loops_of(text.cu, str(toolkit.nvcc), includes, "")
    handle, stream = ctypes.c_void_p(), ctypes.c_void_p()
    assert runtime.cudaStreamCreate(ctypes.byref(stream)) == 0
    assert cublas.cublasCreate_v2(ctypes.byref(handle)) == 0
    assert cublas.cublasSetStream_v2(handle, stream) == 0
    for name, loop in loops_of(text.cpp, "").items():
        for size in (SIZES, WIDE, MANY):
            found = passes(on_gpu[name], size, Memory(runtime), handle.value)
            for wanted, array in zip(passes(loop, size, None, None), found, strict=True):
                np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-4)
    left = ctypes.c_void_p()
    assert cublas.cublasGetStream_v2(handle, ctypes.byref(left)) == 0
    assert left.value == stream.value, "the caller's stream is left as it was"
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
