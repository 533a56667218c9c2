"""Values of parameters: drawn by the declared fillers, or at random for a check, or from a file of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.errors import WeightsError
from lstmc.files.arrays import StoredArray, element_problem, memory_problem, read_npz
from lstmc.interp import named_rng
from lstmc.ir import Graph, Ref
from lstmc.ops import Array, Constant, Param, Precomputed, Uniform, Values
from lstmc.process import memory
from lstmc.types import TensorType

FEW = 2**20  # there is always the memory for so many


def parameters(graph: Graph) -> dict[str, Param]:
    """Return a model's parameters by name, in the order of their declaration."""
    return {node.name: node.op for node in graph if isinstance(node.op, Param)}


def initial_weights(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Return every parameter drawn by its filler: the same for the same name, shape, filler and ``seed``. They are
    float32; fixed arrays have the model's own numbers, which may be float64. Raises WeightsError for lack of memory."""
    ops = parameters(graph)
    elements = sum(TensorType(op.shape).size for op in ops.values())
    if elements > FEW and 12 * elements > (free := memory.free_memory()):  # drawn in 8 bytes each, kept in 4
        raise WeightsError(
            f"{graph.name} has {elements} weights, more than this machine has memory for: expected at most {free // 12}"
        )
    drawn = {name: op.fill.draw(named_rng(seed, name), op.shape) for name, op in ops.items()}
    return {name: array if ops[name].fixed else array.astype(np.float32) for name, array in drawn.items()}


def random_weights(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Return every parameter drawn at random for a check, so that none is zero and no two are equal: float32, except
    fixed arrays.

    A constant filler, such as zeros for a bias or a peephole, would hide the use of the parameter, and so would tiny
    numbers. The signs of the filler are kept:

    1. a parameter that is not trained, or a filler with one sign or a mean => drawn by the filler
    2. constant(c), an array of numbers  => each number times 0.7 to 1.3; normal numbers in place of zeros
    3. other fillers, about zero         => normal numbers, divided by the root of fan_in if it has several axes
    """
    drawn = {}
    for name, op in parameters(graph).items():
        values = _check_values(op, named_rng(seed, f"check of {name}"))
        drawn[name] = values if op.fixed else values.astype(np.float32)
    return drawn


def _check_values(op: Param, rng: np.random.Generator) -> Array:
    """Return the values of one parameter for :func:`random_weights`, in float64, by the rules listed there."""
    fill = op.fill
    declared = fill.draw(rng, op.shape)
    if op.lr_mult == op.decay_mult == 0:
        return declared
    normal: Array = rng.normal(0, 0.5, op.shape)
    if isinstance(fill, Constant | Values):
        return np.where(declared == 0, normal, declared * rng.uniform(0.7, 1.3, op.shape))
    if not (fill.min < 0 < fill.max if isinstance(fill, Uniform) else getattr(fill, "mean", 0) == 0):
        return declared  # not about zero
    return normal if len(op.shape) == 1 else rng.normal(0, (op.shape[0] / prod(op.shape)) ** 0.5, op.shape)


def read_weights(path: Path, graph: Graph) -> dict[str, Array]:
    """Return the parameters of ``graph`` from an ``.npz`` file: names and shapes as in the model. Raises WeightsError
    with all arrays that are missing, extra, misshaped or not finite."""
    return check_weights(read_npz(path, WeightsError), graph, str(path))


def check_weights(arrays: Mapping[str, Any], graph: Graph, source: str) -> dict[str, Array]:
    """Return the parameters of a graph as float32; ``source`` names the arrays in errors. Fixed arrays may be absent.
    Raise WeightsError, with all problems, if arrays are missing, extra, misshaped or not finite."""
    ops = parameters(graph)
    fixed = {name: op.fill.draw(named_rng(0, name), op.shape) for name, op in ops.items() if op.fixed}
    arrays = {**fixed, **arrays}
    problems = [f"missing: {name} {TensorType(op.shape)}" for name, op in ops.items() if name not in arrays]
    problems += [f"extra: {name} {_type(arrays[name])}" for name in arrays if name not in ops]
    for name, op in ops.items():
        if name not in arrays:
            continue
        array = arrays[name] if isinstance(arrays[name], StoredArray) else np.asarray(arrays[name])
        if array.shape != op.shape:
            problems.append(f"wrong shape: {name} must be {TensorType(op.shape)}, found {_type(array)}")
        elif problem := element_problem(name, array):
            problems.append(problem)
        elif name in fixed and not np.array_equal(np.asarray(array, np.float32), fixed[name].astype(np.float32)):
            problems.append(f"fixed: {name} has its numbers in the model, found others")
    if problems:
        raise WeightsError(f"{source} does not fit {graph.name}", notes=problems)
    return {name: fixed[name] if name in fixed else np.asarray(arrays[name], np.float32) for name in ops}


def _type(array: Any) -> TensorType:
    return TensorType(np.shape(array))


def unpack_weights(weights: Graph, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the user's parameters from the blobs of a weight graph, whose exact inverse this is. A parameter with a
    part in no blob (a gate that no step of the net uses) cannot be read back and is left out, and so is a parameter
    from which a blob is precomputed. ``blobs`` must have every output of ``weights``."""
    size = 4 * sum(type_.size for node in weights for type_ in node.types)
    if problem := memory_problem(size, 1):
        raise WeightsError(f"the graph of the weights in the manifest {problem}")
    values_by_ref: dict[Ref, Array] = {output.ref: np.asarray(blobs[output.name]) for output in weights.outputs}
    for node in reversed(list(weights)):
        if isinstance(node.op, Param | Precomputed) or not all(ref in values_by_ref for ref in node.refs):
            continue
        # every weight op only moves elements or changes signs, so its inverse is its gradient
        values = tuple(values_by_ref[ref] for ref in node.refs)
        operands = weights.args(node.name)
        shapes = [np.empty(weights.type(ref).shape, values[0].dtype) for ref in operands]
        for ref, value in zip(operands, node.op.vjp(values, values, *shapes), strict=True):
            assert value is not None
            values_by_ref[ref] = value
    return {name: values_by_ref[Ref(name)] for name in parameters(weights) if Ref(name) in values_by_ref}
