"""The soft-attention LSTM of arXiv:1511.04119 (Sharma, Kiros, Salakhutdinov), the paper that the post's cell is from.

    python docs/examples/attention.py data out/attention # train.npz, test.npz (scikit-learn's digits on a grid)
    lstmc train docs/examples/attention.py:attention -D N=50 --data out/attention/train.npz --test-data out/attention/test.npz -o out/attention/run
    python docs/examples/attention.py draw out/attention # attention.png: where the net looks

A frame is a grid of 3 x 3 places. The first frame shows a black square. In the next frame there is a digit on the
place after it, then on the next one, and so on around the grid; all other places hold other digits, new ones in each
frame. Only who follows the round can say which digit it is. The net sees in each frame one vector: the mean of the
places, weighted by attention.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from lstmc import (
    Input, Param, Solver, State, accuracy, cell, dims, gaussian, linear, mean, model, reshape, scan, softmax,
    softmax_loss, sum, tanh, xavier,
)
from lstmc.cells import lstm

STEPS, PLACES, PIXELS = 8, 9, 64
SEQUENCES = 50  # a batch
FEATURES, HIDDEN, DIGITS = 64, 128, 10
INK = 16  # of a black pixel
N, P, D, H = dims("N P D H")

inner = lstm(name="lstm", H=HIDDEN)


@cell
def attending(x=Input(N, P, D), h=State(N, H), c=State(N, H), *, W_l=Param(P, H, fill=xavier())):
    """l_t = softmax(W h_{t-1}) over the places (equation 4); x_t = sum_i l_{t,i} X_{t,i} (equation 5); the LSTM."""
    look = softmax(linear(h, W_l))
    seen = sum(x * reshape(look, N, P, 1), axis=1)
    h, states = inner(seen, h=h, c=c)
    return {"h": h, "look": look}, states


@model(
    solver=Solver(
        type="Adam", base_lr=0.002, lr_policy="step", gamma=0.3, stepsize=3000, max_iter=8000, clip_gradients=5,
        weight_decay=1e-4, test_interval=500, snapshot=2000,
    )
)
def attention(
    frames=Input(STEPS, N, PLACES, PIXELS), label=Input(N),
    W_f=Param(FEATURES, PIXELS, fill=xavier()), place=Param(PLACES, FEATURES, fill=gaussian(0, 0.7)),
    W_h=Param(HIDDEN, FEATURES, fill=xavier()), W_c=Param(HIDDEN, FEATURES, fill=xavier()),
    W=Param(DIGITS, HIDDEN, fill=xavier()), b=Param(DIGITS),
):
    features = tanh(linear(frames / INK, W_f) + place)
    overall = mean(mean(features, axis=2), axis=0)
    first = {"h": tanh(linear(overall, W_h)), "c": tanh(linear(overall, W_c))}  # equation 6
    y, last = scan(attending(H=HIDDEN), features, init=first)
    scores = linear(last["h"], W, b)
    return {
        "prob": softmax(scores),
        "look": y["look"],
        "loss": softmax_loss(scores, label),
        "accuracy": accuracy(scores, label),
    }


ROUND = (0, 1, 2, 5, 8, 7, 6, 3)  # the places along the border, in the order in which the digit visits them


def sequences(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """Frames [T, count, 9, 64] and labels [count]."""
    rng = np.random.default_rng(seed)
    chosen, start = rng.integers(0, len(images), count), rng.integers(0, len(ROUND), count)
    frames = np.zeros((STEPS, count, PLACES, PIXELS), np.uint8)
    frames[0, np.arange(count), np.take(ROUND, start)] = INK
    for t in range(1, STEPS):
        frames[t] = images[rng.integers(0, len(images), (count, PLACES))]
        frames[t, np.arange(count), np.take(ROUND, (start + t) % len(ROUND))] = images[chosen]
    return {"frames": frames, "label": labels[chosen].astype(np.uint8)}


def write_data(folder: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.images[order].reshape(-1, PIXELS), digits.target[order]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", **sequences(images[:1437], labels[:1437], 24_000, seed=1))
    np.savez(folder / "test.npz", **sequences(images[1437:], labels[1437:], 1_000, seed=2))


def draw(folder: Path) -> None:
    """Some test sequences: the frames, and below them how much the net looks at each place; red is where it should."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    test = np.load(folder / "test.npz")
    frames = test["frames"][:, :SEQUENCES]
    np.savez(folder / "batch.npz", frames=frames)
    run = ["lstmc", "run", folder / "run" / "attention.prototxt", "--inputs", folder / "batch.npz"]
    subprocess.run([*run, "-o", folder / "looked.npz"], check=True, stdout=subprocess.DEVNULL)
    looked = np.load(folder / "looked.npz")
    shown = 3
    figure, axes = pyplot.subplots(2 * shown, STEPS, figsize=(STEPS * 1.1, shown * 2.4))
    for n in range(shown):
        start = ROUND.index(int(frames[0, n].max(axis=1).argmax()))
        for t in range(STEPS):
            row, column = divmod(ROUND[(start + t) % len(ROUND)], 3)
            for axis, size in ((axes[2 * n, t], 8), (axes[2 * n + 1, t], 1)):
                corner = (column * size - 0.5, row * size - 0.5)
                axis.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="tab:red", linewidth=1.5))
            grid = frames[t, n].reshape(3, 3, 8, 8).transpose(0, 2, 1, 3).reshape(24, 24)
            axes[2 * n, t].imshow(grid, cmap="gray_r")
            axes[2 * n + 1, t].imshow(looked["look"][t, n].reshape(3, 3), cmap="magma", vmin=0, vmax=1)
        said, wanted = looked["prob"][n].argmax(), int(test["label"][n])
        axes[2 * n, 0].set_ylabel(f"a {wanted}", fontsize=8)
        axes[2 * n + 1, 0].set_ylabel(f"said {said}", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(folder / "attention.png", dpi=120)


if __name__ == "__main__":
    {"data": write_data, "draw": draw}[sys.argv[1]](Path(sys.argv[2]))
