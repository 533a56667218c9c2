"""The CUDA of generated layers, compiled by nvcc. It runs in ``tests/backends/lstmc_caffe/runtime/test_gpu.py``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lstmc.backend import find_cells
from lstmc.errors import BackendError, LstmcError
from lstmc.ir import Graph
from lstmc.loops.code import (
    GPUS,
    PERSISTENT_ROWS,
    PERSISTENT_WEIGHTS,
    WARP,
    LayerCode,
    layer_code,
    source,
    step_cost,
    step_works,
)
from lstmc.loops.memory import header
from lstmc.loops.plan import plan_of
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.install.downloads import system_compilers, usable
from lstmc_caffe.install.recipe import cuda_recipe
from lstmc_caffe.legalize.fused import FusedScan
from tests.backends.lstmc_caffe.fused.test_in_caffe import everything
from tests.cells.scanned import cell_graph
from tests.loops.small_scans import square
from tools.gpu_check.cases import sequence_of

BACKEND = CaffeBackend()
TARGET = "caffe-fused"


def graphs_of_cells() -> dict[str, Graph]:
    """Every cell of the library that generated layers have code for."""
    found = {}
    for name in find_cells():
        graph = cell_graph(name, (4, 3))
        try:
            compile_graph(graph, BACKEND, TARGET)
        except BackendError:
            continue
        found[name] = graph
    return found


def codes(graph: Graph) -> list[LayerCode]:
    expanded = compile_graph(graph, BACKEND, TARGET).expanded
    return [layer_code(plan_of(node.op, node.op.initial)) for node in expanded if isinstance(node.op, FusedScan)]


@pytest.fixture(scope="module")
def nvcc() -> Path:
    found = usable(system_compilers())
    if found is None:
        pytest.skip("NOT CHECKED: that generated CUDA compiles, as there is no nvcc of CUDA 13 (its toolkit has it)")
    return found


def compiled_by(nvcc: Path, text: str, folder: Path) -> str:
    """By the flags that layers of a Caffe with CUDA are compiled by, for one GPU; returns what each kernel uses."""
    (folder / "layers.cu").write_text(text)
    command = [nvcc, *cuda_recipe(("sm_90",)).gpu_flags, "--resource-usage", "-c", "layers.cu", "-o", "layers.o"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def assert_no_kernel_spills(usage: str, text: str) -> None:
    """No kernel of a source keeps registers in memory, persistent ones included."""
    persistent = len(re.findall(r"Compiling entry function '\w+(?:forward|again|backward)_stepsE", usage))
    assert persistent == len(re.findall(r"_steps\(long (?:T|start),", text)) >= 2
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", usage)
    assert len(spills) == usage.count("Compiling entry function") > persistent
    assert set(spills) == {("0", "0")}


@pytest.mark.slow
@pytest.mark.cuda
@pytest.mark.parametrize("weights", [PERSISTENT_WEIGHTS, 0])
def test_nvcc_compiles_a_net_s_layers(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: int
) -> None:
    """With 0, blocks share the weights."""
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", weights)
    text = source("everything", codes(everything.graph(T=5, N=3))).cu
    assert text is not None
    assert ("this_grid().sync()" in text) == (weights == 0)
    assert_no_kernel_spills(compiled_by(nvcc, text, tmp_path), text)
    assert b"sm_90" in (tmp_path / "layers.o").read_bytes(), "there is code for the GPU in it"


@pytest.mark.slow
@pytest.mark.cuda
@pytest.mark.parametrize("weights", [PERSISTENT_WEIGHTS, pytest.param(0, marks=pytest.mark.exhaustive)])
def test_nvcc_compiles_every_cell_of_the_library(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: int
) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", weights)
    layers = [code for graph in graphs_of_cells().values() for code in codes(graph)]
    assert len({layer.type for layer in layers}) >= 35
    text = source("cells", layers).cu
    assert text is not None
    assert_no_kernel_spills(compiled_by(nvcc, text, tmp_path), text)


@pytest.mark.slow
@pytest.mark.cuda
@pytest.mark.parametrize("units", [64, 256])
def test_steps_of_few_rows_launch_nothing(units: int) -> None:
    """Of every cell, on GPUs whose shared memory holds the weights; with more rows each step has launches."""
    without = {}
    for cell in find_cells():
        try:
            graph = sequence_of(cell, (3, 2, units, units))
            expanded = compile_graph(graph, BACKEND, TARGET).expanded
        except LstmcError:
            continue
        for node in expanded:
            if isinstance(node.op, FusedScan):
                plan = plan_of(node.op, node.op.initial)
                for works in (plan.forward, plan.backward):
                    if not step_works(works):
                        continue
                    cost = step_cost(plan, works, 2)
                    for device in GPUS:
                        if cost.launches_on(device):
                            without.setdefault(device.name, set()).add(cell)
                    if not plan.rows.fixed:
                        assert step_cost(plan, works, PERSISTENT_ROWS + 1).launches_on(GPUS[-1]) > 0
    assert without == ({} if units == 64 else {"T4": {"attention_lstm", "luong", "ntm"}})


def test_the_headers_have_the_numbers_of_the_plan() -> None:
    for name, number in (("PERSISTENT_ROWS", PERSISTENT_ROWS), ("WARP", WARP)):
        assert f"{name} = {number}," in header("gpu_functions.h")


def test_what_every_row_adds_to_is_added_to_by_atomic_operations() -> None:
    (code,) = codes(square.graph(T=5, N=3))
    (kernel,) = (part for part in code.cu.split("static __global__ ") if "atomicAdd" in part)
    assert kernel.count("atomicAdd(&") == 2, "the gradient of a vector is the sum of two products"
    assert "+=" not in code.cu.replace(" += n * 3;", "").replace("j += blockDim.x", "")
    assert "atomicAdd" not in code.cpp
