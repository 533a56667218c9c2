"""The differential tests once more, on a GPU: some by ``make test``, more by ``make gpu``, the others by ``make
exhaustive`` (tests/conftest.py says which).

Where there is no GPU the device is one that the CPU emulates (docs/gpu.md).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import lstmc
from lstmc.backend import find_cells
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.loops import large_states
from lstmc.loops.code import PERSISTENT_ROWS, PERSISTENT_WEIGHTS
from lstmc.manifest import parse_manifest
from lstmc.pipeline import compile_graph
from lstmc.runs.solver import TYPES, Solver
from lstmc.verification.differential import check, random_inputs
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.install import layer_compiler
from lstmc_caffe.install.downloads import fetch_source, unpack_source
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.install.record import caffe_folder
from lstmc_caffe.ops import CAFFE_OPS
from lstmc_caffe.runtime.executor import CaffeExecutor, with_loss
from lstmc_caffe.runtime.runner import Net, Runner
from lstmc_caffe.targets.target import BASES
from lstmc_caffe.train.trainer import TrainableNet
from lstmc_caffe.write.artifact import layers_source
from tests import test_properties
from tests.backends.lstmc_caffe.fused import test_in_caffe as test_generated_layers
from tests.backends.lstmc_caffe.in_worker import FORCED, set_params
from tests.backends.lstmc_caffe.legalize import (
    test_lstm_unit,
    test_lstm_unit_cont,
    test_native_cont,
    test_native_layers,
)
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees
from tests.backends.lstmc_caffe.nets import compiled as compiled_net
from tests.backends.lstmc_caffe.ops import test_layers, test_read
from tests.backends.lstmc_caffe.rows import test_readers, test_views_fit_readers
from tests.backends.lstmc_caffe.runtime import test_differential, test_post
from tests.backends.lstmc_caffe.train.training_nets import carrying, dropping, line, train
from tests.backends.lstmc_caffe.write import test_in_place, test_step
from tests.cells.scanned import cell_graph, drawn
from tests.loops import test_large_states
from tests.quick_sample import one_in
from tools.gpu_check.cases import CHECKED, cases, sequence_of
from tools.gpu_check.suite import suite

pytestmark = pytest.mark.gpu
LAUNCHES = Path(__file__).with_name("launches.py")


class OnGpu(Runner):
    """A Runner that loads every net on the GPU, whatever it is asked."""

    def load(self, *arguments: Any, **options: Any) -> Net:
        return super().load(*arguments, **{**options, "mode": "gpu"})


@pytest.fixture(scope="session")
def caffe() -> Iterator[Runner]:
    """Real Caffe on a GPU, in place of the fixture of this name that all tests have."""
    with pytest.MonkeyPatch.context() as patch, OnGpu(for_gpu=True) as runner:
        # the CPU's part of generated layers is compiled with them, and hardly runs
        patch.setattr(layer_compiler, "FLAGS", tuple(flag for flag in layer_compiler.FLAGS if flag != "-O3"))
        reason = CaffeExecutor(runner, "gpu").unavailable()
        if reason is not None:
            pytest.fail(f"{reason}\nwithout a GPU: make emulated", pytrace=False)
        yield runner


@pytest.fixture
def examples() -> int:
    """Fewer random models than on the CPU: their layers are few, and the same."""
    return settings.default.max_examples // 5


@pytest.fixture(scope="session")
def kernels(caffe: Runner) -> set[str]:
    """The names of Caffe's kernels: those that an emulated device knows before generated layers are open."""
    return set(launches(caffe))


@pytest.fixture(autouse=True)
def _kernels_launched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Report which of Caffe's kernels have run so far, which the summary of all tests lists (tests/conftest.py)."""
    if "caffe" not in request.fixturenames or not request.getfixturevalue("caffe").gpu.emulated:
        yield
        return
    kernels = request.getfixturevalue("kernels")
    yield
    counts = launches(request.getfixturevalue("caffe"))
    request.node.user_properties.append(("kernels", {name: counts[name] > 0 for name in sorted(kernels)}))


@pytest.fixture(scope="session")
def executor(caffe: Runner) -> CaffeExecutor:
    return CaffeExecutor(caffe, "gpu")


def launches(runner: Runner) -> dict[str, int]:
    """Return how often the worker has launched each kernel, and called each function of CUDA's libraries."""
    counts: dict[str, int] = runner.call(LAUNCHES, "launches").value
    return counts


MODULES = (
    *(test_differential, test_layers, test_readers, test_views_fit_readers, test_step, test_properties, test_post),
    *(test_native_layers, test_native_cont, test_in_place, test_lstm_unit, test_lstm_unit_cont, test_generated_layers),
)
COMPARING = {
    f"{name}_of_{module.__name__.rpartition('.')[2]}": function
    for module in MODULES
    for name, function in vars(module).items()
    if name.startswith("test_") and {"caffe", "executor"} & inspect.signature(function).parameters.keys()
}
globals().update(COMPARING)  # pytest collects them here, and gives them this module's fixtures


SUITE = {  # two cells at all sizes, and others whose layers these do not have
    "some cells": [(CHECKED, ("lstm", "gru")), (CHECKED[1:2], ("conv_gru", "gru_d", "mamba", "bahdanau", "slstm"))],
    "all cells": [(CHECKED, None)],
}


@pytest.mark.parametrize("part", ["some cells", pytest.param("all cells", marks=pytest.mark.exhaustive)])
def test_the_suite_of_the_bundle_passes(caffe: Runner, part: str) -> None:
    executors = CaffeBackend().executors()
    outcomes = [outcome for chosen in SUITE[part] for outcome in suite(cases(*chosen), executors)]
    for executor in executors:
        executor.close()
    assert len(outcomes) > len(COMPARING)
    assert not [str(outcome) for outcome in outcomes if not outcome.passed]


def test_a_build_with_cuda_computes_the_same_on_the_cpu() -> None:
    with Runner(for_gpu=True) as runner:
        assert runner.gpu.built
        outcomes = list(suite(cases(CHECKED[1:2], ("lstm", "gru")), [CaffeExecutor(runner, "cpu")]))
    assert outcomes
    assert not [str(outcome) for outcome in outcomes if not outcome.passed]


def each_cell() -> Iterator[Any]:
    """Each cell as caffe-fused, whose kernels are its own, and as one of the others, which go round: their kernels
    are those of Caffe's layers, whatever the cell. As every target in ``make exhaustive``."""
    others = ("caffe", "flat", "noslice")
    for number, cell in enumerate(find_cells()):
        yield pytest.param(cell, ("caffe-fused", others[number % len(others)]), id=cell)
        yield pytest.param(cell, BASES, id=f"{cell}-every target", marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(("cell", "targets"), [*each_cell()])
def test_every_cell_as_every_target(executor: CaffeExecutor, cell: str, targets: tuple[str, ...]) -> None:
    graph, backend = cell_graph(cell, (5, 2)), CaffeBackend()
    values = drawn(cell, graph)
    compared = []
    for target in targets:
        try:
            compiled = compile_graph(graph, backend, target)
        except BackendError:
            continue  # caffe-native has layers for two of the cells
        artifact = backend.emit(compiled, values.weights)
        report = check(compiled, artifact, values.weights, executor, given=values.inputs)
        assert report.passed, (target, [str(d) for d in report.differences if not d.passed])
        compared.append(target)
    assert {"caffe", "caffe-fused"} & set(compared)


def test_layers_run_again_with_other_inputs_of_the_same_shapes(caffe: Runner, tmp_path: Path) -> None:
    """What a layer left on the GPU, or on the host, is not what the next pass reads."""
    graph, backend = sequence_of("gru", (7, 3, 5, 4)), CaffeBackend()
    weights = initial_weights(graph)
    for target in BASES:
        try:
            compiled = compile_graph(graph, backend, target)
        except BackendError:
            continue
        caffe.open_layers(layers_source(compiled.expanded))
        files = backend.emit(compiled, weights).files
        caffemodel = tmp_path / f"{target}.caffemodel"
        caffemodel.write_bytes(files[f"{compiled.name}.caffemodel"])
        net = caffe.load(files[f"{compiled.name}.prototxt"].decode(), weights=caffemodel)
        for seed in (1, 2, 3):
            inputs = random_inputs(compiled, seed)
            manifest = parse_manifest(files[f"{compiled.name}.manifest.json"])
            found = manifest.outputs["y"].read(net.run(manifest.fed(inputs), want=net.blobs).blobs)
            np.testing.assert_allclose(found, forward(graph, inputs, weights).outputs["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [line, carrying], ids=lambda net: net.__name__)
@pytest.mark.parametrize("kind", TYPES)
def test_a_run_of_the_trainer_ends_with_the_same_weights(
    caffe: Runner, tmp_path: Path, kind: str, net: Callable[[], TrainableNet]
) -> None:
    """Also where it is resumed from a snapshot."""
    settings = Solver(type=kind, max_iter=4, snapshot=2, weight_decay=0.01, clip_gradients=1.0)
    ended = {}
    for on_gpu in (False, True):
        folder = tmp_path / ("gpu" if on_gpu else "cpu")
        train(caffe, net(), settings, folder, gpu=on_gpu)
        ended[on_gpu] = train(caffe, net(), replace(settings, max_iter=7), folder, gpu=on_gpu, resume=True).blobs
    assert ended[True].keys() == ended[False].keys()
    for name, weight in ended[False].items():
        np.testing.assert_allclose(ended[True][name], weight, rtol=1e-4, atol=1e-6)


def test_one_row_times_a_transposed_matrix(executor: CaffeExecutor) -> None:
    """Caffe's own code for GPUs takes the matrix as it is there."""

    @lstmc.model
    def product(x=lstmc.Input(1, 4), W=lstmc.Param(4, 5)):
        return {"y": x @ W}

    compiled, backend = compile_graph(product.graph(), CaffeBackend(), "caffe"), CaffeBackend()
    weights = initial_weights(compiled.model)
    artifact = backend.emit(compiled, weights)
    assert b"transpose: true" in artifact.files["product.prototxt"]
    assert check(compiled, artifact, weights, executor).passed


def last_pass(caffe: Runner, cell: str, steps: int, rows: int, passes: int) -> dict[str, int]:
    """Return what the last of some passes, forward and backward, launches, of a net whose values are right."""
    compiled, backend = (
        compile_graph(sequence_of(cell, (steps, rows, 3, 6)), CaffeBackend(), "caffe-fused"),
        CaffeBackend(),
    )
    assert_caffe_agrees(caffe, compiled)
    files = backend.emit(compiled, initial_weights(compiled.model)).files
    manifest = parse_manifest(files[f"{cell}.manifest.json"])
    with caffe.load(with_loss(files[f"{cell}.prototxt"].decode(), manifest.output_blobs)) as net:
        fed = manifest.fed(random_inputs(compiled, 0))
        for _ in range(passes):
            before = launches(caffe)
            net.run(fed, backward={})
    return {name: count - before.get(name, 0) for name, count in launches(caffe).items()}


@pytest.mark.parametrize(
    ("rows", "weights", "passes"),
    [(2, PERSISTENT_WEIGHTS, 1), (3, 0, 1), (PERSISTENT_ROWS + 1, 0, 3)],
    ids=["a block for each row", "all blocks share the weights", "a graph"],
)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_launches_do_not_grow_with_the_steps(
    monkeypatch: pytest.MonkeyPatch, cell: str, rows: int, weights: int, passes: int
) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", weights)
    with OnGpu(for_gpu=True) as caffe:  # the first layer of a type stays what it is, whatever its CUDA
        if not caffe.gpu.emulated:
            pytest.skip("a real GPU does not count launches")
        ran = [last_pass(caffe, cell, steps, rows, passes) for steps in (3, 9)]
        assert ran[0] == ran[1]
        persistent = rows <= PERSISTENT_ROWS
        assert ran[0]["forward_steps"] == ran[0]["backward_steps"] == (1 if persistent else 0)
        assert ran[0].get("cudaGraphLaunch", 0) == (0 if persistent else 2)
        if passes > 1:
            once = [last_pass(caffe, cell, steps, rows, 1)["cublasSgemm"] for steps in (3, 9)]
            assert once[0] < once[1]


@pytest.mark.cuda
def test_weights_that_no_block_can_hold(caffe: Runner) -> None:
    """The first does not fit into the shared memory of one block, the second not into that of all."""
    for units, steps in ((288, 1), (400, 0)):
        before = launches(caffe).get("forward_steps", 0)
        assert_caffe_agrees(caffe, compile_graph(sequence_of("lstm", (2, 1, 3, units)), CaffeBackend(), "caffe-fused"))
        assert launches(caffe)["forward_steps"] - before == (steps if caffe.gpu.emulated else before), units


@pytest.mark.cuda
@pytest.mark.parametrize("cell", one_in(6, find_cells(), tested=6))
def test_every_cell_with_blocks_that_share_its_weights(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 0)
    graph, backend = cell_graph(cell, (5, 2)), CaffeBackend()
    values = drawn(cell, graph)
    compiled = compile_graph(graph, backend, "caffe-fused")
    with OnGpu(for_gpu=True) as caffe:
        report = check(
            *(compiled, backend.emit(compiled, values.weights), values.weights, CaffeExecutor(caffe, "gpu")),
            given=values.inputs,
        )
    assert report.passed, [str(d) for d in report.differences if not d.passed]


@pytest.mark.parametrize("rows", [2, PERSISTENT_ROWS + 1])
def test_states_that_are_computed_again(executor: CaffeExecutor, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(large_states, "FEWEST", 2)
    monkeypatch.setattr(large_states, "MOST", 2)
    graph = test_large_states.everything.graph(T=3, N=rows, K=6, V=9)
    compiled, weights = compile_graph(graph, CaffeBackend(), "caffe-fused"), initial_weights(graph)
    report = check(compiled, CaffeBackend().emit(compiled, weights), weights, executor, seed=1)
    assert report.passed, [d for d in report.differences if not d.passed]


def test_a_net_streams_on_a_gpu(caffe: Runner) -> None:
    net = lstmc.compile("lstm", T=1, N=2, D=3, H=4, target="caffe-fused", step=True)
    x = np.random.default_rng(0).normal(size=(5, 1, 2, 3)).astype(np.float32)
    found = {}
    for place in ("caffe-cpu", "caffe-gpu"):
        with net.stream(on=place) as step:
            found[place] = [step(x=each)["y"] for each in x]
    np.testing.assert_allclose(found["caffe-gpu"], found["caffe-cpu"], rtol=1e-5, atol=1e-6)


def test_the_device_is_in_what_is_said_of_a_net(caffe: Runner) -> None:
    found = lstmc.compile("gru", T=3, N=2, D=3, H=4).verify(["caffe-gpu"])
    assert str(found).startswith(f"caffe-gpu ({caffe.gpu.device}, gru.prototxt, gru.caffemodel): all ")
    emulated = "emulated" in caffe.gpu.device
    assert caffe.gpu.emulated == emulated


# Kernels in the files of layers that lstmc writes, which none of its nets launches: stochastic pooling is not written.
OTHERS = {"StoPoolForwardTrain", "StoPoolForwardTest", "StoPoolBackward"}


def kernels_of_written_layers(source: Path) -> set[str]:
    """The kernels in the CUDA files of layers that lstmc writes, and of solvers, in Caffe's unpacked source."""
    types = {op.layer_type for op in CAFFE_OPS}
    files = [*(source / "src/caffe/solvers").glob("*.cu")]
    for path in (source / "src/caffe/layers").glob("*.cu"):
        found = re.search(r"(\w+)Layer<Dtype>::(Forward|Backward)_gpu", path.read_text(errors="replace"))
        if found is not None and found[1] in types:
            files.append(path)
    kernel = re.compile(r"__global__\s+(?:(?:static|inline)\s+)*void\s+(\w+)")
    return {name for path in files for name in kernel.findall(path.read_text(errors="replace"))}


# Layers that are written for some readers alone.
READERS_LAYERS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 1 dim: 1 dim: 4 } } }
layer { name: "y" type: "Scale" bottom: "x" top: "y" scale_param { axis: 3 bias_term: true } }
layer { name: "z" type: "LRN" bottom: "y" top: "z" lrn_param { local_size: 1 alpha: 1 beta: 0.75 k: 1 } }
"""


@lstmc.model
def functions(x=lstmc.Input(3, 4), b=lstmc.Param(4)):
    """Each function of one element that is a layer of its own, of numbers near 1, and a row that is repeated."""
    y = 1 + 0.5 * lstmc.sigmoid(x)
    parts = [
        lstmc.softplus(y),
        lstmc.elu(y),
        abs(y),
        lstmc.exp(y),
        lstmc.log(y),
        lstmc.relu(y),
        lstmc.tanh(y) + b,
        1 / y,
    ]
    return {
        "y": lstmc.concat(parts, axis=0),
        "largest": lstmc.maximum(x, b),
        "tiled": lstmc.tile(y, (2, 3)),
        "p": lstmc.softmax(x),
    }


@pytest.mark.slow
def test_every_kernel_of_the_layers_that_lstmc_writes_is_launched(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    archive = fetch_source(CPU, caffe_folder() / "downloads")
    unpack_source(archive, tmp_path / "source")
    found: dict[str, list[Any]] = {}
    with OnGpu(for_gpu=True) as runner:
        if not runner.gpu.emulated:
            pytest.skip("a real GPU does not count launches")
        kernels = sorted(launches(runner))  # before generated layers are open
        for net in (test_layers.language, test_layers.film, test_layers.image, test_layers.losses, functions):
            assert_caffe_agrees(runner, compiled_net(net))
        grad = np.ones((2, 1, 1, 4), np.float32)
        for mode in ("cpu", "gpu"):
            with Runner.load(runner, FORCED + READERS_LAYERS, probes=["z"], mode=mode) as loaded:
                weights = {name: np.full(shape, 0.5) for name, shape in loaded.params.items()}
                set_params(runner, loaded, weights)
                ran = loaded.run(
                    {"x": np.arange(8.0).reshape(2, 1, 1, 4)}, want=loaded.blobs, backward={"z": grad}, want_diffs=["x"]
                )
            found[mode] = [ran.blobs["z"], ran.diffs["x"]]
        np.testing.assert_allclose(found["gpu"], found["cpu"], rtol=1e-5, atol=1e-6)
        assert_caffe_agrees(runner, compile_graph(sequence_of("lstm", (3, 2, 3, 4)), CaffeBackend(), "caffe-native"))
        test_read.test_caffe_computes_what_the_op_does(runner)
        for kind in TYPES:
            train(runner, dropping(), Solver(type=kind, max_iter=1), tmp_path / kind, gpu=True)
        launched = launches(runner)
    wanted = kernels_of_written_layers(tmp_path / "source")
    assert {"ReLUForward", "AdamUpdate", "LSTMUnitBackward", "MaxPoolBackward"} <= wanted <= launched.keys()
    record_property("kernels", {name: launched[name] > 0 for name in kernels})
    never = {name for name in wanted if not launched[name]}
    assert never == OTHERS, sorted(never ^ OTHERS)
    page = (Path(__file__).parents[4] / "docs/gpu.md").read_text()
    rows = page.partition("| kernels that never ran |")[2].partition("\n\n")[0].splitlines()[2:]
    listed = {name for row in rows for name in row.split(" | ")[0].removeprefix("| ").split(", ")}
    assert listed == {name for name in kernels if not launched[name]}
