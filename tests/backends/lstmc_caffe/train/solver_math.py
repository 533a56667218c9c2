"""The updates of Caffe's six solvers in NumPy, from the papers, for the net ``line`` of ``training_nets.py``.

SGD with momentum and Nesterov's (Sutskever et al. 2013), AdaGrad (Duchi et al. 2011), RMSProp (Tieleman and Hinton
2012), AdaDelta (Zeiler 2012), Adam (Kingma and Ba 2015). Caffe clips all gradients by their joint norm, then adds the
weight decay, then scales by the parameter's lr_mult.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lstmc.backend.compiled import Batches
from lstmc.runs.solver import Solver

Doubles = dict[str, NDArray[np.float64]]
LR_MULT, DECAY_MULT = {"W": 1, "b": 2}, {"W": 1, "b": 0}


def trained_line(
    solver: Solver, batches: Batches, first: Mapping[str, NDArray[np.float32]]
) -> tuple[Doubles, list[float]]:
    """The parameters after ``max_iter`` updates, and the loss before each."""
    params: Doubles = {name: array.astype(np.float64) for name, array in first.items()}
    kept = {name: (np.zeros_like(array), np.zeros_like(array)) for name, array in params.items()}
    losses = []
    for iteration in range(solver.max_iter):
        loss, gradients = line_gradients(params, batches.batch(iteration))
        losses.append(loss)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
        scale = min(1.0, (solver.clip_gradients or np.inf) / norm)
        for name, gradient in gradients.items():
            grown = params[name] if solver.regularization_type == "L2" else np.sign(params[name])
            g = gradient * scale + solver.weight_decay * DECAY_MULT[name] * grown
            rate = solver.rate(iteration) * LR_MULT[name]
            change, kept[name] = update(solver, iteration + 1, rate, g, *kept[name])
            params[name] = params[name] - change
    return params, losses


def line_gradients(params: Doubles, batch: Mapping[str, NDArray[np.float32]]) -> tuple[float, Doubles]:
    """Of 0.5 |W x + b - t|^2 / 2N."""
    error = batch["x"] @ params["W"].T + params["b"] - batch["t"]
    per_row = 0.5 * error / len(error)
    return float(0.25 * np.sum(error**2) / len(error)), {"W": per_row.T @ batch["x"], "b": per_row.sum(0)}


def update(
    solver: Solver, t: int, rate: float, g: NDArray[np.float64], m: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """What is subtracted in update number ``t``, and the two moving values after it."""
    mu, delta = solver.momentum or 0.0, solver.delta or 0.0
    match solver.type:
        case "SGD":
            m = mu * m + rate * g
            return m, (m, v)
        case "Nesterov":
            before, m = m, mu * m + rate * g
            return (1 + mu) * m - mu * before, (m, v)
        case "AdaGrad":
            m = m + g**2
            return rate * g / (np.sqrt(m) + delta), (m, v)
        case "RMSProp":
            decay = solver.rms_decay or 0.0
            m = decay * m + (1 - decay) * g**2
            return rate * g / (np.sqrt(m) + delta), (m, v)
        case "AdaDelta":
            m = mu * m + (1 - mu) * g**2
            change = g * np.sqrt((v + delta) / (m + delta))
            return rate * change, (m, mu * v + (1 - mu) * change**2)
    beta = solver.momentum2 or 0.0
    m, v = mu * m + (1 - mu) * g, beta * v + (1 - beta) * g**2
    return rate * np.sqrt(1 - beta**t) / (1 - mu**t) * m / (np.sqrt(v) + delta), (m, v)
