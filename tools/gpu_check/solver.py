"""A few steps of Caffe's SGD solver, and the same steps by the interpreter.

The loss is Caffe's EuclideanLoss of y [T, ...] and a fixed target, the sum of squared differences over 2 T, so the
gradient at y is (y - target) / T. y is flattened by a Reshape: after Caffe's own LSTM a Flatten loses the gradient, as
it lets the blob's diff be another array in Backward. A step is as in ``sgd_solver.cpp``: with the gradient g of
parameter w and its own ``lr_mult`` and ``decay_mult``, v = momentum v + rate lr_mult (g + decay decay_mult w), then
w = w - v. The rate is such that no gradient moves an element by more than LARGEST_MOVE times its lr_mult at first:
steps that are too long for a model let the rounding of float32 grow without bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from lstmc.interp import backward, forward, named_rng
from lstmc.ops import Array
from lstmc.verification.differential import random_inputs
from lstmc.weights import parameters, unpack_weights
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.worker import TRAINING
from tools.gpu_check.cases import Case

STEPS = 5
LARGEST_MOVE, MOMENTUM, DECAY = 0.1, 0.9, 0.01

_SOLVER = 'base_lr: {rate} momentum: {momentum} weight_decay: {decay} lr_policy: "fixed" type: "SGD" display: 0\n'
_LOSS = """
layer {{ name: "target" type: "Input" top: "target" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "flat" type: "Reshape" bottom: "{y}" top: "flat" reshape_param {{ shape {{ dim: 0 dim: -1 }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "flat" bottom: "target" top: "loss" }}
"""


def target_of(case: Case) -> Array:
    """What y is to become: normal numbers of its shape, float32."""
    (output,) = case.compiled.model.outputs
    shape = case.compiled.model.type(output.ref).shape
    return named_rng(0, "target").normal(size=shape).astype(np.float32)


def rate_of(case: Case) -> float:
    """The learning rate: LARGEST_MOVE, or less where a gradient is larger than 1, as a number of float32."""
    found = gradients_of(case, case.weights)
    largest = max(float(np.max(np.abs(gradient), initial=0.0)) for gradient in found.values())
    return float(np.float32(LARGEST_MOVE / max(1.0, largest)))


def gradients_of(case: Case, weights: Mapping[str, Array], dtype: DTypeLike = np.float64) -> dict[str, Array]:
    """The gradients of the loss."""
    target = target_of(case).astype(dtype)
    run = forward(case.compiled.model, random_inputs(case.compiled, 0), weights, dtype)
    return backward(run, {"y": (run.outputs["y"] - target) / len(target)}).params


def interpreter_steps(case: Case, rate: float, dtype: DTypeLike = np.float64) -> dict[str, Array]:
    """The parameters after STEPS steps at that rate, by the model's own names."""
    weights: dict[str, Array] = {name: value.astype(dtype) for name, value in case.weights.items()}
    speed = {name: np.zeros_like(value) for name, value in weights.items()}
    declared = parameters(case.compiled.model)
    for _ in range(STEPS):
        gradients = gradients_of(case, weights, dtype)
        for name, param in declared.items():
            gradient = gradients[name] + DECAY * param.decay_mult * weights[name]
            speed[name] = MOMENTUM * speed[name] + rate * param.lr_mult * gradient
            weights[name] = weights[name] - speed[name]
    return weights


def caffe_steps(case: Case, rate: float, executor: CaffeExecutor) -> dict[str, Array]:
    """The parameters after STEPS steps of Caffe's solver at that rate, those that the net has."""
    target = target_of(case)
    target = target.reshape(len(target), -1)  # EuclideanLoss aborts on more than four axes
    (y,) = case.outputs
    fed = case.manifest.fed(random_inputs(case.compiled, 0))
    dims = " ".join(f"dim: {size}" for size in target.shape)
    packed = case.manifest.weights
    blobs = forward(packed, params=case.weights, dtype=np.float32).outputs
    args = {
        "mode": executor.mode,
        "net": case.prototxt + _LOSS.format(dims=dims, y=y),
        "solver": _SOLVER.format(rate=rate, momentum=MOMENTUM, decay=DECAY),
        "test": False,
        "carried": [],
        "scores": [],
        "restored": False,
        "ranks": None,
    }
    call = executor.runner.call
    call(TRAINING, "start", args, {f"param:{name}": array for name, array in blobs.items()})
    for _ in range(STEPS):
        call(TRAINING, "step", {"seed": None}, {**fed, "target": target})
    trained = call(TRAINING, "blobs").arrays
    call(TRAINING, "end")
    return unpack_weights(packed, {name: trained[f"param:{name}"] for name in blobs})
