"""Devices as data: how each stores the numbers of a net, every rule with its source. A device is a TOML file. A device
with a ``base`` states only the differences."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from math import ceil, inf, log2
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import ConfigDict, with_config

from lstmc.errors import Argument, BackendError
from lstmc.files.json_file import NotExpected, parse_json
from lstmc.files.reading import read_file, reading
from lstmc.loops.low_precision import FLOAT32, ProductFormat, ProductNumbers
from lstmc.ops import Array
from lstmc.text import nearest_or_all

__all__ = ["Device", "device_names", "device_of", "products_of", "read_device"]

Format = Literal["int8", "int16", "fp16", "bf16", "float"]
Nearest = Literal["even", "up", "away"]  # how ties are rounded
BITS: Mapping[str, int] = {"int8": 8, "int16": 16}
SUFFIX = ".toml"
Range = tuple[float, float]
_FORBID = with_config(ConfigDict(extra="forbid"))


@_FORBID
@dataclass(frozen=True)
class Values:
    """The storage format of values.

    - ``symmetric``: zero is in the middle; otherwise the range of a value is used unchanged.
    - ``written``: the types of layers whose results are rounded, by default all; ``read``: the types that round their
      operands; with ``once`` an operand is rounded once for all its readers.
    - ``folded``: the types of layers that become a part of the layer before them, if nothing else reads the value
      between; that layer then has the number format of their results.
    - ``raised``: the types of layers (shift + scale * x) ** power whose sum is rounded before it is raised.
    - ``behind_product``: the types of layers that round only if a product makes their operand.
    - ``silu``: the product of a value and its sigmoid is one function.
    - ``biased``: a constant that is added to a product is a part of the product.
    - ``pieces``: each piece that a Slice cuts has its range, and the operand of the Slice has the range of all pieces.
    - ``unsigned``: a symmetric value that is never negative has all its numbers above zero, except results of layers of
      the types ``signed``, and operands of Slices if ``signed`` has Slice.
    - ``power_of_two``: the distance of two numbers is a power of two.
    - ``headroom``: added to the range, as a part of it; ``least``: the smallest range.
    - ``dynamic``: each row that a product reads is scaled by its own range.
    """

    format: Format = "float"
    symmetric: bool = False
    unsigned: bool = False
    signed: tuple[str, ...] = ()
    silu: bool = False
    biased: bool = False
    pieces: bool = False
    power_of_two: bool = False
    headroom: float = 0.0
    least: float = 0.0
    nearest: Nearest = "even"
    overflows: bool = False  # 2^31 steps or more become the least number, not the greatest
    written: tuple[str, ...] | None = None
    read: tuple[str, ...] = ()
    once: bool = False
    dynamic: bool = False
    folded: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()
    behind_product: tuple[str, ...] = ()


@_FORBID
@dataclass(frozen=True)
class Weights:
    """The storage format of the matrices of products: scaled by row (a row for each result) or as a whole; always
    symmetric. ``slice``: as a whole, but in the pieces in which a Slice cuts the product, if nothing else reads it;
    convolutions by row. A matrix that multiplies a value of ``value_axes`` axes or more is stored like a value, and so
    is its bias. Without ``biases`` a bias is not rounded. ``constants`` is the format of other parameters that layers
    on values read, if it differs from that of values. With ``computed`` the device itself computes values of parameters
    that are not stored as weights of a layer, and rounds them like values."""

    format: Format = "float"
    per: Literal["row", "tensor", "slice"] = "row"
    value_axes: int = 1000
    biases: bool = True
    constants: Format | None = None
    computed: bool = False


@_FORBID
@dataclass(frozen=True)
class State:
    """The format of states, if it differs from that of other values."""

    format: Format = "float"


@_FORBID
@dataclass(frozen=True)
class Multipliers:
    """Layers that scale integers by a whole number of ``bits`` and a shift: their types, and how they round.
    ``affine``: the types that multiply by constants, and may add constants; ``chained``: several such layers, each the
    only reader of the previous layer, are computed as one. ``joined``: the terms of a sum have the sum's range if they
    are ``products`` that nothing else reads, and so have the parts of a Concat that nothing else reads. ``fp16_above``:
    a sum of two terms whose ranges have this ratio or more is computed in fp16, from the net's inputs as they are;
    layers in integers round it."""

    bits: int
    sums: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    affine: tuple[str, ...] = ()
    chained: bool = False
    joined: bool = False
    fp16_above: float = inf


@_FORBID
@dataclass(frozen=True)
class Quantiser:
    """The quantiser of a device's numbers: a name of :data:`~lstmc.numerics.calibration.CALIBRATIONS`, and options of
    its quantize.py. ``numbers`` is the name of the general numbers that this quantiser implements."""

    name: str
    numbers: str
    options: tuple[str, ...] = ()


@_FORBID
@dataclass(frozen=True)
class Rule:
    """One rule in words, and its source."""

    text: str
    source: str


@_FORBID
@dataclass(frozen=True)
class Device:
    """The numbers of a device. ``target`` is the target whose nets it runs, ``source`` its name or its file's path.

    - ``clamp``: limits of the operands of a type of layer, if nothing else reads them.
    - ``fixed``: the range of the results of a type of layer, for any data; ``factors``: the factor by which its kernel
      changes the results.
    - ``accumulator``: the bits in which products of integers are summed.
    - ``arithmetic``: with ``integer`` each layer computes in integers alone (:mod:`lstmc.numerics.integers`), by
      TFLite's ``kernels`` (:mod:`lstmc.numerics.tflite`) or lstmc's own.
    - ``tolerance``: the largest change of an output of one step, as a part of its largest element, for ``verify`` of a
      net that computes in these numbers.
    """

    name: str
    about: str
    rules: tuple[Rule, ...]
    target: str | None = None
    form: str | None = None
    values: Values = field(default_factory=Values)
    weights: Weights = field(default_factory=Weights)
    state: State | None = None
    multipliers: Multipliers | None = None
    quantiser: Quantiser | None = None
    clamp: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    accumulator: int = 32
    arithmetic: Literal["float", "integer"] = "float"
    kernels: Literal["", "litert-reference", "litert-optimised", "xnnpack", "tflm"] = ""
    tolerance: float | None = None
    source: str = ""

    @property
    def rounds_sums(self) -> bool:
        """Whether sums and products of values are rounded, and not only products with matrices."""
        rounded = self.values.written
        types = {kind.partition(" ")[0] for kind in (*(rounded or ()), *self.values.read)}
        return self.values.format != "float" and (rounded is None or bool(types & {"Eltwise", "add", "sub", "mul"}))


@dataclass(frozen=True)
class Grid:
    """The numbers that a value can have: ``scale`` times (an integer from ``low`` to ``high``, minus ``zero``)."""

    scale: float
    low: int
    high: int
    zero: int = 0
    nearest: Nearest = "even"
    overflows: bool = False

    @classmethod
    def of(
        cls, limits: Range, format: Format, device: Device, symmetric: bool | None = None, signed: bool = False
    ) -> Grid:
        """Return a device's grid for a range; a ``signed`` one always has negative numbers. ``symmetric`` overrides the
        device's rule, unless it is None."""
        values, bits = device.values, BITS[format]
        symmetric = values.symmetric if symmetric is None else symmetric
        low, high = (limit * (1 + values.headroom) for limit in (min(limits[0], 0.0), max(limits[1], 0.0)))
        high = max(high, values.least)
        most = 2 ** (bits - 1) - 1
        if symmetric and values.unsigned and low >= 0 and not signed:
            return cls._spaced(high / (2**bits - 1), 0, 2**bits - 1, device)
        if symmetric:
            return cls._spaced(max(-low, high) / most, -most - (1 if values.unsigned else 0), most, device)
        grid = cls._spaced((high - low) / (2**bits - 1), 0, 2**bits - 1, device)
        return replace(grid, zero=round(-low / grid.scale))

    @classmethod
    def _spaced(cls, scale: float, low: int, high: int, device: Device) -> Grid:
        """Return the grid of integers from ``low`` to ``high``, its ``scale`` rounded as the device stores scales."""
        scale = float(scale) or 1.0
        if device.arithmetic == "integer":  # the device's program has it as a constant in float32
            scale = float(np.float32(scale)) or 1.0
        if device.values.power_of_two:
            scale = 2.0 ** ceil(log2(scale))
        return cls(scale, low, high, nearest=device.values.nearest, overflows=device.values.overflows)

    def rounded(self, array: Array) -> Array:
        """Return the numbers of the grid that are nearest to the elements of an array."""
        integers = rounded(np.asarray(array, np.float64) / self.scale, self.nearest)
        if self.overflows:
            integers[integers >= 2**31] = self.low
        integers += self.zero
        np.fmax(integers, self.low, out=integers)  # NaN becomes the least integer, as on x86
        np.minimum(integers, self.high, out=integers)
        integers -= self.zero
        integers *= self.scale
        return integers.astype(array.dtype)

    def clipped(self, array: Array) -> int:
        """Return how many elements are outside of the grid by half a step or more."""
        least, most = ((end - self.zero + half) * self.scale for end, half in ((self.low, -0.5), (self.high, 0.5)))
        return int(np.count_nonzero((array < least) | (array > most)))


def rounded(array: Array, nearest: Nearest) -> Array:
    """Return the integers nearest to numbers. ``nearest`` says where ties go: to even, up, or away from zero."""
    if nearest == "even":
        return np.asarray(np.rint(array))
    if nearest == "up":
        return np.asarray(np.floor(array + 0.5))
    return np.asarray(np.copysign(np.floor(np.abs(array) + 0.5), array))


def device_names() -> list[str]:
    """Return the names of the devices described in this package."""
    names = (entry.name for entry in (files(__package__) / "devices").iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def read_device(name: str) -> Device:
    """Return the device with this name, or of this TOML file. Raises :class:`BackendError` if there is none."""
    values = _merged(name, ())
    try:
        return replace(parse_json(json.dumps(values).encode(), Device), source=name)
    except NotExpected as error:
        raise BackendError(f"{name}: not the description of a device: {error}") from None


def device_of(numbers: str, reader: str) -> Device:
    """Return the device with the numbers of a reader's quantiser: ``numbers`` itself, or the reader's form of general
    numbers such as ``int8``. Raises :class:`BackendError` if the reader's quantiser has no such numbers."""
    device = read_device(numbers)
    if device.quantiser is not None and device.quantiser.name == reader:
        return device
    own = [(each, each.quantiser) for each in map(read_device, device_names())]
    forms = {each.name: each for each, quantiser in own if quantiser is not None and quantiser.name == reader}
    chosen = [each for each, quantiser in own if quantiser and (quantiser.name, quantiser.numbers) == (reader, numbers)]
    if chosen:
        return chosen[0]
    readers = {quantiser.name: None for _, quantiser in own if quantiser is not None}
    argument = Argument("reader", reader)
    if not forms:
        listed = nearest_or_all(reader, readers, "available")
        raise BackendError(f"{argument}: no quantiser is known for it{listed}")
    raise BackendError(f"{argument}: its quantiser does not make {device.name}: expected one of {', '.join(forms)}")


def products_of(numbers: str) -> ProductNumbers:
    """Return a device's arithmetic of products in generated loops, FLOAT32 for ``float32``. Raises
    :class:`BackendError` for a device that rounds more than the rows and weights of products."""
    if numbers == "float32":
        return FLOAT32
    device = read_device(numbers)
    values, weights = device.values, device.weights
    alone = values.read == ("linear",) and values.written == () and values.dynamic and not weights.biases
    for format in get_args(ProductFormat):
        if alone and values.format == weights.format == format:
            return ProductNumbers(format, device.tolerance or 0.0)
    expected = "float32, cpu-bf16 or cpu-int8, or by a file with one of these as its base"
    raise BackendError(f"numbers={numbers}: generated layers compute in {expected}")


def _merged(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Return a device's description, completed by its ``base``. ``seen``: the devices based on it, to find a circle."""
    if name in seen:
        raise BackendError(f"{name}: its base is itself")
    path = Path(name)
    if path.suffix == SUFFIX:
        with reading(path, BackendError):
            content, title = read_file(path), path.stem
    elif name in device_names():
        content, title = (files(__package__) / "devices" / f"{name}{SUFFIX}").read_bytes(), name
    else:
        listed = nearest_or_all(name, device_names(), "available")
        raise BackendError(f"unknown numbers {name!r}{listed}", notes=[f"or the path of a description, FILE{SUFFIX}"])
    try:
        values: dict[str, Any] = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BackendError(f"{name}: not TOML: {error}") from None
    base = values.pop("base", None)
    if base is not None:
        values = _over(_merged(str(base), (*seen, name)), values)
    return {"rules": [], "about": title, **values, "name": title}


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a description in which ``values`` replace those of ``base``, table by table. Lists of rules are joined."""
    merged = dict(base)
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = merged.get(key, []) + value if key == "rules" else value
    return merged
