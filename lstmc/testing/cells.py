""":func:`check_cell`: a cell is what its equations say, and so is the net of every target."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.testing import assert_allclose

from lstmc.api import compile
from lstmc.backend import find_backends, load_backend
from lstmc.dsl import Cell, CellModel
from lstmc.errors import BackendError, PluginError
from lstmc.interp import named_rng
from lstmc.ops import Array
from lstmc.weights import random_weights

Step = Callable[..., tuple[Any, Mapping[str, Array]]]
SMALL: Mapping[str, int] = {"T": 3, "N": 2, "D": 3, "H": 4}  # other dimensions are 4


def check_cell(
    cell: Cell,
    reference: Step | None = None,
    *,
    targets: Collection[str] | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Check a cell with random weights and inputs; return the outcome of each target, by its name.

    The weights are those of ``lstmc verify``: none is zero, whatever its filler, so that each one that the cell reads
    is checked.

    ``reference`` is one step in NumPy, with the arguments of the cell (inputs, states, parameters by name) and its
    results: ``(y, {"h": h})``. Outputs over time and last states from zero states are compared with it, to 1e-6. Then
    the net of each target of every installed backend is compared with the model, by the interpreter, outputs and
    gradients. A target that cannot express the cell is reported with its reason; it is a failure where ``targets``
    names it. Raises AssertionError.

    >>> from lstmc.cells import rnn
    >>> from lstmc.testing import check_cell
    >>> def step(x, h, W_x, W_h, b):
    ...     h = np.tanh(x @ W_x.T + h @ W_h.T + b)
    ...     return h, {"h": h}
    >>> check_cell(rnn, step, targets=["flat"])
    {'flat': 'agrees'}
    """
    bound = {dim: SMALL.get(dim, 4) for dim in ("T", *cell.dims)} | dict(sizes or {})
    if reference is not None:
        _check_reference(cell, reference, bound, seed)
    outcomes = {}
    for backend, target in _targets(targets):
        try:
            net = compile(cell, target=target, backend=backend, sizes=bound, seed=seed)
        except BackendError as refused:
            if targets is not None:
                raise AssertionError(f"target {target} does not take {cell.name}: {refused.message}") from refused
            outcomes[target] = refused.message
            continue
        verified = net.verify(on=["interpreter"])
        assert verified, f"target {target}: {verified}"
        outcomes[target] = "agrees"
    unknown = set(targets or ()) - set(outcomes)
    assert not unknown, f"no installed backend has target {', '.join(sorted(unknown))}"
    assert "agrees" in outcomes.values(), f"no target takes {cell.name}: {outcomes}"
    return outcomes


def _targets(names: Collection[str] | None) -> Iterator[tuple[str, str]]:
    for name in find_backends():
        with suppress(PluginError):  # `lstmc doctor` speaks of it
            yield from ((name, target) for target in load_backend(name).targets if names is None or target in names)


def _check_reference(cell: Cell, reference: Step, sizes: Mapping[str, int], seed: int) -> None:
    """Compare the interpreter with steps in NumPy."""
    weights = random_weights(CellModel(cell).graph(**sizes), seed)
    net = compile(cell, sizes=sizes, weights=weights)
    inputs = {}
    for name, shape in net.inputs.items():
        rng, declared = named_rng(seed, name), cell.inputs[name].values
        inputs[name] = rng.normal(size=shape) if declared is None else declared.draw(rng, shape)
    actual = net.run(inputs, on="interpreter")
    params = {name.rpartition("/")[2]: value for name, value in weights.items()}
    states: dict[str, Array] = {name: np.zeros(actual[f"{name}_T"].shape) for name in cell.states}
    outputs: list[dict[str, Array]] = []
    for t in range(sizes["T"]):
        y, following = reference(**{name: x[t] for name, x in inputs.items()}, **states, **params)
        states = {name: following[name] for name in states}
        outputs.append(_named(y))
    expected = {name: np.stack([each[name] for each in outputs]) for name in outputs[0]}
    expected |= {f"{name}_T": value for name, value in states.items()}
    for name, value in expected.items():
        why = f"{name}: the cell (actual) and the reference (desired)"
        assert_allclose(actual[name], value, rtol=1e-6, atol=1e-6, err_msg=why)


def _named(y: Any) -> dict[str, Array]:
    """Return a step's outputs by the names that they have in a net of the cell alone."""
    if isinstance(y, Mapping):
        return dict(y)
    return {f"y_{i}": value for i, value in enumerate(y)} if isinstance(y, tuple) else {} if y is None else {"y": y}
