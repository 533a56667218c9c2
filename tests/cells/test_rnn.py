"""The simple recurrent network is Elman's."""

import numpy as np
import pytest

from tests.cells.scanned import SIZES, assert_equal, scanned


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rnn_is_elman_s(sizes: tuple[int, int, int, int]) -> None:
    run = scanned("rnn", sizes)
    W_x, b, W_h = run.params.W_x, run.params.b, run.params.W_h
    h = run.initial["h"]
    for x_t, y_t in zip(run.x, run.y, strict=True):
        h = np.tanh(np.einsum("nd,hd->nh", x_t, W_x) + np.einsum("nk,hk->nh", h, W_h) + b)
        assert_equal(y_t, h)
    assert_equal(run.last["h"], h)
