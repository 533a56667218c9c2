"""Faults that are put into the CUDA of generated layers, and into their glue to Caffe: the tests on a GPU find each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lstmc import Model
from lstmc.errors import LstmcError
from lstmc.loops.code import Source
from lstmc.ops import Array, Param
from lstmc.pipeline import compile_graph
from lstmc.testing import random_leaves
from lstmc.verification.differential import check
from lstmc_caffe import CaffeBackend
from lstmc_caffe.install import layer_compiler
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Net, Runner, RunResult
from lstmc_caffe.write.artifact import layers_source
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
    "a product forgets its bias": ("beta = b || add ? 1.0f : 0.0f", "beta = add ? 1.0f : 0.0f"),
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
# the same in kernels whose blocks share the weights
IN_GRID = {
    "a barrier of the grid is left out": ("    cooperative_groups::this_grid().sync();\n", ""),
    "blocks do not run together": ("shared ? 1 : 0", "0"),
    "a column is of another block": (" * ldy + first + j]", " * ldy + (first + j + 1) % outs]"),
    "a share is a column too small": ("return (outs + blocks - 1) / blocks", "return (outs + blocks - 1) / blocks - 1"),
    "a matrix is kept the other way round": ("into[i] = transposed ?", "into[i] = !transposed ?"),
    "a sum leaves out a thread": ("for (int i = 0; i < WARP; ++i)", "for (int i = 1; i < WARP; ++i)"),
    "shared memory is a float too small": ("(threads + weights(blocks))", "(threads + weights(blocks) - 1)"),
    "blocks of a grid have the same elements": ("for (int i = blockIdx.x * blockDim.x", "for (int i = 0 * blockDim.x"),
}
# the same in what records a graph, of batches of more rows: a third pass launches it
IN_GRAPHS = {
    "a launch is in another stream": ("config.stream = stream", "config.stream = 0"),
    "memory is set to zero in another stream": ('sizeof(float) * count, stream), "setting', 'count, 0), "setting'),
    "cuBLAS is in another stream": ("(cublasSetStream_v2(blas_, stream), ", "(0, "),
    "every pass has the same graph": ("if (known.first != key) continue;", ""),
    "a pass that is recorded is not run": ("expect(cudaGraphLaunch(executable, stream)", "expect(0"),
    "a graph is not launched": ("expect(cudaGraphLaunch(known.second.get(), stream)", "expect(0"),
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
    """Real Caffe, whose generated layers have a fault in their CUDA. A net returns what the last of ``passes`` does."""

    fault: tuple[str, str] | None = None
    passes = 1

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

    def load(self, *arguments: Any, **options: Any) -> Net:
        net = super().load(*arguments, **options)
        run, passes = net.run, self.passes

        def last(inputs: Mapping[str, Array], **wanted: Any) -> RunResult:
            for number in range(1, passes):
                run({name: array * number / passes for name, array in inputs.items()}, **wanted)
            return run(inputs, **wanted)

        net.run = last  # type: ignore[method-assign, assignment]
        return net


def problem(runner: Faulty, net: Model = everything, rows: int = 90) -> str | None:
    """What the tests on a GPU say of a net: of all its values and gradients in a second pass, which records graphs, and
    where it is loaded anew, in a third pass; None for nothing. The passes before have other inputs."""
    graph, backend = net.graph(T=3, N=rows), CaffeBackend()
    compiled = compile_graph(graph, backend, "caffe-fused")
    weights = random_leaves(graph, Param)
    artifact = backend.emit(compiled, weights)
    for runner.passes in (2, 3):
        try:
            report = check(compiled, artifact, weights, CaffeExecutor(runner, "gpu"), seed=1)
        except LstmcError as error:
            return str(error)
        if not report.passed:
            return report.verdict()
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
def test_without_a_fault_there_is_nothing_to_say(runner: Faulty, net: Model, rows: int) -> None:
    with runner:
        assert problem(runner, net, rows) is None


def test_every_fault_changes_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        net.name: layers_source(compile_graph(net.graph(T=3, N=FEW), CaffeBackend(), "caffe-fused").expanded)
        for net in (everything, *NETS.values())
    }
    for fault, (text, _) in (IN_CUDA | IN_PERSISTENT | IN_GRAPHS).items():
        source = sources[NETS.get(fault, everything).name]
        assert source is not None
        assert text in str(source.cu), fault
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 0)
    source = layers_source(compile_graph(everything.graph(T=3, N=FEW), CaffeBackend(), "caffe-fused").expanded)
    for fault, (text, _) in IN_GRID.items():
        assert text in str(source and source.cu), fault


def a_third(faults: dict[str, tuple[str, str]]) -> list[Any]:
    """The others are in ``make exhaustive``: they show what the tests find, and change with the generator alone."""
    return one_in(3, faults, tested=3)


@pytest.mark.parametrize("fault", a_third(IN_CUDA))
def test_a_fault_in_generated_cuda(runner: Faulty, fault: str) -> None:
    with runner:
        runner.fault = IN_CUDA[fault]
        assert problem(runner, NETS.get(fault, everything)) is not None


@pytest.mark.parametrize("fault", a_third(IN_PERSISTENT))
def test_a_fault_in_a_persistent_kernel(runner: Faulty, fault: str) -> None:
    with runner:
        runner.fault = IN_PERSISTENT[fault]
        assert problem(runner, NETS.get(fault, everything), FEW) is not None


def test_without_a_fault_a_grid_says_nothing(runner: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 0)
    with runner:
        assert problem(runner, rows=FEW) is None


@pytest.mark.parametrize("fault", a_third(IN_GRID))
def test_a_fault_in_a_kernel_of_a_grid(runner: Faulty, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 0)
    with runner:
        runner.fault = IN_GRID[fault]
        assert problem(runner, rows=FEW) is not None


@pytest.mark.parametrize("fault", a_third(IN_GRAPHS))
def test_a_fault_in_what_records_a_graph(runner: Faulty, fault: str) -> None:
    with runner:
        runner.fault = IN_GRAPHS[fault]
        assert problem(runner) is not None


@pytest.mark.parametrize("fault", a_third(IN_GLUE))
def test_a_fault_in_the_glue(runner: Faulty, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    before, struct, behind = layer_compiler.caffe_layer().partition("struct OnGpu")
    old, new = IN_GLUE[fault]
    assert old in behind
    monkeypatch.setattr(layer_compiler, "caffe_layer", lambda: before + struct + behind.replace(old, new))
    with runner:
        assert problem(runner) is not None
