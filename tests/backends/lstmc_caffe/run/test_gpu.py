"""The differential tests once more, on a GPU: ``pytest -m gpu``. Where there is none they say why they did not run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc_caffe import CaffeBackend
from lstmc_caffe.install.record import installed_with_cuda
from lstmc_caffe.place.place import INSTALL_CUDA, CaffeLocation
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.loaded_net import Net
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.train.solver import Solver
from tests import test_properties
from tests.backends.lstmc_caffe.fused import test_in_caffe as test_generated_layers
from tests.backends.lstmc_caffe.ops import test_layers
from tests.backends.lstmc_caffe.recurrent import (
    test_lstm_unit,
    test_lstm_unit_cont,
    test_native_cont,
    test_native_layers,
)
from tests.backends.lstmc_caffe.rows import test_fit_readers, test_readers
from tests.backends.lstmc_caffe.run import test_differential, test_post
from tests.backends.lstmc_caffe.train.training_nets import line, train
from tests.backends.lstmc_caffe.write import test_in_place, test_step
from tools.gpu_check.cases import CHECKED, cases
from tools.gpu_check.suite import suite

pytestmark = pytest.mark.gpu


class OnGpu(Runner):
    """A Runner that loads every net on the GPU, whatever it is asked."""

    def load(self, *arguments: Any, **options: Any) -> Net:
        return super().load(*arguments, **{**options, "mode": "gpu"})


@pytest.fixture(scope="session")
def caffe() -> Iterator[Runner]:
    """Real Caffe on a GPU, in place of the fixture of this name that all tests have."""
    with OnGpu(for_gpu=True) as runner:
        reason = CaffeExecutor(runner, "gpu").unavailable()
        if reason is not None:
            pytest.skip(f"NOT CHECKED on a GPU: {reason.splitlines()[0]}")
        yield runner


@pytest.fixture(scope="session")
def executor(caffe: Runner) -> CaffeExecutor:
    return CaffeExecutor(caffe, "gpu")


MODULES = (
    *(test_differential, test_layers, test_readers, test_fit_readers, test_step, test_properties, test_post),
    *(test_native_layers, test_native_cont, test_in_place, test_lstm_unit, test_lstm_unit_cont, test_generated_layers),
)
COMPARING = {
    f"{name}_of_{module.__name__.rpartition('.')[2]}": function
    for module in MODULES
    for name, function in vars(module).items()
    if name.startswith("test_") and {"caffe", "executor"} & inspect.signature(function).parameters.keys()
}
globals().update(COMPARING)  # pytest collects them here, and gives them this module's fixtures


def test_the_suite_of_the_bundle_passes(caffe: Runner) -> None:
    executors = CaffeBackend().executors()
    outcomes = list(suite(cases(CHECKED), executors))
    for executor in executors:
        executor.close()
    assert len(outcomes) > len(COMPARING)
    assert not [str(outcome) for outcome in outcomes if not outcome.passed]


def test_a_run_of_the_trainer_ends_with_the_same_weights(caffe: Runner, tmp_path: Path) -> None:
    settings = Solver(max_iter=6, snapshot=2, momentum=0.9)
    there = train(caffe, line(), settings, tmp_path / "gpu", gpu=True).blobs
    here = train(caffe, line(), settings, tmp_path / "cpu").blobs
    assert there.keys() == here.keys()
    for name, weight in here.items():
        np.testing.assert_allclose(there[name], weight, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def built_with_cuda() -> Iterator[Runner]:
    """The build with CUDA on the CPU, which it can do without a GPU."""
    found = installed_with_cuda()
    if found is None:
        pytest.skip(f"NOT CHECKED: the build with CUDA on the CPU, which is not installed: {INSTALL_CUDA}")
    with Runner(CaffeLocation(found.python, str(found.pythonpath), found.caffe_binary, "installed")) as runner:
        yield runner


def test_the_build_with_cuda_computes_the_same_on_the_cpu(built_with_cuda: Runner) -> None:
    outcomes = list(suite(cases(CHECKED[:2]), [CaffeExecutor(built_with_cuda, "cpu")]))
    assert outcomes
    assert not [str(outcome) for outcome in outcomes if not outcome.passed]


def test_the_build_with_cuda_knows_that_it_is_for_gpus(built_with_cuda: Runner) -> None:
    gpu = built_with_cuda.gpu
    assert gpu.built
    assert gpu.usable or gpu.reason.startswith(("there is no NVIDIA driver", "NVIDIA's driver finds no GPU"))
