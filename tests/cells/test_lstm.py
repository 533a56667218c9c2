"""The LSTM is that of Hochreiter and Schmidhuber with a forget gate, gates in Caffe's order."""

import numpy as np
import pytest

from tests.cells.scanned import SIZES, assert_equal, scanned, sigmoid


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lstm_is_that_of_arxiv_1511_04119(sizes: tuple[int, int, int, int]) -> None:
    run, units = scanned("lstm", sizes), sizes[3]
    gate = {name: slice(k * units, (k + 1) * units) for k, name in enumerate("ifog")}
    h, c = run.initial["h"], run.initial["c"]
    for x_t, y_t in zip(run.x, run.y, strict=True):
        z = {k: x_t @ run.params.W_x[rows].T + h @ run.params.W_h[rows].T + run.params.b[rows] for k, rows in gate.items()}
        i, f, o = sigmoid(z["i"]), sigmoid(z["f"]), sigmoid(z["o"])
        c = f * c + i * np.tanh(z["g"])
        h = o * np.tanh(c)
        assert_equal(y_t, h)
    assert_equal(run.last["h"], h)
    assert_equal(run.last["c"], c)
