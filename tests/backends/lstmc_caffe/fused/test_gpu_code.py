"""The CUDA of generated layers where there is no GPU: run serially on the CPU, and compiled by nvcc.

Nothing here runs on a GPU: ``tests/backends/lstmc_caffe/run/test_gpu.py`` does, where there is one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lstmc
from lstmc.backend import find_cells
from lstmc.differential import check, check_training
from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.pipeline import compile_graph
from lstmc.testing.random_models import seeded_model
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.fused.code import LayerCode, Source, layer_code, source
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.fused.plan import plan_of
from lstmc_caffe.install import toolkit
from lstmc_caffe.install.cuda import cuda_recipe
from lstmc_caffe.library import build
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from tests import serial_cuda
from tests.backends.lstmc_caffe.fused.small_scans import (
    FIRST_PIECES,
    both_states,
    gate,
    largest,
    new_state,
    residual,
    square,
    two_products,
    words,
)
from tests.backends.lstmc_caffe.fused.test_in_caffe import attending, everything, kept_in_part
from tests.cells.scanned import cell_graph

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


class Serially(Runner):
    """Real Caffe on the CPU, whose generated layers are the CUDA code, run without threads."""

    def open_layers(self, source: Source | None) -> None:
        assert source is not None
        assert source.cu is not None
        super().open_layers(Source(source.cu, None))


@pytest.fixture(scope="module")
def serially() -> Iterator[Runner]:
    with pytest.MonkeyPatch.context() as patch, Serially() as runner:
        patch.setattr(build, "FLAGS", (*build.FLAGS, *serial_cuda.FLAGS))
        yield runner


def assert_right(caffe: Runner, graph: Graph, training: bool = False) -> None:
    compiled = compile_graph(graph, BACKEND, TARGET)
    weights = initial_weights(graph)
    run = check_training if training else check
    report = run(compiled, BACKEND.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"), seed=1)
    assert report.passed, [d for d in report.differences if not d.passed]
    assert {d.kind for d in report.differences} >= {"output", "gradient"}


@pytest.mark.caffe
@pytest.mark.parametrize("made", [everything, square], ids=lambda made: made.name)
def test_outputs_and_all_gradients_run_serially(serially: Runner, made: lstmc.Model) -> None:
    assert_right(serially, made.graph(T=5, N=3))


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.cuda
@pytest.mark.parametrize(
    "made",
    [attending, *FIRST_PIECES, two_products, gate, words, new_state, both_states, residual, largest],
    ids=lambda made: made.name,
)
def test_more_outputs_and_all_gradients_run_serially(serially: Runner, made: lstmc.Model) -> None:
    assert_right(serially, made.graph(T=5, N=3))


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.cuda
def test_dropout_in_a_loop_run_serially(serially: Runner) -> None:
    assert_right(serially, kept_in_part.graph(T=40, N=6), training=True)


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.cuda
def test_cells_of_the_library_run_serially(serially: Runner) -> None:
    graphs = graphs_of_cells()
    assert len(graphs) >= 35
    for graph in graphs.values():
        assert_right(serially, graph)


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.cuda
@pytest.mark.parametrize("seed", range(12))
def test_random_models_run_serially(serially: Runner, seed: int) -> None:
    assert_right(serially, seeded_model(seed).graph())


@pytest.fixture(scope="module")
def nvcc() -> Path:
    found = toolkit.system_nvcc()
    if found is None:
        pytest.skip("NOT CHECKED: that generated CUDA compiles, as there is no nvcc of CUDA 13 (its toolkit has it)")
    return found


def compiled_by(nvcc: Path, text: str, folder: Path) -> None:
    """By the flags that layers of a Caffe with CUDA are compiled by, for one GPU."""
    (folder / "layers.cu").write_text(text)
    command = [nvcc, *cuda_recipe(("sm_90",)).gpu_flags, "-c", "layers.cu", "-o", "layers.o"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_nvcc_compiles_a_net_s_layers(nvcc: Path, tmp_path: Path) -> None:
    text = source("everything", codes(everything.graph(T=5, N=3))).cu
    assert text is not None
    compiled_by(nvcc, text, tmp_path)
    assert b"sm_90" in (tmp_path / "layers.o").read_bytes(), "there is code for the GPU in it"


@pytest.mark.slow
@pytest.mark.cuda
def test_nvcc_compiles_every_cell_of_the_library(nvcc: Path, tmp_path: Path) -> None:
    layers = [code for graph in graphs_of_cells().values() for code in codes(graph)]
    assert len({layer.type for layer in layers}) >= 35
    text = source("cells", layers).cu
    assert text is not None
    compiled_by(nvcc, text, tmp_path)


def test_what_every_row_adds_to_is_added_to_by_atomic_operations() -> None:
    (code,) = codes(square.graph(T=5, N=3))
    (kernel,) = (part for part in code.cu.split("static __global__ ") if "atomicAdd" in part)
    assert kernel.count("atomicAdd(&") == 2, "the gradient of a vector is the sum of two products"
    assert "+=" not in code.cu.replace(" += n * 3;", "")
    assert "atomicAdd" not in code.cpp
