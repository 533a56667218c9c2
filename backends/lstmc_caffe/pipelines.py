"""The forms that a net can take for one target: the same numbers by other layers. Which is fastest is measured."""

from __future__ import annotations

from lstmc.passes import Cse, Dead, Expand, Hoist, KeepTimeAxis, Pass, Widen
from lstmc_caffe.legalize.legalize import Legalize
from lstmc_caffe.legalize.reshape_once import ReshapeOnce
from lstmc_caffe.ops import ReshapeLayer
from lstmc_caffe.recurrent.lstm_unit import RerollGates
from lstmc_caffe.unroll.limit_fan import BoundFan
from lstmc_caffe.unroll.time_axis import CaffeTimeAxis

LEGAL: tuple[Pass, ...] = (Legalize(), Cse(), ReshapeOnce(), Dead())
EXPANSION: tuple[Pass, ...] = (Expand(CaffeTimeAxis()), Dead(), BoundFan())


def caffe_passes(unit: bool = True) -> tuple[Pass, ...]:
    """From MODEL to EXPANDED for Caffe itself: gate tails become LSTMUnit if ``unit``, layers of their own if not."""
    gates = RerollGates()
    rolled = (KeepTimeAxis(gates.applies, ReshapeLayer), gates, Cse(), Dead()) if unit else ()
    return (*LEGAL, *rolled, *EXPANSION)


def caffe_forms(standard: tuple[Pass, ...]) -> dict[str, tuple[Pass, ...]]:
    """Whole pass lists by name; ``standard`` are the pipeline's passes on core ops.

    ``unit``: LSTMUnit wherever there is a gate tail, as without a form. ``packed``: never; one Sigmoid over
    neighbouring gates. ``separate``: a layer for each gate. ``...-in-loop``: products with the inputs step by step,
    not all at once.
    """
    apart = tuple(p for p in standard if not isinstance(p, Widen))
    forms = {
        "unit": (*standard, *caffe_passes()),
        "packed": (*standard, *caffe_passes(unit=False)),
        "separate": (*apart, *caffe_passes(unit=False)),
    }
    in_loop = {
        f"{name}-in-loop": tuple(p for p in passes if not isinstance(p, Hoist)) for name, passes in forms.items()
    }
    return forms | in_loop
