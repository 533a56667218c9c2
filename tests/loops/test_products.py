"""The products of generated code, of all kinds and of sizes around those of registers and blocks, against NumPy."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lstmc.loops.memory import CPU, functions
from lstmc.loops.native import FLAGS
from lstmc_caffe.install.recipe import processor_flags

pytestmark = pytest.mark.caffe  # g++ and a BLAS are there where Caffe is

PROBE = """
#include <omp.h>
{functions}
extern "C" int parts(int outs, double products, int (*found)[3]) {{
  int count = 0;
  in_parts(outs, products, [&](int begin, int end) {{
#pragma omp critical
    {{
      const int part[] = {{begin, end, omp_get_thread_num()}};
      std::memcpy(found[count++], part, sizeof part);
    }}
  }});
  return count;
}}
extern "C" void products(int rows, int outs, int ins, const float* x, int ldx, const float* w, float* panels,
                         bool turned, const float* b, float* y, int ldy, bool add, bool back) {{
  const float* const packed = panels ? pack(outs, ins, w, turned ? ins : outs, turned, panels) : nullptr;
  product(rows, outs, ins, x, ldx, w, packed, turned, b, y, ldy, add, back);
}}
extern "C" int lanes() {{ return LANES; }}
extern "C" void outers(int rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx, float* into) {{
  outer(rows, outs, ins, ct, ldct, x, ldx, into);
}}
extern "C" void sums(int rows, int outs, const float* ct, int ldct, float* into) {{
  sum_of_rows(rows, outs, ct, ldct, into);
}}
"""
ROWS, OUTS, INS = (*range(1, 8), 10, 11, 23, 30, 47), (1, 4, 6, 31, 32, 45, 70, 100), (1, 3, 15, 16, 19, 64, 101)
PLAIN = (ctypes.c_bool(False), ctypes.c_bool(False))  # neither added to y nor from the last columns on
BEYOND = 5  # columns that are not the product's, in rows that are longer


WIDTHS = ["native", *(["x86-64-v3"] if processor_flags(Path("/proc/cpuinfo").read_text()) else [])]


@pytest.fixture(scope="module", params=WIDTHS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    """The functions as this processor has them, and as one without AVX-512."""
    folder: Path = tmp_path_factory.mktemp("products")
    (folder / "probe.cpp").write_text(PROBE.format(functions=functions(CPU)))
    flags = [flag.replace("-march=native", f"-march={request.param}") for flag in FLAGS]
    subprocess.run(["g++", *flags, "-shared", "probe.cpp", "-lopenblas", "-o", "probe.so"], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        found = ctypes.CDLL(str(folder / "probe.so"))
        found.omp_set_num_threads(1)
        yield found


def at(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def at_the_end(array: np.ndarray) -> np.ndarray:
    """Return a copy right before memory that ends a process which reads or writes it."""
    pages = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    behind = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + pages
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(behind), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = np.frombuffer(memory, np.float32, array.size, pages - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "as-it-is"])
@pytest.mark.parametrize("turned", [True, False], ids=["transposed", "straight"])
def test_products(probe: ctypes.CDLL, packed: bool, turned: bool) -> None:
    rng = np.random.default_rng(0)
    for rows, outs, ins, plus in product(ROWS, OUTS, INS, ("a bias", "itself", "nothing")):
        x, w = drawn(rng, rows, ins + BEYOND), drawn(rng, *((outs, ins) if turned else (ins, outs)))
        b = drawn(rng, outs) if plus == "a bias" else None
        panels = np.full((outs + 31) // 32 * 32 * ins + 1, 7, np.float32) if packed else None
        y = np.full((rows, outs + BEYOND), 7, np.float32)
        add, back = (ctypes.c_bool(said) for said in (plus == "itself", rng.integers(2)))
        if packed:  # else a BLAS may do it
            x, w, y = map(at_the_end, (x, w, y))
        probe.products(
            rows, outs, ins, at(x), ins + BEYOND, at(w), at(panels), ctypes.c_bool(turned), at(b), at(y), outs + BEYOND,
            add, back,
        )  # fmt: skip
        wanted = x[:, :ins].astype(np.float64) @ (w.T if turned else w) + (7 * add.value if b is None else b)
        message = f"{rows} rows, {outs} outs, {ins} ins, plus {plus}, back {back.value}"
        np.testing.assert_allclose(y[:, :outs], wanted, rtol=0, atol=2e-6 * max(ins, 4), err_msg=message)
        assert (y[:, outs:] == 7).all(), message
        assert panels is None or panels[-1] == 7, message


@pytest.fixture
def two_threads(probe: ctypes.CDLL) -> Iterator[None]:
    probe.omp_set_num_threads(2)
    yield
    probe.omp_set_num_threads(1)


def test_one_thread_where_nothing_says_how_many(probe: ctypes.CDLL) -> None:
    code = (
        f"import ctypes; print(ctypes.CDLL({probe._name!r}).parts(1030, ctypes.c_double(1e5), (ctypes.c_int * 99)()))"
    )
    for threads, parts in ((None, 1), ("1", 1), ("2", 2)):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"OMP_NUM_THREADS": threads} if threads else {}
        said = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        assert int(said.stdout) == parts, threads


def test_columns_are_shared_out_among_threads_where_there_is_enough(probe: ctypes.CDLL, two_threads: None) -> None:
    def parts(outs: int, products: float) -> list[list[int]]:
        found = np.zeros((8, 3), np.int32)
        count = probe.parts(outs, ctypes.c_double(products), at(found))
        return sorted(found[:count].tolist())

    wide = 2 * probe.lanes()
    assert parts(1030, 100.0) == [[0, 1030, 0]]  # too little
    assert parts(wide, 1e9) == [[0, wide, 0]]  # one unit
    (begin, middle, first), (again, end, second) = parts(1030, 1e5)
    assert (begin, again, end, first, second) == (0, middle, 1030, 0, 1)
    assert middle % wide == 0
    probe.omp_set_num_threads(1)
    assert parts(1030, 1e5) == [[0, 1030, 0]]


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "as-it-is"])
@pytest.mark.parametrize("turned", [True, False], ids=["transposed", "straight"])
def test_two_threads_compute_what_one_does_to_the_last_bit(
    probe: ctypes.CDLL, two_threads: None, packed: bool, turned: bool
) -> None:
    rng = np.random.default_rng(4)
    for rows, outs, ins in ((17, 1037, 515), (40, 555, 301), (600, 131, 67)):
        x, w, b = drawn(rng, rows, ins), drawn(rng, *((outs, ins) if turned else (ins, outs))), drawn(rng, outs)
        panels = np.empty((outs + 31) // 32 * 32 * ins, np.float32) if packed else None
        ct, found = drawn(rng, rows, outs), []
        for threads in (1, 2):
            probe.omp_set_num_threads(threads)
            y, into = np.full((rows, outs), 7, np.float32), np.ones((outs, ins), np.float32)
            probe.products(
                rows, outs, ins, at(x), ins, at(w), at(panels), ctypes.c_bool(turned), at(b), at(y), outs, *PLAIN
            )
            probe.outers(rows, outs, ins, at(ct), outs, at(x), ins, at(into))
            found.append((y, into))
        wanted = x.astype(np.float64) @ (w.T if turned else w) + b
        np.testing.assert_allclose(found[1][0], wanted, rtol=0, atol=2e-6 * ins)
        own = packed or turned or rows <= 18, probe.lanes() == 16  # the rest is BLAS's, which promises less
        for one, two, exact in zip(*found, own, strict=True):
            atol = 0 if exact else 4e-6 * max(ins, rows)
            np.testing.assert_allclose(one, two, rtol=0, atol=atol, err_msg=f"{rows} rows, {outs} outs, {ins} ins")


def test_more_rows_than_stay_in_a_cache(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    for rows, outs, ins in ((1, 33, 70000), (3, 33, 70000), (30, 33, 2500), (131, 33, 1001), (257, 40, 512)):
        x, w = drawn(rng, rows, ins), drawn(rng, outs, ins)
        for panels in (np.empty((outs + 31) // 32 * 32 * ins, np.float32), None):
            y, into = np.full((rows, outs), 7, np.float32), None if panels is None else at(panels)
            probe.products(rows, outs, ins, at(x), ins, at(w), into, ctypes.c_bool(True), None, at(y), outs, *PLAIN)
            np.testing.assert_allclose(y, x.astype(np.float64) @ w.T, rtol=0, atol=2e-6 * ins, err_msg=f"{rows}, {ins}")


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "as-it-is"])
def test_infinity_is_of_its_own_sum_alone(probe: ctypes.CDLL, packed: bool) -> None:
    rng = np.random.default_rng(2)
    for rows, outs, ins in product((2, 6, 13), (3, 4, 33), (17, 19, 31, 45)):
        for column in (0, ins // 2, ins - 2, ins - 1):
            x, w = drawn(rng, rows, ins), np.ones((outs, ins), np.float32)
            x[1, column], w[0, column] = np.inf, 0.5
            w[2, column] = np.nan
            panels = np.empty((outs + 31) // 32 * 32 * ins, np.float32) if packed else None
            y = np.empty((rows, outs), np.float32)
            probe.products(
                rows, outs, ins, at(x), ins, at(w), at(panels), ctypes.c_bool(True), None, at(y), outs, *PLAIN
            )
            wanted = np.stack([x.astype(np.float64) @ row for row in w.astype(np.float64)], axis=1)
            np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6 * ins, err_msg=f"{rows}, {outs}, {ins}, {column}")


def test_gradients_of_weights(probe: ctypes.CDLL) -> None:
    """Of arrays whose rows are longer, and of such that end where memory does."""
    rng = np.random.default_rng(1)
    sizes = product((1, 5, 320, 321, 650), (1, 9, 10, 41, 123, 130), (1, 16, 31, 32, 70))
    more = ((320, 70, 520), (333, 200, 1050), (7, 64, 600), (640, 65, 512))
    for (rows, outs, ins), beyond in product((*sizes, *more), (BEYOND, 0)):
        ct, x, into = drawn(rng, rows, outs + beyond), drawn(rng, rows, ins + beyond), drawn(rng, outs, ins)
        if not beyond and ins >= 16 == probe.lanes():  # else a BLAS may do it
            ct, x, into = map(at_the_end, (ct, x, into))
        wanted = into + ct[:, :outs].T.astype(np.float64) @ x[:, :ins]
        probe.outers(rows, outs, ins, at(ct), outs + beyond, at(x), ins + beyond, at(into))
        np.testing.assert_allclose(into, wanted, rtol=0, atol=1e-6 * max(rows, 10), err_msg=f"{rows}, {outs}, {ins}")
        total = drawn(rng, outs)
        wanted = total + ct[:, :outs].astype(np.float64).sum(axis=0)
        probe.sums(rows, outs, at(ct), outs + beyond, at(total))
        np.testing.assert_allclose(total, wanted, rtol=0, atol=1e-6 * max(rows, 10))
