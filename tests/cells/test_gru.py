"""Both gated recurrent units are those of their papers and libraries."""

import numpy as np
import pytest

from tests.cells.scanned import SIZES, assert_equal, scanned, sigmoid


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gru_is_that_of_arxiv_1406_1078(sizes: tuple[int, int, int, int]) -> None:
    run, n = scanned("gru", sizes), sizes[3]
    W_z, W_r, W = run.params.W_x[:n], run.params.W_x[n : 2 * n], run.params.W_x[2 * n :]
    b_z, b_r, b = run.params.b[:n], run.params.b[n : 2 * n], run.params.b[2 * n :]
    U_z, U_r, U = run.params.W_h[:n], run.params.W_h[n:], run.params.U
    h = run.initial["h"]
    for x_t, y_t in zip(run.x, run.y, strict=True):
        r = sigmoid(x_t @ W_r.T + h @ U_r.T + b_r)  # (5)
        z = sigmoid(x_t @ W_z.T + h @ U_z.T + b_z)  # (6)
        candidate = np.tanh(x_t @ W.T + (r * h) @ U.T + b)  # (8)
        h = z * h + (1 - z) * candidate  # (7)
        assert_equal(y_t, h)
    assert_equal(run.last["h"], h)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gru_reset_after_is_onnx_s_with_linear_before_reset(sizes: tuple[int, int, int, int]) -> None:
    """ONNX operator GRU: ht = tanh(Xt Wh' + rt (Ht-1 Rh' + Rbh) + Wbh); Ht = (1 - zt) ht + zt Ht-1."""
    run, n = scanned("gru_reset_after", sizes), sizes[3]
    gate = {name: slice(k * n, (k + 1) * n) for k, name in enumerate("rzh")}
    W, R = ({k: m[rows].T for k, rows in gate.items()} for m in (run.params.W_x, run.params.W_h))
    Wb, Rb = ({k: v[rows] for k, rows in gate.items()} for v in (run.params.b_x, run.params.b_h))
    h = run.initial["h"]
    for x_t, y_t in zip(run.x, run.y, strict=True):
        z = sigmoid(x_t @ W["z"] + h @ R["z"] + Wb["z"] + Rb["z"])
        r = sigmoid(x_t @ W["r"] + h @ R["r"] + Wb["r"] + Rb["r"])
        candidate = np.tanh(x_t @ W["h"] + r * (h @ R["h"] + Rb["h"]) + Wb["h"])
        h = (1 - z) * candidate + z * h
        assert_equal(y_t, h)
    assert_equal(run.last["h"], h)
