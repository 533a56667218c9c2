"""Caffe's layers for recurrent nets: one step of an LSTM after its products, and whole LSTM and RNN layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import Array, Arrays, Draw, Sample, Types, Work
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["LSTM", "RNN", "LSTMUnit"]


def sigmoid(x: Array) -> Array:
    y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return y


def _tanh(x: Array) -> Array:
    """Return tanh; in float32 by the layer's own formula, whose result is off by 1e-7 near zero."""
    return 2 * sigmoid(2 * x) - 1 if x.dtype == np.float32 else np.tanh(x)


@dataclass(frozen=True)
class LSTMUnit(CaffeOp):
    """LSTMUnit (``lstm_unit_layer.cpp``): c_prev [1, N, H], gates [1, N, 4H] in the order i, f, o, g, cont [1, N].

    c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c). Caffe sends no gradient to ``cont``.
    """

    operands = ("c_prev", "gates", "cont")

    def infer(self, c_prev: TensorType, gates: TensorType, cont: TensorType) -> Types:
        fits = c_prev.rank == 3 and c_prev.shape[0] == 1
        if not fits or gates.shape != (*c_prev.shape[:2], 4 * c_prev.shape[2]) or cont.shape != c_prev.shape[:2]:
            needed = "c_prev [1, N, H], gates [1, N, 4H], cont [1, N]"
            raise ShapeError(f"{self.name}: needs {needed}, found {c_prev}, {gates}, {cont}")
        return c_prev, c_prev

    def work(self, operands: Types, results: Types) -> Work:
        gates = 9 * operands[0].size  # five functions, three products, one sum
        return replace(super().work(operands, results), operations=gates)

    def _gates(self, gates: Array, cont: Array) -> tuple[Array, Array, Array, Array]:
        i, f, o, g = np.split(gates, 4, axis=2)
        return sigmoid(i), cont[:, :, None] * sigmoid(f), sigmoid(o), _tanh(g)

    def eval(self, c_prev: Array, gates: Array, cont: Array) -> Arrays:
        i, f, o, g = self._gates(gates, cont)
        c = f * c_prev + i * g
        return c, o * _tanh(c)

    def vjp(self, cts: Arrays, outs: Arrays, c_prev: Array, gates: Array, cont: Array) -> tuple[Array | None, ...]:
        i, f, o, g = self._gates(gates, cont)
        forget = sigmoid(np.split(gates, 4, axis=2)[1])
        tanh_c = _tanh(outs[0])
        dc = cts[0] + cts[1] * o * (1 - tanh_c * tanh_c)
        di, df = dc * g * i * (1 - i), dc * c_prev * f * (1 - forget)
        do, dg = cts[1] * tanh_c * o * (1 - o), dc * i * (1 - g * g)
        return dc * f, np.concatenate((di, df, do, dg), axis=2), (dc * forget * c_prev).sum(axis=2)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        n, h = draw.integer(1, 3), draw.integer(1, 3)
        return Sample(cls(), (TensorType((1, n, h)), TensorType((1, n, 4 * h)), TensorType((1, n))))


_WEIGHT, _BIAS = "recurrent_param.weight_filler", "recurrent_param.bias_filler"


@dataclass(frozen=True)
class _Recurrent(CaffeOp):
    """A layer over all T steps: x [T, N, ...], cont [T, N] (0 where a sequence begins), and its blobs."""

    num_output: int = 0
    settings = {"num_output": "recurrent_param.num_output"}

    def blob_types(self, bottoms: Types) -> Types:
        x = bottoms[0]
        width = x.size // (x.shape[0] * x.shape[1]) if x.rank > 2 else 0
        return tuple(TensorType(shape) for shape in self._blob_shapes(self.num_output, width))

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        plain = len(layer.bottom) == 2 and len(layer.top) == 1  # no x_static, no states (expose_hidden)
        return super().read(layer, bottoms) if plain else None

    def infer(self, x: TensorType, cont: TensorType, *blobs: TensorType) -> Types:
        expected = self.blob_types((x,))
        if x.rank < 3 or cont.shape != x.shape[:2] or blobs != expected:
            shapes = ", ".join(str(list(blob.shape)) for blob in expected)
            actual = ", ".join(map(str, (x, cont, *blobs)))
            raise ShapeError(f"{self.name}: needs x [T, N, ...], cont [T, N], blobs {shapes}, found {actual}")
        return (TensorType((*x.shape[:2], self.num_output), x.dtype),)

    def _blob_shapes(self, h: int, width: int) -> tuple[tuple[int, ...], ...]:
        return (4 * h, width), (4 * h,), (4 * h, h)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        t, n, d, h = (draw.integer(1, 3) for _ in range(4))
        op, bottoms = cls(h), (TensorType((t, n, d)), TensorType((t, n)))
        return Sample(op, (*bottoms, *op.blob_types(bottoms)), -1.0, 1.0)


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """LSTM (``lstm_layer.cpp``): blobs W_xc [4H, D], b_c [4H], W_hc [4H, H], gates in the order i, f, o, g.

    z = W_xc x + b_c + W_hc (cont h);  c = cont sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c).
    With cont = 0 at the first step it starts from zero, whatever the previous forward pass left. With cont = 1 Caffe
    continues from the previous pass (``recurrent_layer.cpp``, Forward_cpu), and this op starts from zero, like the
    first pass of a net.
    """

    operands = ("x", "cont", "w_xc", "b_c", "w_hc")
    blob_fillers = (_WEIGHT, _BIAS, _WEIGHT)

    def work(self, operands: Types, results: Types) -> Work:
        units, inputs = operands[1].size * self.num_output, operands[2].shape[1]
        products, rest = 4 * units * (inputs + self.num_output), (4 + 9) * units  # sums of products; LSTMUnit
        return replace(super().work(operands, results), multiply_adds=products, operations=rest)

    def _forward(self, x: Array, cont: Array, w_xc: Array, b_c: Array, w_hc: Array) -> list[tuple[Array, ...]]:
        """Return for each step the old c and h, and the new z, c and h."""
        projected = x.reshape(*x.shape[:2], -1) @ w_xc.T + b_c
        unit = LSTMUnit()
        c = h = np.zeros((1, x.shape[1], self.num_output), x.dtype)
        steps = []
        for t in range(x.shape[0]):
            z = projected[t : t + 1] + (cont[t][:, None] * h) @ w_hc.T
            after = unit.eval(c, z, cont[t : t + 1])
            steps.append((c, h, z, *after))
            c, h = after
        return steps

    def eval(self, x: Array, cont: Array, w_xc: Array, b_c: Array, w_hc: Array) -> Arrays:
        return (np.concatenate([step[-1] for step in self._forward(x, cont, w_xc, b_c, w_hc)]),)

    def vjp(self, cts: Arrays, outs: Arrays, *args: Array) -> tuple[Array | None, ...]:
        """Backpropagate through time, the last step first."""
        x, cont, w_xc, _, w_hc = args
        rows = x.reshape(*x.shape[:2], -1)
        steps = self._forward(*args)
        dc = dh = np.zeros_like(steps[0][0])
        dx, dcont, dw_hc = np.zeros_like(rows), np.zeros_like(cont), np.zeros_like(w_hc)
        dw_xc, db = np.zeros_like(w_xc), np.zeros_like(args[3])
        for t in reversed(range(x.shape[0])):
            c, h, z, *after = steps[t]
            cont_t = cont[t : t + 1]
            back = LSTMUnit().vjp((dc, cts[0][t : t + 1] + dh), tuple(after), c, z, cont_t)
            dc, dz, dcont_unit = (np.asarray(ct) for ct in back)
            dmasked = dz @ w_hc
            dw_hc += dz[0].T @ (cont_t[0][:, None] * h[0])
            dh, dcont[t] = cont_t[:, :, None] * dmasked, (dcont_unit + (dmasked * h).sum(axis=2))[0]
            dx[t], dw_xc, db = dz[0] @ w_xc, dw_xc + dz[0].T @ rows[t], db + dz[0].sum(axis=0)
        return dx.reshape(x.shape), dcont, dw_xc, db, dw_hc


@dataclass(frozen=True)
class RNN(_Recurrent):
    """RNN (``rnn_layer.cpp``): blobs W_xh [H, D], b_h [H], W_hh [H, H], W_ho [H, H], b_o [H].

    h = tanh(W_xh x + b_h + W_hh (cont h));  o = tanh(W_ho h + b_o). The result is o.
    """

    operands = ("x", "cont", "w_xh", "b_h", "w_hh", "w_ho", "b_o")
    blob_fillers = (_WEIGHT, _BIAS, _WEIGHT, _WEIGHT, _BIAS)

    def work(self, operands: Types, results: Types) -> Work:
        units = operands[1].size * self.num_output  # two products, a sum and tanh; then one product and its tanh
        products = units * (operands[2].shape[1] + 2 * self.num_output)
        return replace(super().work(operands, results), multiply_adds=products, operations=3 * units)

    def _blob_shapes(self, h: int, width: int) -> tuple[tuple[int, ...], ...]:
        return (h, width), (h,), (h, h), (h, h), (h,)

    def _states(self, x: Array, cont: Array, w_xh: Array, b_h: Array, w_hh: Array) -> Array:
        projected = x.reshape(*x.shape[:2], -1) @ w_xh.T + b_h
        h = np.zeros((x.shape[1], self.num_output), x.dtype)
        states = np.zeros_like(projected)
        for t in range(x.shape[0]):
            h = states[t] = np.tanh(projected[t] + (cont[t][:, None] * h) @ w_hh.T)
        return states

    def eval(self, x: Array, cont: Array, w_xh: Array, b_h: Array, w_hh: Array, w_ho: Array, b_o: Array) -> Arrays:
        return (np.tanh(self._states(x, cont, w_xh, b_h, w_hh) @ w_ho.T + b_o),)

    def vjp(self, cts: Arrays, outs: Arrays, *args: Array) -> tuple[Array | None, ...]:
        """Backpropagate through time, the last step first."""
        x, cont, w_xh, _, w_hh, w_ho, _ = args
        rows = x.reshape(*x.shape[:2], -1)
        states = self._states(*args[:5])
        do = cts[0] * (1 - outs[0] * outs[0])
        dz, dw_hh, dcont = np.zeros_like(states), np.zeros_like(w_hh), np.zeros_like(cont)
        dh = np.zeros_like(states[0])
        for t in reversed(range(x.shape[0])):
            before = states[t - 1] if t else np.zeros_like(states[0])
            dz[t] = (do[t] @ w_ho + dh) * (1 - states[t] * states[t])
            dmasked = dz[t] @ w_hh
            dw_hh += dz[t].T @ (cont[t][:, None] * before)
            dh, dcont[t] = cont[t][:, None] * dmasked, (dmasked * before).sum(axis=1)
        flat = dz.reshape(-1, self.num_output)
        dw_ho = do.reshape(flat.shape).T @ states.reshape(flat.shape)
        dw_xh = flat.T @ rows.reshape(len(flat), -1)
        return (dz @ w_xh).reshape(x.shape), dcont, dw_xh, flat.sum(axis=0), dw_hh, dw_ho, do.sum(axis=(0, 1))
