"""The peephole LSTM is that of Gers et al. 2002: equations (7) to (11) of Graves, arXiv:1308.0850."""

import numpy as np
import pytest

from tests.cells.scanned import SIZES, assert_equal, scanned, sigmoid


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lstm_peephole_is_that_of_arxiv_1308_0850(sizes: tuple[int, int, int, int]) -> None:
    run, units = scanned("lstm_peephole", sizes), sizes[3]
    gate = {name: slice(k * units, (k + 1) * units) for k, name in enumerate("ifog")}
    p = {name: np.diag(getattr(run.params, f"p_{name}")) for name in "ifo"}
    h, c = run.initial["h"], run.initial["c"]
    for x_t, y_t in zip(run.x, run.y, strict=True):
        z = {k: x_t @ run.params.W_x[rows].T + h @ run.params.W_h[rows].T + run.params.b[rows] for k, rows in gate.items()}
        i = sigmoid(z["i"] + c @ p["i"])  # (7)
        f = sigmoid(z["f"] + c @ p["f"])  # (8)
        c = f * c + i * np.tanh(z["g"])  # (9)
        o = sigmoid(z["o"] + c @ p["o"])  # (10), which sees the new c
        h = o * np.tanh(c)  # (11)
        assert_equal(y_t, h)
    assert_equal(run.last["h"], h)
    assert_equal(run.last["c"], c)
