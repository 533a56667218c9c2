"""Handwritten digits, read row by row: an image of 8 x 8 is a sequence of 8 rows of 8 pixels.

    python docs/examples/digits.py out/digits            # train.npz, test.npz (scikit-learn's digits)
    lstmc train docs/examples/digits.py:lstm_digits -D N=60 --data out/digits/train.npz --test-data out/digits/test.npz -o out/digits/lstm

Four models of the same task: ``lstm_digits``, ``gru_digits``, ``peephole_digits``, ``bidirectional_digits``; and
``digits``, whose cell and size are chosen by ``--set cell=mgu -D H=32``, or swept over.
"""

import sys
from pathlib import Path

import numpy as np

from lstmc import Input, Param, Solver, accuracy, concat, dims, linear, model, scan, softmax, softmax_loss, xavier
from lstmc.cells import gru, lstm, lstm_peephole

ROWS, PIXELS = 8, 8
HIDDEN, DIGITS = 64, 10
N, H = dims("N H")
SOLVER = Solver(
    type="Adam", base_lr=0.01, lr_policy="step", gamma=0.3, stepsize=300, max_iter=600, clip_gradients=5,
    weight_decay=1e-4, test_interval=100, snapshot=200,
)


def classified(last, label, W, b):
    """What all four models return of their last state."""
    scores = linear(last, W, b)
    return {
        "prob": softmax(scores),
        "loss": softmax_loss(scores, label),
        "accuracy": accuracy(scores, label),
    }


@model(solver=SOLVER)
def lstm_digits(
    X=Input(ROWS, N, PIXELS), label=Input(N),
    W=Param(DIGITS, HIDDEN, fill=xavier()), b=Param(DIGITS),
):
    _, last = scan(lstm(H=HIDDEN), X)
    return classified(last["h"], label, W, b)


@model(solver=SOLVER)
def gru_digits(
    X=Input(ROWS, N, PIXELS), label=Input(N),
    W=Param(DIGITS, HIDDEN, fill=xavier()), b=Param(DIGITS),
):
    _, last = scan(gru(H=HIDDEN), X)
    return classified(last["h"], label, W, b)


@model(solver=SOLVER)
def peephole_digits(
    X=Input(ROWS, N, PIXELS), label=Input(N),
    W=Param(DIGITS, HIDDEN, fill=xavier()), b=Param(DIGITS),
):
    _, last = scan(lstm_peephole(H=HIDDEN), X)
    return classified(last["h"], label, W, b)


@model(solver=SOLVER)
def bidirectional_digits(
    X=Input(ROWS, N, PIXELS), label=Input(N),
    W=Param(DIGITS, 2 * HIDDEN, fill=xavier()), b=Param(DIGITS),
):
    _, down = scan(lstm(H=HIDDEN, name="down"), X)
    _, up = scan(lstm(H=HIDDEN, name="up"), X, reverse=True)
    return classified(concat(down["h"], up["h"]), label, W, b)


@model(solver=SOLVER)
def digits(
    X=Input(ROWS, N, PIXELS), label=Input(N),
    W=Param(DIGITS, H, fill=xavier()), b=Param(DIGITS),
    cell=lstm,
):
    _, last = scan(cell(H=H), X)
    return classified(last["h"], label, W, b)


def write_data(folder: Path) -> None:
    """1437 digits to train on and 360 to test, drawn once; pixels from 0 to 1, time first."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    rows = (digits.images[order] / 16).transpose(1, 0, 2).astype(np.float32)
    labels = digits.target[order].astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    cut = 1437
    np.savez(folder / "train.npz", X=rows[:, :cut], label=labels[:cut])
    np.savez(folder / "test.npz", X=rows[:, cut:], label=labels[cut:])


if __name__ == "__main__":
    write_data(Path(sys.argv[1]))
