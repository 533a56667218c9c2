"""Layers for recurrent nets: one step of an LSTM after its products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import Array, Arrays, Draw, Sample, Types
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return y


@dataclass(frozen=True)
class LSTMUnit(CaffeOp):
    """LSTMUnit (``lstm_unit_layer.cpp``): c_prev [1, N, H], gates [1, N, 4H] in the order i, f, o, g, cont [1, N].

    c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c). Caffe sends no gradient to ``cont``.
    """

    name = "caffe.LSTMUnit"
    layer_type = "LSTMUnit"
    operands = ("c_prev", "gates", "cont")

    def infer(self, c_prev: TensorType, gates: TensorType, cont: TensorType) -> Types:
        fits = c_prev.rank == 3 and c_prev.shape[0] == 1
        if not fits or gates.shape != (*c_prev.shape[:2], 4 * c_prev.shape[2]) or cont.shape != c_prev.shape[:2]:
            raise ShapeError(
                f"{self.name}: needs c_prev [1, N, H], gates [1, N, 4H], cont [1, N], found {c_prev}, {gates}, {cont}"
            )
        return c_prev, c_prev

    def _gates(self, gates: Array, cont: Array) -> tuple[Array, Array, Array, Array]:
        i, f, o, g = np.split(gates, 4, axis=2)
        return sigmoid(i), cont[:, :, None] * sigmoid(f), sigmoid(o), np.tanh(g)

    def eval(self, c_prev: Array, gates: Array, cont: Array) -> Arrays:
        i, f, o, g = self._gates(gates, cont)
        c = f * c_prev + i * g
        return c, o * np.tanh(c)

    def vjp(self, cts: Arrays, outs: Arrays, c_prev: Array, gates: Array, cont: Array) -> tuple[Array | None, ...]:
        i, f, o, g = self._gates(gates, cont)
        kept = sigmoid(np.split(gates, 4, axis=2)[1])
        tanh_c = np.tanh(outs[0])
        dc = cts[0] + cts[1] * o * (1 - tanh_c * tanh_c)
        slopes = (
            dc * g * i * (1 - i),
            dc * c_prev * f * (1 - kept),
            cts[1] * tanh_c * o * (1 - o),
            dc * i * (1 - g * g),
        )
        return dc * f, np.concatenate(slopes, axis=2), (dc * kept * c_prev).sum(axis=2)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        n, h = draw.integer(1, 3), draw.integer(1, 3)
        return Sample(cls(), (TensorType((1, n, h)), TensorType((1, n, 4 * h)), TensorType((1, n))))
