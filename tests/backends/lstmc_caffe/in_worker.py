"""Requests of tests to a worker: parameters of a loaded net, Caffe's schema and its types of layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lstmc.ops import Array
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.runtime.runner import Net, Runner

REQUESTS = Path(__file__).with_name("worker_requests.py")
FORCED = "force_backward: true\n"  # has Caffe compute gradients of everything


def schema(caffe: Runner) -> bytes:
    """The installed Caffe's caffe.proto, as a serialized FileDescriptorProto."""
    return caffe.call(REQUESTS, "schema").arrays["file"].tobytes()


def layer_types(caffe: Runner) -> set[str]:
    return {*caffe.call(REQUESTS, "layer_types").value}


def set_params(caffe: Runner, net: Net, values: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Set parameters of a net that this runner has loaded; others keep their values. Returns those of all."""
    layer_types(caffe)  # the request is known from now on
    arrays = {"params": {name: np.asarray(array, np.float32) for name, array in values.items()}}
    _, groups = caffe._ask(None, f"set parameters of {net.title}", {"request": "params", "net": net._number}, arrays)
    return groups["params"]


def sharers(text: str, parameter: str) -> list[str]:
    """The layers of a net's text that have a parameter."""
    layers = net_from_text(text).layer
    return [layer.name for layer in layers if parameter in [spec.name for spec in layer.param]]
