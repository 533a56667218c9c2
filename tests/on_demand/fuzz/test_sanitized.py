"""The sanitizers find what is wrong with generated code: that they have nothing to say of it means something."""

from __future__ import annotations

import re

import pytest

import lstmc
from lstmc.loops import large_states, plan
from tests.loops.small_scans import square
from tests.loops.test_large_states import everything, plans
from tests.on_demand.fuzz.sanitized import SANITIZERS, found_in

pytestmark = [pytest.mark.caffe, pytest.mark.slow]  # g++ and a BLAS are there where Caffe is
ADDRESSES, THREADS = SANITIZERS[:1], SANITIZERS[1:]


@pytest.fixture(scope="module")
def source() -> str:
    return lstmc.compile("rnn", T=2, N=1, D=3, H=4, target="caffe-fused").files["rnn.layers.cpp"].decode()


def test_memory_beyond_its_end_is_found(source: str) -> None:
    found = found_in(changed(source, "for (int j = 0; j < 4; ++j)", "for (int j = 0; j < 40; ++j)"), ADDRESSES)
    assert found is not None
    assert "heap-buffer-overflow" in found


@pytest.fixture(scope="module")
def cuda() -> str:
    return lstmc.compile(square, T=2, N=3, target="caffe-fused").files["square.layers.cu"].decode()


@pytest.mark.cuda
def test_memory_beyond_its_end_is_found_in_cuda(cuda: str) -> None:
    assert found_in(cuda, cuda=True) is None
    found = found_in(changed(cuda, "if (i >= count) return;", "if (i > count) return;"), ADDRESSES, cuda=True)
    assert found is not None
    assert "heap-buffer-overflow" in found


@pytest.mark.cuda
def test_a_race_of_the_threads_of_a_kernel_is_found(cuda: str) -> None:
    """All rows add to the gradient of a vector."""
    found = found_in(re.sub(r"atomicAdd\(&(.*), (.*)\);", r"\1 += \2;", cuda), THREADS, cuda=True)
    assert found is not None
    assert "data race" in found


@pytest.mark.cuda
@pytest.mark.parametrize("barrier", ["__syncthreads();", "cooperative_groups::this_grid().sync();"])
def test_a_barrier_that_is_left_out_of_a_persistent_kernel_is_found(
    monkeypatch: pytest.MonkeyPatch, barrier: str
) -> None:
    """A thread reads what others computed: those of its block, or of all blocks where these share the weights."""
    if barrier != "__syncthreads();":
        monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 0)
    cell = lstmc.compile("rnn", T=2, N=1, D=3, H=4, target="caffe-fused").files["rnn.layers.cu"].decode()
    assert found_in(cell, cuda=True) is None
    found = found_in(changed(cell, barrier, ""), THREADS, cuda=True, times=20)  # one run in three may miss it
    assert found is not None
    assert "data race" in found


@pytest.mark.parametrize("first_cache", [plan.FIRST_CACHE, 128], ids=["whole", "parts"])
def test_vectors_and_states_that_are_computed_again(monkeypatch: pytest.MonkeyPatch, first_cache: int) -> None:
    monkeypatch.setattr(plan, "FIRST_CACHE", first_cache)
    monkeypatch.setattr(large_states, "FEWEST", 2)
    monkeypatch.setattr(large_states, "MOST", 2)
    sizes = {"T": 2, "N": 2, "K": 16, "V": 32}
    assert (plans(**sizes)["delta"].parts > 1) == (first_cache == 128)
    layers = lstmc.compile(everything, **sizes, target="caffe-fused").files["everything.layers.cpp"]
    assert found_in(layers.decode(), ADDRESSES) is None


def test_a_race_of_two_threads_is_found(source: str) -> None:
    head = "static void forward(const lstmc_call* call) {"
    found = found_in(changed(source, head, f"static long calls;\n{head}\n  ++calls;"), THREADS)
    assert found is not None
    assert "data race" in found


def changed(source: str, old: str, new: str) -> str:
    assert old in source
    return source.replace(old, new)
