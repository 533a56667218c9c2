"""``python -m tests.on_demand.fuzz.imported_streams --models 100``: random nets of PyTorch, streamed from their files.

A net is drawn from blocks over steps [N, T, C], or over frames and bands [N, C, T, F]. Its file, .pt2 or ONNX, becomes
one step in C, which is fed frame by frame: its outputs are the net's over all steps, as many steps later as the import
says. ``lstmc inspect`` must not say that the file loses a state.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, glu, max_pool1d, pad

import lstmc
from lstmc.errors import LstmcError
from lstmc.importers import ImportedModel
from lstmc.ops import Array
from tests.importers.dual_path_nets import over_bands, over_time
from tests.on_demand.fuzz.trial import generic

SHORT, LONG = 9, 30  # steps of the example, and of the stream
CLOSE = 3e-5
Draw = random.Random
Block = tuple[Callable[..., Tensor], Mapping[str, nn.Module], int]  # of x and the layers; and the number of channels


class Net(nn.Module):
    """Blocks one after the other; ``title`` names them."""

    def __init__(self, blocks: list[tuple[str, Block]]) -> None:
        super().__init__()
        self.functions = [function for _, (function, _, _) in blocks]
        self.layers = nn.ModuleList(nn.ModuleDict(layers) for _, (_, layers, _) in blocks)
        self.title = ", ".join(name for name, _ in blocks)

    def forward(self, x: Tensor) -> Tensor:
        for function, layers in zip(self.functions, self.layers, strict=True):
            x = function(x, *layers.values())
        return x


def running_mean(x: Tensor, axis: int) -> Tensor:
    return x - x.cumsum(axis) / torch.ones_like(x).cumsum(axis)


def turn(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def over_steps(draw: Draw, c: int) -> dict[str, Callable[[], Block]]:
    """Blocks of x [N, T, C]."""
    o, k, d = draw.choice([2, 3, 4]), draw.choice([2, 3, 4]), draw.choice([1, 2, 3])
    before, kind = (k - 1) * d, draw.choice([nn.GRU, nn.LSTM, nn.RNN])
    return {
        "causal": lambda: (lambda x, m: turn(m(pad(turn(x), (before, 0)))), {"m": nn.Conv1d(c, o, k, dilation=d)}, o),
        "centered": lambda: (lambda x, m: turn(m(turn(x))), {"m": nn.Conv1d(c, o, 3, padding=1)}, o),
        "cut behind": lambda: (
            lambda x, m: turn(m(turn(x))[..., :-before]), {"m": nn.Conv1d(c, o, k, dilation=d, padding=before)}, o
        ),
        "ahead": lambda: (lambda x, m: turn(m(pad(turn(x), (1, 2)))), {"m": nn.Conv1d(c, o, 4)}, o),
        "recurrent": lambda: (lambda x, m: m(x)[0], {"m": kind(c, o, draw.choice([1, 2]), batch_first=True)}, o),
        "beside": lambda: (lambda x, m: torch.cat([x, m(x)[0]], -1), {"m": kind(c, o, batch_first=True)}, c + o),
        "time first": lambda: (lambda x, m: m(x.transpose(0, 1))[0].transpose(0, 1), {"m": kind(c, o)}, o),
        "norm": lambda: (lambda x, m: m(x), {"m": nn.LayerNorm(c)}, c),
        "gated": lambda: (lambda x, m: glu(m(x), -1), {"m": nn.Linear(c, 2 * o)}, o),
        "function": lambda: (lambda x, m: m(x), {"m": draw.choice([nn.SiLU(), nn.GELU(), nn.PReLU()])}, c),
        "sum": lambda: (lambda x: torch.tanh(x.cumsum(1) * 0.1), {}, c),
        "mean": lambda: (lambda x: running_mean(x, 1), {}, c),
        "maximum so far": lambda: (lambda x: torch.cummax(x, 1)[0], {}, c),
        "shift": lambda: (lambda x: torch.cat([x, pad(x, (0, 0, d, 0))[:, :-d]], -1), {}, 2 * c),
        "difference": lambda: (lambda x: x - torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1), {}, c),
        "first": lambda: (lambda x: x - x[:, :1], {}, c),
        "chosen": lambda: (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), {}, c),
        "maximum": lambda: (lambda x: turn(max_pool1d(pad(turn(x), (k - 1, 0), value=-100.0), k, 1)), {}, c),
        "average": lambda: (lambda x: turn(avg_pool1d(pad(turn(x), (k - 1, 0)), k, 1)), {}, c),
        "windows": lambda: (
            lambda x, m: m(pad(x, (0, 0, k - 1, 0)).unfold(1, k, 1).flatten(2)), {"m": nn.Linear(c * k, o)}, o
        ),
    }  # fmt: skip


def over_frames(draw: Draw, c: int) -> dict[str, Callable[[], Block]]:
    """Blocks of x [N, C, T, F]."""
    o, k, d = draw.choice([2, 3]), draw.choice([1, 2, 3]), draw.choice([1, 2])
    before, kind, both = (k - 1) * d, draw.choice([nn.GRU, nn.LSTM]), draw.random() < 0.7
    return {
        "causal": lambda: (
            lambda x, m: m(pad(x, (0, 0, before, 0))),
            {"m": nn.Conv2d(c, o, (k, 3), padding=(0, 1), dilation=(d, 1))}, o,
        ),
        "strided": lambda: (lambda x, m: m(x), {"m": nn.Conv2d(c, o, (1, 3), stride=(1, 2), padding=(0, 1))}, o),
        "ahead": lambda: (lambda x, m: m(x), {"m": nn.Conv2d(c, o, (3, 1), padding=(1, 0))}, o),
        "bands": lambda: (
            over_bands, {"m": kind(c, o, batch_first=True, bidirectional=both)}, o * (1 + both)
        ),
        "time": lambda: (over_time, {"m": kind(c, o, batch_first=True)}, o),
        "around": lambda: (lambda x, m, p: x + p(over_time(x, m)), {"m": nn.GRU(c, o, batch_first=True),
                                                                     "p": nn.Conv2d(o, c, 1)}, c),
        "attention": lambda: (
            lambda x, m: x * torch.sigmoid(m((x * x).mean(-1).transpose(1, 2))[0]).transpose(1, 2)[..., None],
            {"m": nn.GRU(c, c, batch_first=True)}, c,
        ),
        "norm": lambda: (lambda x, m: m(x), {"m": nn.BatchNorm2d(c)}, c),
        "function": lambda: (lambda x, m: m(x), {"m": draw.choice([nn.Tanh(), nn.ELU(), nn.PReLU(c)])}, c),
        "sum": lambda: (lambda x: torch.tanh(x.cumsum(2) * 0.1), {}, c),
        "mean": lambda: (lambda x: running_mean(x, 2), {}, c),
        "shift": lambda: (lambda x: torch.cat([x, pad(x, (0, 0, d, 0))[:, :, : x.shape[2]]], 1), {}, 2 * c),
    }  # fmt: skip


def drawn(seed: int) -> tuple[Net, tuple[int, ...], int]:
    """A net, the shape of its example, and the axis of time."""
    draw, blocks = random.Random(seed), list[tuple[str, Block]]()
    torch.manual_seed(seed)
    frames = seed % 2 == 1
    c = first = draw.choice([2, 3])
    for _ in range(draw.randint(1, 5)):
        name, make = draw.choice([*(over_frames if frames else over_steps)(draw, c).items()])
        blocks.append((name, make()))
        c = blocks[-1][1][2]
        if c > 10:
            break
    return Net(blocks).eval(), (1, first, SHORT, 6) if frames else (1, SHORT, first), 2 if frames else 1


def outcome(seed: int, kind: str) -> tuple[str, str]:
    """What became of a net, and what is wrong."""
    net, shape, axis = drawn(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"net.{kind}"
        try:
            if kind == "pt2":
                torch.export.save(torch.export.export(net, (torch.randn(shape),)), path)
            else:
                torch.onnx.export(
                    net, (torch.randn(shape),), path, input_names=["x"], dynamic_axes={"x": {axis: "T"}}, dynamo=False,
                    opset_version=17,
                )  # fmt: skip
        except Exception:
            return "PyTorch does not export it", ""
        try:
            if any(past.lost for past in lstmc.inspect(path).pasts):
                return "inspected", "a whole net is accused of a lost state"
            model = lstmc.import_file(path, step=True, time={"x": axis} if kind == "pt2" else {})
            done = lstmc.convert(model, Path(folder) / "out", backend="c", on=["interpreter"])
            return "streamed", compared(net, model, done.net, shape, axis)
        except LstmcError as error:
            return f"refused: {generic(error.message.splitlines()[0])}", ""
        except Exception:
            return "traceback", traceback.format_exc()


def compared(net: Net, model: ImportedModel, made: lstmc.Net, shape: tuple[int, ...], axis: int) -> str:
    """What is wrong in a stream of frames of the source's order of axes."""
    x = torch.randn(*shape[:axis], LONG, *shape[axis + 1 :])
    with torch.no_grad():
        wanted = net(x).numpy()
    into, out_of = (np.array(model.net.axes.get(own, range(x.ndim))) for own in ("x", next(iter(model.net.outputs))))
    late = max(model.net.delays.values(), default=0)
    frames = list[Array]()
    with made.stream() as step:
        for frame in x.split(1, axis):
            outputs = step(x=frame.numpy().transpose(into))
            frames.append(next(iter(outputs.values())).transpose(np.argsort(out_of)))
    found, wanted = np.concatenate(frames[late:], axis), wanted.take(range(LONG - late), axis)
    gap = float(np.abs(found - wanted).max() / max(1e-3, np.abs(wanted).max()))
    return "" if gap <= CLOSE else f"off by {gap:.2g} of the largest output"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first model")
    given = parser.parse_args()
    outcomes, failed = Counter[str](), False
    for seed, kind in itertools.product(range(given.first, given.first + given.models), ("pt2", "onnx")):
        became, wrong = outcome(seed, kind)
        outcomes[f"{kind} {became}"] += 1
        if wrong:
            failed = True
            print(f"seed {seed}, {kind}, {drawn(seed)[0].title}: {wrong}", flush=True)
    print(*(f"{count} {became}" for became, count in outcomes.most_common()), sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
