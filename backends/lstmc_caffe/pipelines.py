"""Every list of passes of the backend, written out: what each kind of target, and each form of a net, goes through.

MODEL     what is decided once for all steps, on core ops
LEGAL     core ops become layers, and layers what the target can have
EXPANDED  every step's layers

Which list is a target's is said by its file (``layout``, ``time``, ``scans``, and whether LSTMUnit is allowed): no name
of a target stands here.

A form is another net of the same numbers for one target; which is fastest is measured (``lstmc compile --tune``).
``unit``: LSTMUnit wherever there is a gate tail, as without a form. ``packed``: never; one Sigmoid over neighbouring
gates. ``separate``: a layer for each gate. ``...-in-loop``: products with the inputs step by step, not all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from lstmc.errors import BackendError
from lstmc.loops.layer import RoundProducts
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.passes import (
    ConvProducts,
    Cse,
    Dead,
    Expand,
    FixedProducts,
    FoldConvs,
    FuseHorizontal,
    FuseLinears,
    Hoist,
    KeepTimeAxis,
    Pass,
    PassList,
    Peel,
    Precompute,
    RollIn,
    Simplify,
    Sink,
    SplitProducts,
    with_time,
)
from lstmc.pipeline import LOOP_PASSES
from lstmc_caffe.legalize.blobs import ReshapeOnce
from lstmc_caffe.legalize.legalize import legalization
from lstmc_caffe.legalize.lstm_unit import FindLSTMUnit
from lstmc_caffe.legalize.native import FindNativeLayers
from lstmc_caffe.legalize.unroll import CaffeTimeAxis, LimitFan
from lstmc_caffe.ops import ReshapeLayer
from lstmc_caffe.rows.constants import Constants
from lstmc_caffe.rows.fit_readers import FitReaders
from lstmc_caffe.rows.layout import FixedBlobs
from lstmc_caffe.rows.narrow import HalfSteps, Narrow, WordNames
from lstmc_caffe.rows.one_row import OneRow, with_reshapes, with_rows
from lstmc_caffe.rows.settle import SettleViews, UnreadInputs, VaryingOutputs
from lstmc_caffe.rows.time_axis import RowsTimeAxis
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.targets.target import Target

Passes = tuple[Pass, ...]
Gates = Literal["unit", "packed", "separate"]


def _layers(target: Target, gates: Gates, hoisted: bool = True, native: bool = False) -> Passes:
    """Layers for every step. ``gates``: see ``unit``, ``packed`` and ``separate`` above.

    ``hoisted``: products with inputs are computed once for all steps, not step by step. ``native``: scans that compute
    the same as Caffe's LSTM or RNN layer become that layer.
    """
    keep_axis = KeepTimeAxis(FindLSTMUnit().applies, ReshapeLayer)
    return (
        *(Simplify(), Cse(), Dead(), FuseLinears()),
        *(() if gates == "separate" else (FuseHorizontal(),)),
        *((Hoist(), Sink()) if hoisted else (Sink(),)),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(*legalization(target.trained), Cse(), ReshapeOnce(), Dead()),
        *((FindNativeLayers(), Cse(), Dead()) if native else ()),
        *((keep_axis, FindLSTMUnit(), Cse(), Dead()) if gates == "unit" else ()),
        *(Narrow(target), Cse(), Dead()),
        *(Expand(CaffeTimeAxis()), Dead(), LimitFan(), Constants(target)),
    )


def _fused(target: Target) -> Passes:
    """Each scan is one generated layer."""
    return (*LOOP_PASSES, *legalization(target.trained, fused=True), Cse())


def _convolutions(target: Target) -> Passes:
    """As products where there are no images."""
    folded = FoldConvs(target.trained)
    return (folded,) if target.allows("Convolution") else (folded, ConvProducts(target.trained))


def _rows(target: Target) -> Passes:
    rows, reshapes = with_rows(target), with_reshapes(target)
    return (
        *(Simplify(), Cse(), Dead(), *_convolutions(target), Precompute(target.trained)),
        *(FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
        *(HalfSteps(target), Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(*legalization(target.trained), Narrow(rows), Cse(), Dead()),
        *(Expand(RowsTimeAxis(rows)), Dead(), SettleViews(reshapes), Constants(rows), SettleViews(reshapes), Dead()),
        *(OneRow(target), Cse(), SettleViews(target), Dead()),
        *(VaryingOutputs(target), FixedBlobs(target), UnreadInputs(target), WordNames(target)),
    )


def _rows_of_steps(target: Target) -> Passes:
    """Return the passes for targets without Slice: gates are not packed, steps are not joined, packed weights are
    split.
    """
    rows, reshapes = with_rows(target), with_reshapes(target)
    return (
        *(HalfSteps(target), Simplify(), Cse(), Dead(), *_convolutions(target), Precompute(target.trained)),
        *(RollIn(), SplitProducts(), FixedProducts()),
        *(Simplify(), Cse(), Dead(), Peel(), Dead()),
        *(*legalization(target.trained), Narrow(rows), Cse(), Dead()),
        *(Expand(RowsTimeAxis(rows)), Dead(), FitReaders()),
        *(SettleViews(reshapes), Constants(rows), SettleViews(reshapes), Dead()),
        *(OneRow(target), Cse(), SettleViews(target), Dead()),
        *(VaryingOutputs(target), FixedBlobs(target), UnreadInputs(target), WordNames(target)),
    )


def passes_of(name: str, products: ProductNumbers = FLOAT32) -> Passes:
    """Return the list of a target of any package or file, by its layout, how it cuts time and what becomes of scans.

    Where the cost of a layer is known, linear recurrences take the form that costs least. ``products`` are the numbers
    of products in generated layers. Raises :class:`BackendError` for what no list is written for.
    """
    target = load_target(name)
    passes = _passes(target)
    if products != FLOAT32 and target.scans != "fused":
        raise BackendError(
            f"numbers={products.format}: expected a target with generated layers, as caffe-fused, found {target.name}"
        )
    if products != FLOAT32:
        passes = (*passes, RoundProducts(products))
    cost = target.layer_cost
    return passes if cost is None else tuple(with_time(PassList(passes), "auto", target.trained, cost))


@cache
def _passes(target: Target) -> Passes:
    match (target.layout, target.time, target.scans):
        case ("blobs", "slice", "unrolled"):
            return _layers(target, "unit" if target.allows("LSTMUnit") else "packed")
        case ("blobs", "slice", "layers"):
            return _layers(target, "packed", native=True)
        case ("blobs", "slice", "fused"):
            return _fused(target)
        case ("rows", "slice", "unrolled"):
            return _rows(target)
        case ("rows", "steps", "unrolled"):
            return _rows_of_steps(target)
        case (layout, time, scans):
            raise BackendError(
                f"target {target.name} has layout {layout}, time {time} and scans {scans}, which do not go together:"
                " expected blobs with slice, or rows with slice or steps; scans as layers or fused with blobs and slice"
            )


@cache
def forms_of(target: Target) -> Mapping[str, Passes]:
    """Return the forms that a target has, by name."""
    if target.layout == "rows" or target.scans != "unrolled" or not target.allows("LSTMUnit"):
        return {}
    gates: tuple[Gates, ...] = ("unit", "packed", "separate")
    return {name: _layers(target, name) for name in gates} | {
        f"{name}-in-loop": _layers(target, name, hoisted=False) for name in gates
    }
