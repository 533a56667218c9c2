"""Every list of passes of the backend, written out: what each target, and each form of a net, goes through.

MODEL     what is decided once for all steps, on core ops
LEGAL     core ops become layers, and layers what the target can have
EXPANDED  every step's layers

A form is another net of the same numbers for one target; which is fastest is measured (``lstmc compile --tune``).
``unit``: LSTMUnit wherever there is a gate tail, as without a form. ``packed``: never; one Sigmoid over neighbouring
gates. ``separate``: a layer for each gate. ``...-in-loop``: products with the inputs step by step, not all at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.errors import BackendError
from lstmc.passes import (
    Cse,
    Dead,
    Expand,
    FuseHorizontal,
    FuseLinears,
    Hoist,
    KeepTimeAxis,
    Pass,
    Peel,
    RollIn,
    Simplify,
    Sink,
    SplitProducts,
)
from lstmc_caffe.legalize.legalize import Legalize
from lstmc_caffe.legalize.reshape_once import ReshapeOnce
from lstmc_caffe.ops import ReshapeLayer
from lstmc_caffe.recurrent.lstm_unit import FindLSTMUnit
from lstmc_caffe.recurrent.native_layers import FindNativeLayers
from lstmc_caffe.rows.constants import Constants
from lstmc_caffe.rows.fit_readers import FitReaders
from lstmc_caffe.rows.narrow import Narrow
from lstmc_caffe.rows.settle import SettleViews
from lstmc_caffe.rows.time_axis import RowsTimeAxis
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.targets.target import Target
from lstmc_caffe.unroll.limit_fan import LimitFan
from lstmc_caffe.unroll.time_axis import CaffeTimeAxis

Passes = tuple[Pass, ...]


def _caffe() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(KeepTimeAxis(FindLSTMUnit().applies, ReshapeLayer), FindLSTMUnit(), Cse(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _caffe_in_loop() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(KeepTimeAxis(FindLSTMUnit().applies, ReshapeLayer), FindLSTMUnit(), Cse(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _packed() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _packed_in_loop() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _separate() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), Hoist(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _separate_in_loop() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _caffe_native() -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(), Cse(), ReshapeOnce(), Dead()),
        *(FindNativeLayers(), Cse(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan()),
    )


def _flat(target: Target) -> Passes:
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(trained=target.trained), Narrow(target), Cse(), Dead()),
        *(Expand(RowsTimeAxis(target)), Dead(), SettleViews(target), Constants(target), Dead()),
    )


def _noslice(target: Target) -> Passes:
    """Without Slice nothing packs gates or joins steps, and what a model packed is taken apart."""
    return (
        *(Simplify(), Cse(), Dead(), RollIn(), SplitProducts()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(Legalize(trained=target.trained), Narrow(target), Cse(), Dead()),
        *(Expand(RowsTimeAxis(target)), Dead(), FitReaders(), SettleViews(target), Constants(target), Dead()),
    )


def pipeline(name: str) -> Passes:
    """The list of a target of any package or file, by its layout, how it cuts time and what becomes of scans.

    Raises :class:`BackendError` for what no list is written for.
    """
    target = load_target(name)
    match (target.layout, target.time, target.scans):
        case ("blobs", "slice", "unrolled"):
            return _caffe()
        case ("blobs", "slice", "layers"):
            return _caffe_native()
        case ("rows", "slice", "unrolled"):
            return _flat(target)
        case ("rows", "steps", "unrolled"):
            return _noslice(target)
        case (layout, time, scans):
            raise BackendError(
                f"target {name} has layout {layout}, time {time} and scans {scans}, which do not go together: expected"
                " blobs with slice, or rows with slice or steps; scans as layers with blobs and slice"
            )


FORMS: Mapping[str, Mapping[str, Passes]] = {
    "caffe": {
        "unit": _caffe(),
        "packed": _packed(),
        "separate": _separate(),
        "unit-in-loop": _caffe_in_loop(),
        "packed-in-loop": _packed_in_loop(),
        "separate-in-loop": _separate_in_loop(),
    }
}
