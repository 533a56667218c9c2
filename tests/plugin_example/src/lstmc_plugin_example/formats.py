"""A format of trained nets: JSON with the layers of a net, one after the other."""

import json

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.recur import Cell
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.importers.sources import SourceNet

START = b'{"example layers": ['


class JsonLayers:
    """Files such as ``{"example layers": [{"kind": "rnn", "W": [...], "R": [...], "b": [...]}]}``."""

    summary = "the layers of the example (.json)"
    options = ()

    def knows(self, path):
        with path.open("rb") as file:
            return file.read(len(START)) == START

    def read(self, path, options):
        stored = json.loads(path.read_text())["example layers"]
        layers = Layers(NetBuilder("net", path.name))
        y = layers.builder.input("X", ("T", "N", len(stored[0]["W"][0])))
        refusals = []
        for number, layer in enumerate(stored):
            label, weights = f"layer {number}", weights_of(layer, number)
            layers.at(f"y_{number}", label)
            if layer["kind"] == "dense":
                y = layers.apply("tanh", layers.linear(y, weights["W"], weights["b"]))
            elif layer["kind"] == "rnn":
                arrays = (weights["W"], weights["R"], weights["b"], None)
                y, _ = layers.recur("torch", Cell("rnn"), y, arrays, {}, f"rnn_{number}")
            else:
                refusals.append(Refusal(label, "kind", layer["kind"], "there are dense and rnn", "use one of them"))
        if refusals:
            raise RefusedError(path.name, refusals)
        layers.builder.output("Y", y)
        return SourceNet(layers.builder.finish(), "the example's layers")


def weights_of(layer, number):
    """Return the arrays of a layer as weights, by name; each is made when it is written."""
    names = [name for name in layer if name != "kind"]
    return {name: weight(layer[name], f"{number}/{name}") for name in names}


def weight(numbers, name):
    array = np.asarray(numbers, np.float32)
    return Weight(array.shape, (name,), name, lambda: array)
