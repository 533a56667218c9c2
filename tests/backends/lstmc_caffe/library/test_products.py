"""The products of generated code, of all kinds and of sizes around those of registers and blocks, against NumPy."""

from __future__ import annotations

import ctypes
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lstmc_caffe.fused.functions import CPU, functions
from lstmc_caffe.install.recipe import processor_flags
from lstmc_caffe.library.build import FLAGS

pytestmark = pytest.mark.caffe  # g++ and a BLAS are there where Caffe is

PROBE = """
#include <cmath>
#include <cstring>
#include <utility>
{functions}
extern "C" void products(int rows, int outs, int ins, const float* x, int ldx, const float* w, float* panels,
                         bool turned, const float* b, float* y, int ldy) {{
  const float* const packed = panels ? pack(outs, ins, w, turned, panels) : nullptr;
  product(rows, outs, ins, x, ldx, w, packed, turned, b, y, ldy);
}}
extern "C" void outers(int rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx, float* into) {{
  outer(rows, outs, ins, ct, ldct, x, ldx, into);
}}
extern "C" void sums(int rows, int outs, const float* ct, int ldct, float* into) {{
  sum_of_rows(rows, outs, ct, ldct, into);
}}
"""
ROWS, OUTS, INS = (*range(1, 8), 10, 11, 23, 47), (1, 4, 6, 31, 32, 45, 70), (1, 3, 15, 16, 19, 64, 101)
BEYOND = 5  # columns that are not the product's, in rows that are longer


WIDTHS = ["native", *(["x86-64-v3"] if processor_flags(Path("/proc/cpuinfo").read_text()) else [])]


@pytest.fixture(scope="module", params=WIDTHS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions as this processor has them, and as one without AVX-512."""
    folder: Path = tmp_path_factory.mktemp("products")
    (folder / "probe.cpp").write_text(PROBE.format(functions=functions(CPU)))
    flags = [flag.replace("-march=native", f"-march={request.param}") for flag in FLAGS]
    subprocess.run(["g++", *flags, "-shared", "probe.cpp", "-lopenblas", "-o", "probe.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "probe.so"))


def at(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "as-it-is"])
@pytest.mark.parametrize("turned", [True, False], ids=["transposed", "straight"])
def test_products(probe: ctypes.CDLL, packed: bool, turned: bool) -> None:
    rng = np.random.default_rng(0)
    for rows, outs, ins, bias in product(ROWS, OUTS, INS, (True, False)):
        x, w = drawn(rng, rows, ins + BEYOND), drawn(rng, *((outs, ins) if turned else (ins, outs)))
        b = drawn(rng, outs) if bias else None
        panels = np.full((outs + 31) // 32 * 32 * ins + 1, 7, np.float32) if packed else None
        y = np.full((rows, outs + BEYOND), 7, np.float32)
        probe.products(
            rows, outs, ins, at(x), ins + BEYOND, at(w), at(panels), ctypes.c_bool(turned), at(b), at(y), outs + BEYOND
        )
        wanted = x[:, :ins].astype(np.float64) @ (w.T if turned else w) + (0 if b is None else b)
        message = f"{rows} rows, {outs} outs, {ins} ins, bias {bias}"
        np.testing.assert_allclose(y[:, :outs], wanted, rtol=0, atol=2e-6 * max(ins, 4), err_msg=message)
        assert (y[:, outs:] == 7).all(), message
        assert panels is None or panels[-1] == 7, message


def test_more_rows_than_stay_in_a_cache(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    for rows, outs, ins in ((1, 33, 70000), (3, 33, 70000), (131, 33, 1001), (257, 40, 512)):
        x, w = drawn(rng, rows, ins), drawn(rng, outs, ins)
        panels, y = np.empty((outs + 31) // 32 * 32 * ins, np.float32), np.full((rows, outs), 7, np.float32)
        probe.products(rows, outs, ins, at(x), ins, at(w), at(panels), ctypes.c_bool(True), None, at(y), outs)
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
            probe.products(rows, outs, ins, at(x), ins, at(w), at(panels), ctypes.c_bool(True), None, at(y), outs)
            wanted = np.stack([x.astype(np.float64) @ row for row in w.astype(np.float64)], axis=1)
            np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6 * ins, err_msg=f"{rows}, {outs}, {ins}, {column}")


def test_gradients_of_weights(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(1)
    sizes = product((1, 5, 320, 321, 650), (1, 9, 10, 41, 123, 130), (1, 16, 31, 32, 70))
    for rows, outs, ins in (*sizes, (320, 70, 520), (333, 200, 1050), (7, 64, 600), (640, 65, 512)):
        ct, x, into = drawn(rng, rows, outs + BEYOND), drawn(rng, rows, ins + BEYOND), drawn(rng, outs, ins)
        wanted = into + ct[:, :outs].T.astype(np.float64) @ x[:, :ins]
        probe.outers(rows, outs, ins, at(ct), outs + BEYOND, at(x), ins + BEYOND, at(into))
        np.testing.assert_allclose(into, wanted, rtol=0, atol=1e-6 * max(rows, 10), err_msg=f"{rows}, {outs}, {ins}")
        total = drawn(rng, outs)
        wanted = total + ct[:, :outs].astype(np.float64).sum(axis=0)
        probe.sums(rows, outs, at(ct), outs + BEYOND, at(total))
        np.testing.assert_allclose(total, wanted, rtol=0, atol=1e-6 * max(rows, 10))
