"""Faults that are put into the CUDA of generated layers, and into their glue to Caffe: the tests on a GPU find each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc import Model
from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.loops.code import Source
from lstmc.manifest import parse_manifest
from lstmc.ops import Param
from lstmc.pipeline import compile_graph
from lstmc.testing.equivalence import random_leaves
from lstmc.verification.differential import check, random_inputs
from lstmc_caffe import CaffeBackend
from lstmc_caffe.install import layer_compiler
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write.artifact import layers_source
from lstmc_caffe.write.feeds import feed_blobs, input_arrays
from tests.backends.lstmc_caffe.fused.test_in_caffe import everything
from tests.loops.small_scans import biases, both_states, one_bias, square
from tests.quick_sample import one_in

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

INDEX = "blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x"
LOST = "static __device__ void lost(float* to, float value) { *to = value; }\nnamespace kernels {"
# fault -> the text of NAME.layers.cu that is changed, and what takes its place
IN_CUDA = {
    "a kernel writes one element too many": ("if (i >= count) return;", "if (i > count) return;"),
    "a thread forgets its block": (INDEX, "threadIdx.x"),
    "the last block is left out": ("(count + THREADS - 1) / THREADS", "count / THREADS"),
    "blocks are too large": ("THREADS = 256", "THREADS = 2048"),
    "an atomic addition is an assignment": ("atomicAdd(&", "lost(&"),
    "every thread reads the first row": (" += n * ", " += 0 * "),
    "an element is of another row": ("const long n = i / ", "const long n = (i + 1) / "),
    "a copy is of the wrong kind": ("cudaMemcpyDeviceToDevice", "cudaMemcpyHostToDevice"),
    "a copy counts elements as bytes": ("from, sizeof(float) * count", "from, count"),
    "a copy goes the other way": ("cudaMemcpyAsync(into, from", "cudaMemcpyAsync(const_cast<float*>(from), into"),
    "memory is set to zero in part": ("0, sizeof(float) * count", "0, count"),
    "a fill has another value": ("into[i] = value;", "into[i] = value + 1;"),
    "rows of a product are too long": ("&beta, y, ldy)", "&beta, y, ldy + 64)"),
    "a product has the other matrix": ("blas, transposed, 0, outs", "blas, !transposed, 0, outs"),
    "a product forgets its bias": ("beta = b ? 1.0f : 0.0f", "beta = 0.0f"),
    "a scalar of a product is on the device": ("ins, &alpha, w,", "ins, w, w,"),
    "a bias is of another element": ("= b[i % outs]", "= b[(i + 1) % outs]"),
    "a gradient of a weight overwrites": ("ct, ldct, &one, into", "ct, ldct, &none, into"),
    "a sum leaves the last row out": ("n < rows; ++n", "n + 1 < rows; ++n"),
    "a sum overwrites": ("into[i] += sum;", "into[i] = sum;"),
    "a function has another sign": ("1.0f + expf(-x)", "1.0f + expf(x)"),
}
# the nets that have what these change; the others are found in ``everything``
NETS = {
    "an atomic addition is an assignment": square,
    "a gradient of a weight overwrites": biases,
    "a sum overwrites": one_bias,
    "gradients of states are not swapped at the end": both_states,
}
# the same in persistent kernels, which batches of few rows have
IN_PERSISTENT = {
    "a barrier is left out": ("    __syncthreads();\n", ""),
    "a thread alone computes": ("for (int i = threadIdx.x; i < lead * outs", "for (int i = threadIdx.x; i < outs - 1"),
    "every block computes the first row": ("const long n = blockIdx.x;\n  for", "const long n = 0;\n  for"),
    "a step is left out": (
        "for (long t = 0; t < T; ++t) {\n    // linear",
        "for (long t = 1; t < T; ++t) {\n    // linear",
    ),
    "weights are not transposed": ("into[i] = w[i % outs * ins + i / outs]", "into[i] = w[i]"),
    "gradients of states are not swapped at the end": ("if (T % 2) {", "if (T % 2 == 2) {"),
    "a product adds nothing": ("sum += x[n * ins + k] * w", "sum = x[n * ins + k] * w"),
    "there is a block too few": ("_steps, N, ", "_steps, N - 1, "),
}
FEW = 3
# the same in the part of caffe_layer.cpp that is for GPUs
IN_GLUE = {
    "a layer reads the host's data": ("blob.gpu_data()", "blob.cpu_data()"),
    "a layer reads the host's gradients": ("blob.gpu_diff()", "blob.cpu_diff()"),
    "gradients are written into the host's memory": ("mutable_gpu_diff()", "mutable_cpu_diff()"),
    "buffers are the host's": ("buffer->mutable_gpu_data()", "buffer->mutable_cpu_data()"),
    "Caffe is not told of new data": (
        "{ return blob->mutable_gpu_data(); }",
        "{ return const_cast<float*>(blob->gpu_data()); }",
    ),
    "Caffe is not told of new gradients": (
        "{ return blob->mutable_gpu_diff(); }",
        "{ return const_cast<float*>(blob->gpu_diff()); }",
    ),
    "data for gradients": ("return blob.gpu_diff()", "return blob.gpu_data()"),
    "there is no handle of cuBLAS": ("return caffe::Caffe::cublas_handle();", "return nullptr;"),
    "the GPU's pass is the CPU's": ("find(code_->type, lstmc_gpu_layers)", "code_"),
}


class Faulty(Runner):
    """Real Caffe, whose generated layers have a fault in their CUDA."""

    fault: tuple[str, str] | None = None

    def open_layers(self, source: Source | None) -> None:
        assert source is not None
        assert source.cu is not None
        text = source.cu
        if self.fault is not None:
            old, new = self.fault
            assert old in text, f"generated CUDA has no {old!r}"
            text = text.replace(old, new).replace("const float one = 1.0f;", "const float one = 1.0f, none = 0.0f;")
            text = text.replace("namespace kernels {", LOST, 1)
        super().open_layers(Source(source.cpp, text))


def problem(runner: Runner, folder: Path, net: Model = everything, rows: int = 90) -> str | None:
    """What the tests on a GPU say of a net: of all its values and gradients, and of a second pass; None for nothing."""
    graph, backend = net.graph(T=3, N=rows), CaffeBackend()
    compiled = compile_graph(graph, backend, "caffe-fused")
    weights = random_leaves(graph, Param)
    artifact = backend.emit(compiled, weights)
    executor = CaffeExecutor(runner, "gpu")
    try:
        report = check(compiled, artifact, weights, executor, seed=1)
        if not report.passed:
            return report.verdict()
        (folder / "net.caffemodel").write_bytes(artifact.files[f"{compiled.name}.caffemodel"])
        prototxt = artifact.files[f"{compiled.name}.prototxt"].decode()
        blobs = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"]).outputs
        with runner.load(prototxt, weights=folder / "net.caffemodel", mode="gpu") as loaded:
            for seed in (1, 2):
                inputs = random_inputs(compiled, seed)
                found = loaded.run(
                    feed_blobs(compiled.expanded, input_arrays(graph, compiled.expanded, inputs)), want="all"
                )
                for name, value in forward(graph, inputs, weights).outputs.items():
                    gap = np.max(np.abs(blobs[name].read(found.blobs) - value), initial=0.0)
                    if not gap < 1e-4:
                        return f"pass {seed}, {name}: {gap:g}"
    except LstmcError as error:
        return str(error)
    return None


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    monkeypatch.setattr(
        layer_compiler, "FLAGS", tuple(flag for flag in layer_compiler.FLAGS if flag != "-O3")
    )  # the CPU's code is not run
    return Faulty(for_gpu=True)


@pytest.mark.parametrize(
    ("net", "rows"),
    [(everything, 90), (everything, FEW), *((net, 90) for net in NETS.values())],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_without_a_fault_there_is_nothing_to_say(runner: Faulty, tmp_path: Path, net: Model, rows: int) -> None:
    with runner:
        assert problem(runner, tmp_path, net, rows) is None


def test_every_fault_changes_the_code() -> None:
    sources = {
        net.name: layers_source(compile_graph(net.graph(T=3, N=FEW), CaffeBackend(), "caffe-fused").expanded)
        for net in (everything, *NETS.values())
    }
    for fault, (text, _) in (IN_CUDA | IN_PERSISTENT).items():
        source = sources[NETS.get(fault, everything).name]
        assert source is not None
        assert text in str(source.cu), fault


def a_third(faults: dict[str, tuple[str, str]]) -> list[Any]:
    """The others are in ``make exhaustive``: they show what the tests find, and change with the generator alone."""
    return one_in(3, faults, tested=3)


@pytest.mark.parametrize("fault", a_third(IN_CUDA))
def test_a_fault_in_generated_cuda(runner: Faulty, tmp_path: Path, fault: str) -> None:
    with runner:
        runner.fault = IN_CUDA[fault]
        assert problem(runner, tmp_path, NETS.get(fault, everything)) is not None


@pytest.mark.parametrize("fault", a_third(IN_PERSISTENT))
def test_a_fault_in_a_persistent_kernel(runner: Faulty, tmp_path: Path, fault: str) -> None:
    with runner:
        runner.fault = IN_PERSISTENT[fault]
        assert problem(runner, tmp_path, NETS.get(fault, everything), FEW) is not None


@pytest.mark.parametrize("fault", a_third(IN_GLUE))
def test_a_fault_in_the_glue(runner: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    before, struct, behind = layer_compiler.caffe_layer().partition("struct OnGpu")
    old, new = IN_GLUE[fault]
    assert old in behind
    monkeypatch.setattr(layer_compiler, "caffe_layer", lambda: before + struct + behind.replace(old, new))
    with runner:
        assert problem(runner, tmp_path) is not None
