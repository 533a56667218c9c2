"""Random models of frames over time: streamed, or at another length, they are what they were read as, or refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lstmc.importers import RefusedError
from lstmc.importers.checks import _in_source, evaluate, to_source
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.importer import ImportedModel
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.recur import Cell
from lstmc.importers.ir.values import ShapeProblem, Weight
from lstmc.importers.sources import SourceNet
from lstmc.interp import forward
from tests.importers.imported import assert_close, written_graph

LAYERS = (
    *(
        "front",
        "front",
        "both",
        "both",
        "cut behind",
        "no padding",
        "ahead",
        "each channel",
        "pool",
        "picture",
        "image",
    ),
    *(
        "relu",
        "sigmoid",
        "affine",
        "norm",
        "add",
        "add",
        "join",
        "linear",
        "layer norm",
        "softmax",
        "gru",
        "gru",
        "later",
    ),
    *("difference", "scale", "gate", "mask", "padded", "padded", "product", "square"),
)


class Drawn:
    """A random model of X [N, time, 3]; all sizes but ``time`` follow from the seed."""

    def __init__(self, seed: int, time: int) -> None:
        self.rng, self.t = np.random.default_rng(seed), Layers(NetBuilder("net", "a test"))
        self.count = 0
        self.t.at("v", "a layer")
        x = self.t.builder.input("X", (int(self.rng.integers(1, 3)), time, 3))
        self.values = [self.t.transpose(x, (0, 2, 1))]  # [N, C, T]
        self.last: list[str] = []
        for _ in range(self.rng.integers(1, 6)):
            self.t.at("v", f"layer {len(self.values)}")
            self.values.append(self.layer(str(self.rng.choice(LAYERS)), self.values[-1]))
        end = self.rng.integers(8)
        y = self.values[-1]
        if end == 0:
            y = self.t.select(y, 2, -1)
        elif end == 1:
            y = self.t.reduce("mean", y, [2], keep=False)
        elif end == 2 and self.last:
            y = self.last[-1]
        elif end == 3:
            y = self.t.cut(y, 2, self.t.size(y, 2) - 1, self.t.size(y, 2))
        self.t.builder.outputs["Y"] = y if end != 4 else self.t.transpose(y, (2, 0, 1))
        if end == 5:
            self.t.builder.outputs["Z"] = self.values[int(self.rng.integers(len(self.values)))]

    def net(self) -> Net:
        return self.t.builder.finish(every_input=True)

    def weight(self, *shape: int) -> Weight:
        self.count += 1
        array = self.rng.normal(size=shape).astype(np.float32)
        return Weight(shape, (f"w{self.count}",), f"w{self.count}", lambda: array)

    def conv(self, x: str, before: str, out: int | None = None, group: int = 1) -> str:
        size, spread = (int(n) for n in self.rng.integers(1, 4, 2))
        reach, channels = (size - 1) * spread, self.t.size(x, 1)
        pads = {"front": (reach, 0), "both": (reach // 2, reach - reach // 2), "ahead": (0, reach)}.get(before, (0, 0))
        pads = (reach, reach) if before == "cut behind" else pads
        w = self.weight(out or channels, channels // group, size)
        y = self.t.conv(x, w, self.weight(out or channels), (1,), [pads], (spread,), group)
        return self.t.cut(y, 2, 0, self.t.size(y, 2) - reach) if before == "cut behind" else y

    def frames(self, x: str) -> str:
        return self.t.transpose(x, (0, 2, 1))

    def layer(self, kind: str, x: str) -> str:
        t, rng = self.t, self.rng
        n, channels, time = t.shape(x)
        if kind in ("front", "both", "cut behind", "no padding", "ahead"):
            return self.conv(x, kind, int(rng.integers(1, 4)))
        if kind == "each channel":
            return self.conv(x, "front", group=channels)
        if kind == "pool":
            return t.pool(str(rng.choice(["max", "mean"])), x, (int(rng.integers(1, 4)),), (1,), [(0, 0)])  # type: ignore[arg-type]
        if kind in ("picture", "image"):  # the channels are the other axis of an image
            turned = kind == "image"
            image = t.unsqueeze(x if turned else self.frames(x), [1])
            size, other = int(rng.integers(1, 4)), int(rng.integers(1, channels + 1))
            kernel, pads = (
                [(size, other), (other, size)][turned],
                [((size - 1, 0), (0, 0)), ((0, 0), (size - 1, 0))][turned],
            )
            y = t.conv(image, self.weight(2, 1, *kernel), self.weight(2), (1, 1), pads, (1, 1), 1)
            y = y if turned else t.transpose(y, (0, 1, 3, 2))  # [N, 2, C, T]
            return t.reshape(y, (n, 2 * (channels - other + 1), time))
        if kind in ("relu", "sigmoid"):
            return t.apply(kind, x)
        if kind == "affine":
            return t.affine(x, 2.0, float(rng.integers(2)))
        if kind == "norm":
            mean, scale = self.weight(channels), self.weight(channels)
            variance = scale.derived(scale.shape, f"{scale.recipe} squared", lambda: scale.make() ** 2 + 0.1)
            return t.batch_norm(x, (scale, None, mean, variance), 0.1)
        if kind in ("add", "join", "gate"):
            alike = [y for y in self.values if t.shape(y)[2] == time and (kind == "join" or t.shape(y) == t.shape(x))]
            other = alike[int(rng.integers(len(alike)))]
            if kind == "join":
                return t.concat([other, x], 1)
            return t.binary("add" if kind == "add" else "mul", other, x)
        if kind == "linear":
            return self.frames(t.linear(self.frames(x), self.weight(2, channels), self.weight(2)))
        if kind == "layer norm":
            return self.frames(t.layer_norm(self.frames(x), 0.1, self.weight(channels), None))
        if kind == "softmax":
            return t.softmax(x, 1)
        if kind == "gru":
            weights = [self.weight(6, channels), self.weight(6, 2), self.weight(6), self.weight(6)]
            y, last = t.recur("torch", Cell("gru", reset_after=True), t.transpose(x, (2, 0, 1)), weights, {}, "gru")
            self.last.append(last)
            return t.transpose(y, (1, 2, 0))
        if kind == "later":
            return t.cut(x, 2, 1, time)
        if kind == "padded":
            return t.pad(x, 2, int(rng.integers(1, 4)), 0)
        if kind == "product":  # of each step
            return t.unsqueeze(t.product("nct", "ndt", "nt", t.apply("tanh", x), x), [1])
        if kind == "square":  # of each step with every one
            return t.reduce("mean", t.product("nct", "ncs", "nts", x, x), [1], keep=True)
        if kind == "difference":
            return t.binary("sub", t.cut(x, 2, 1, time), t.cut(x, 2, 0, time - 1))
        if kind == "mask":
            mask = t.compare("gt", t.cut(x, 1, 0, 1), np.asarray(0.0))
            return t.binary("mul", x, t.expand(mask, (n, channels, time)))
        return t.binary("mul", x, self.weight(channels, 1))


def outcome(seed: int, step: bool) -> str:
    """Return "refused", "fixed" for a model of one length alone, "right" at two lengths, or "late" so; "" for none."""
    try:
        short, long = (Drawn(seed, time).net() for time in (9, 12))
    except ShapeProblem:  # a window of more than all steps
        return ""
    try:
        model = ImportedModel.of_source(SourceNet(short, "a test"), step)
    except RefusedError:
        return "refused"
    compare(model, short)
    if not model.net.time:
        return "fixed"
    compare(model, long)
    return "late" if model.net.delays else "right"


def compare(model: ImportedModel, source: Net) -> None:
    """Compare the written model with the source, at the source's length."""
    given = {"X": np.random.default_rng(0).normal(size=source.inputs["X"])}
    net, sizes = model.net, {size.name: source.inputs["X"][1] for size in model.net.time}
    graph = written_graph(net, sizes)
    inputs = {name: np.transpose(array, net.axes.get(name, range(3))) for name, array in given.items()}
    assert {name: to_source(net, name, array).shape for name, array in inputs.items()} == {"X": source.inputs["X"]}
    outputs = forward(graph, inputs, {name: weight.array() for name, weight in net.params.items()}).outputs
    pairs = _in_source(net, evaluate(source, given), outputs)
    assert_close({name: pair[1] for name, pair in pairs.items()}, {name: pair[0] for name, pair in pairs.items()}, 1e-6)


@pytest.mark.parametrize("step", [False, True])
def test_a_random_model(step: bool) -> None:
    outcomes = Counter(outcome(seed, step) for seed in range(120))
    least = {"late": 18, "right": 20} if step else {"fixed": 10, "right": 19}  # what is read may become more
    assert all(outcomes[name] >= count for name, count in least.items()), outcomes
