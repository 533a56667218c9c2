"""Recurrences that an exporter has written out are rolled up again: the same steps over and over, one after the other.

Steps that do the same with the same weights, each depending on the one before, are a chain. What lies between two of
them is a step. All steps are walked backwards together: what they make alike is the body, what a step takes from the
one before is a state, what is the same for all is seen by every step, and what is left are elements of sequences.
"""

from __future__ import annotations

from dataclasses import replace

from lstmc.importers.describe.net import Net
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.settle.chains import Chain, Dependence, chains
from lstmc.importers.settle.common_step import CommonStep, NotAlike
from lstmc.importers.settle.one_step import in_steps
from lstmc.importers.settle.one_step_more import extend, extend_from_zero
from lstmc.importers.settle.rolled_net import in_order, replaced

MOST = 20_000  # steps of a description that is looked at
CUTS = 8  # ways to cut steps without products that are compared


def rolled_up(net: Net) -> Net:
    """The same model, each chain of equal steps being one step over time; notes say which chains are none."""
    net = _with_constants_once(net)
    taken_apart = in_steps(net)
    found = _rolled_up(net if taken_apart is net else in_order(taken_apart))
    used = {name for step in found.steps if not isinstance(step.op, Recur | Rolled) for name in step.inputs}
    if any("/" in name for name in used):  # a cell that was taken apart, and is no chain
        return _rolled_up(net)
    return found


def _with_constants_once(net: Net) -> Net:
    """Equal constants by one name: a state's first value may be there once for each that reads it."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for name, weight in net.params.items():
        if not weight.sources:
            same[name] = first.setdefault((weight.shape, weight.array().tobytes()), name)
    steps = tuple(replace(step, inputs=tuple(same.get(name, name) for name in step.inputs)) for step in net.steps)
    params = {name: weight for name, weight in net.params.items() if same.get(name, name) == name}
    outputs = {name: same.get(value, value) for name, value in net.outputs.items()}
    return replace(net, steps=steps, params=params, outputs=outputs)


def _rolled_up(net: Net) -> Net:
    while len(net.steps) <= MOST:
        dependence = Dependence(net)
        left: list[Chain] = []
        found: list[Net] = []
        for chain in chains(net, dependence):
            if chain.weight is None and len(found) == CUTS:
                break
            one = _of_chain(net, dependence, chain)
            if one is None:
                left.append(chain)
            else:
                found.append(one)
                if chain.weight is not None:
                    break
        if not found:
            trained = [chain for chain in left if chain.weight is not None and net.params[chain.weight].sources]
            notes = dict.fromkeys(_note(net, chain) for chain in trained)
            return replace(net, notes=(*net.notes, *notes))
        net = min(found, key=lambda one: len(one.steps))  # a step may be cut anywhere: where least is left of others
    return net


def _note(net: Net, chain: Chain) -> str:
    weight = net.params[chain.weight or ""].recipe
    return (
        f"Products with {weight} come {len(chain.numbers)} times, each after the one before, but what lies between them"
        " is not the same: these steps stay written out."
    )


def _of_chain(net: Net, dependence: Dependence, chain: Chain) -> Net | None:
    """The net with the chain rolled up; None where its steps are not the same."""
    for absorbing in (True, False):  # what reads the steps may not be there before all of them are done
        try:
            common = CommonStep(net, dependence, chain)
            if chain.weight is None and not common.sequences:
                return None  # a function of a function, or the like
            extend(common)
            extend_from_zero(common)
            if absorbing:
                common.absorb()
            return replaced(common)
        except (NotAlike, RecursionError):  # a step deeper than Python goes stays written out
            continue
    return None
