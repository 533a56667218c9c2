"""Ops without operands: inputs, parameters, arguments and constants, and the fillers of their initial values.
Fillers are Caffe's (``include/caffe/filler.hpp``), drawn by NumPy, or fixed arrays."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, fields
from math import isfinite, prod, sqrt
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from lstmc.errors import DslError, ShapeError
from lstmc.ops.base import Array, Arrays, Domain, Draw, IntegerRange, Leaf, RealRange, Sample, Types, sample_type
from lstmc.source import argument_location, here
from lstmc.text import did_you_mean
from lstmc.types import TensorType

__all__ = [
    "FILLERS", "Arg", "Constant", "Filler", "Full", "Gaussian", "Input", "Msra", "Param", "Role", "Uniform", "Values",
    "Xavier",
]  # fmt: skip

VARIANCE_NORMS = ("fan_in", "fan_out", "average")


@dataclass(frozen=True)
class Filler:
    """A distribution over arrays of any shape. Prints as the call that makes it: ``uniform(-0.05, 0.05)``."""

    name: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Raise DslError, with the usage of the filler, for a wrong name or number of arguments."""
        defaults = {field.name: field.default for field in fields(cls)}
        unknown = [name for name in kwargs if name not in defaults]
        if unknown or len(args) > len(defaults):
            takes = "takes 1 argument" if len(defaults) == 1 else f"takes {len(defaults)} arguments"
            near = did_you_mean(unknown[0], defaults) if unknown else ""
            wrong = f"has no argument {unknown[0]}{near}" if unknown else f"{takes}, found {len(args)}"
            usage = ", ".join(f"{name}={default!r}" for name, default in defaults.items())
            raise DslError(f"{cls.name} {wrong}; it is {cls.name}({usage})", loc=here())
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Raise DslError unless each argument is a finite number, and turn NumPy numbers into Python's."""
        for position, field in enumerate(fields(self)):
            value = getattr(self, field.name)
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not number or not isfinite(value):
                problem = f"{self.name}: {field.name} must be a finite number, found {value!r}"
                raise DslError(problem, loc=argument_location(here(), position, field.name))
            # a NumPy number does not print as a number of Python
            object.__setattr__(self, field.name, int(value) if isinstance(value, int | np.integer) else float(value))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Return an array of ``shape``, float64."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(repr(getattr(self, f.name)) for f in fields(self))})"


@dataclass(frozen=True, repr=False)
class Constant(Filler):
    """Every element is ``value``."""

    name = "constant"
    value: float = 0.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.full(shape, float(self.value))


@dataclass(frozen=True, repr=False)
class Uniform(Filler):
    """Uniform on [``min``, ``max``]."""

    name = "uniform"
    min: float = 0.0
    max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min > self.max:
            raise DslError(f"uniform: expected min <= max, found min {self.min!r} and max {self.max!r}", loc=here())

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.uniform(self.min, self.max, shape)


@dataclass(frozen=True, repr=False)
class Gaussian(Filler):
    """Normal with ``mean`` and standard deviation ``std``."""

    name = "gaussian"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std < 0:
            raise DslError(f"gaussian: expected std >= 0, found {self.std!r}", loc=argument_location(here(), 1, "std"))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(self.mean, self.std, shape)


@dataclass(frozen=True, repr=False)
class _FanScaled(Filler):
    """A filler whose spread shrinks with the number of inputs or outputs of a unit."""

    variance_norm: str = "fan_in"

    def __post_init__(self) -> None:
        if self.variance_norm not in VARIANCE_NORMS:
            problem = f"variance_norm must be one of {', '.join(VARIANCE_NORMS)}, found {self.variance_norm!r}"
            raise DslError(f"{self.name}: {problem}", loc=argument_location(here(), 0, "variance_norm"))

    def fan(self, shape: tuple[int, ...]) -> float:
        """Return the number of inputs (size / shape[0]), of outputs (size / shape[1], or size), or their mean."""
        size = prod(shape)
        fan_in = size / shape[0]
        fan_out = size / shape[1] if len(shape) > 1 else size
        return {"fan_in": fan_in, "fan_out": fan_out, "average": (fan_in + fan_out) / 2}[self.variance_norm]


@dataclass(frozen=True, repr=False)
class Xavier(_FanScaled):
    """Uniform on +-sqrt(3 / fan). Glorot and Bengio 2010, as in Caffe's XavierFiller."""

    name = "xavier"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        bound = sqrt(3 / self.fan(shape))
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True, repr=False)
class Msra(_FanScaled):
    """Normal with standard deviation sqrt(2 / fan). He et al. 2015, as in Caffe's MSRAFiller."""

    name = "msra"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, sqrt(2 / self.fan(shape)), shape)


@dataclass(frozen=True, repr=False)
class Values(Filler):
    """A fixed array: base64 of float32 numbers, or float64 if float32 does not hold them, so that the text form is
    exact.
    Caffe has no such filler: the numbers are in the caffemodel."""

    name = "values"
    shape: tuple[int, ...]
    data: str

    def __post_init__(self) -> None:
        """Raise DslError unless ``data`` is base64 of as many numbers as ``shape`` has elements."""
        try:
            size = len(base64.b64decode(self.data, validate=True))
        except binascii.Error:
            size = -1
        if size not in (4 * prod(self.shape), 8 * prod(self.shape)):
            raise DslError(f"values: expected base64 of {prod(self.shape)} float32 or float64 numbers", loc=here())

    @classmethod
    def of(cls, array: Any) -> Values:
        """Return the filler of finite numbers: float32 if that is exact, else float64. Raise ValueError for others."""
        try:
            numbers = np.asarray(array, np.float64)
        except (TypeError, ValueError):
            raise ValueError("no array of numbers") from None
        if not numbers.size:
            raise ValueError("an array without elements")
        if not np.abs(numbers).max() <= np.finfo(np.float32).max:  # NaN is not
            raise ValueError("an element that is no finite float32 number")
        single = numbers.astype("<f4")
        data = single if np.array_equal(single, numbers) else numbers.astype("<f8")
        return cls(numbers.shape, base64.b64encode(data.tobytes()).decode())

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        data = base64.b64decode(self.data)
        return np.frombuffer(data, f"<f{len(data) // prod(self.shape)}").reshape(self.shape).astype(np.float64)


FILLERS: tuple[type[Filler], ...] = (Constant, Uniform, Gaussian, Xavier, Msra, Values)

Role = Literal["x", "state", "static", "weight"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Input(Leaf):
    """An array that the caller feeds. With ``fill`` the caller may omit the array, which is then drawn in each pass.
    ``values`` is the range of its elements."""

    name = "input"
    fill: Filler | None = None
    values: Domain | None = None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        domains = (IntegerRange(0, 4), IntegerRange(1, 2, -1), RealRange(0.5, 2.0))
        fill, values = draw.choice(((None, None), (Constant(0.5), None), *((None, domain) for domain in domains)))
        return Sample(cls(sample_type(draw).shape, fill, values), ())


@dataclass(frozen=True)
class Param(Leaf):
    """A trained array. ``lr_mult`` and ``decay_mult`` scale the solver's learning rate and weight decay for it."""

    name = "param"
    fill: Filler = Constant(0.0)
    lr_mult: float = 1.0
    decay_mult: float = 1.0

    @property
    def fixed(self) -> bool:
        """Whether the model fixes its values, so that they are not trained."""
        return isinstance(self.fill, Values) and self.lr_mult == self.decay_mult == 0

    def infer(self) -> Types:
        if isinstance(self.fill, Values) and self.fill.shape != self.shape:
            raise ShapeError(f"param: the array is {TensorType(self.fill.shape)}, expected {TensorType(self.shape)}")
        return super().infer()

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape), ())


@dataclass(frozen=True)
class Arg(Leaf):
    """An argument of a scan's body. ``role`` is one of

    - ``x``: this step's slice of a sequence,
    - ``state``: the previous step's value (the initial one at the first step),
    - ``static``: the same value at every step,
    - ``weight``: the same value at every step, computed from parameters alone.
    """

    name = "arg"
    role: Role = "x"

    def infer(self) -> Types:
        if self.role not in ROLES:
            raise ShapeError(f"arg: role must be one of {', '.join(ROLES)}, found {self.role!r}")
        return super().infer()

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice(ROLES)), ())


@dataclass(frozen=True)
class Full(Leaf):
    """An array whose every element is ``value``."""

    name = "full"
    value: float = 0.0

    def eval(self) -> Arrays:
        return (np.full(self.shape, self.value),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((0.0, 1.0, -0.5))), ())
