"""Elementwise functions by their names in ONNX, PyTorch and Keras: for importers and backends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lstmc.ops import CORE, Op, Pointwise

POINTWISE: Mapping[str, type[Op]] = {op.name: op for op in CORE if issubclass(op, Pointwise)}
Framework = Literal["onnx", "torch", "keras"]


@dataclass(frozen=True)
class Foreign:
    """A function of another framework, and its ``settings`` with defaults (None: required), in the order of the op's
    fields.
    They are attributes of an operator of ONNX, positional arguments in PyTorch, or keys of the configuration in
    ``keras.ops``. With ``steepness`` the first setting k is no coefficient: the function is f(k x) / k."""

    name: str
    settings: Mapping[str, float | None] = field(default_factory=dict)
    steepness: bool = False


@dataclass(frozen=True)
class Elementwise:
    """A function of the language or of the importers, as each framework has it; None for a framework without it.
    ``numbers`` are its coefficients in a framework without settings for them. ``cell``: it is an activation of ONNX's
    recurrent layers. ``activations`` are its names as an activation of Keras's layers."""

    function: str
    onnx: Foreign | None = None
    torch: Foreign | None = None
    keras: Foreign | None = None
    activations: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    cell: bool = False
    operator: bool = True  # whether ONNX has it as an operator, and not only as an activation of recurrent layers


def _f(name: str, **settings: float | None) -> Foreign:
    return Foreign(name, settings)


SELU = (1.6732632423543772, 1.0507009873554805)
ELEMENTWISE = (
    Elementwise("affine", activations=("linear",), numbers=(1.0, 0.0)),
    Elementwise("sigmoid", _f("Sigmoid"), _f("sigmoid"), _f("Sigmoid"), ("sigmoid",), cell=True),
    Elementwise("tanh", _f("Tanh"), _f("tanh"), _f("Tanh"), ("tanh",), cell=True),
    Elementwise("relu", _f("Relu"), _f("relu"), _f("Relu"), ("relu",), cell=True),
    Elementwise("softsign", _f("Softsign"), None, _f("Softsign"), ("softsign",), cell=True),
    Elementwise(
        "softplus", _f("Softplus"), Foreign("softplus", {"beta": 1.0}, steepness=True), _f("Softplus"), ("softplus",),
        cell=True,
    ),
    Elementwise(
        "leaky_relu", _f("LeakyRelu", alpha=0.01), _f("leaky_relu", negative_slope=0.01),
        _f("LeakyRelu", negative_slope=0.2), ("leaky_relu",), (0.2,), cell=True,
    ),
    Elementwise("elu", _f("Elu", alpha=1.0), None, _f("Elu", alpha=1.0), ("elu",), (1.0,), cell=True),
    Elementwise(
        "hard_sigmoid", _f("HardSigmoid", alpha=0.2, beta=0.5), _f("hardsigmoid"), _f("HardSigmoid"), (), (1 / 6, 0.5),
        cell=True,
    ),
    Elementwise("affine", _f("Affine", alpha=None, beta=None), cell=True, operator=False),
    Elementwise("scaled_tanh", _f("ScaledTanh", alpha=None, beta=None), cell=True, operator=False),
    Elementwise("clip", None, _f("relu6"), _f("Relu6"), ("relu6",), (0.0, 6.0)),
    Elementwise("selu", _f("Selu", alpha=SELU[0], gamma=SELU[1]), _f("selu"), None, ("selu",), SELU),
    Elementwise("silu", None, _f("silu"), _f("Silu"), ("swish", "silu")),
    Elementwise("exp", _f("Exp"), _f("exp"), _f("Exp"), ("exponential",)),
    Elementwise("log_sigmoid", None, _f("log_sigmoid"), _f("LogSigmoid"), ("log_sigmoid",)),
    Elementwise("mish", _f("Mish"), _f("mish"), _f("Mish"), ("mish",)),
    Elementwise("gelu", activations=("gelu",)),
    Elementwise(
        "clip", None, _f("hardtanh", min_val=-1.0, max_val=1.0), _f("HardTanh"), ("hard_tanh",), (-1.0, 1.0)
    ),
    Elementwise("clip", None, None, _f("Clip", x_min=None, x_max=None)),
    Elementwise("abs", _f("Abs"), _f("abs"), _f("Abs")),
    Elementwise("abs", keras=_f("Absolute")),
    Elementwise("log", _f("Log"), _f("log"), _f("Log")),
    Elementwise("sin", _f("Sin"), _f("sin"), _f("Sin")),
    Elementwise("cos", _f("Cos"), _f("cos"), _f("Cos")),
    Elementwise("tan", _f("Tan"), _f("tan"), _f("Tan")),
    Elementwise("sinh", _f("Sinh"), _f("sinh"), _f("Sinh")),
    Elementwise("cosh", _f("Cosh"), _f("cosh"), _f("Cosh")),
    Elementwise("asinh", _f("Asinh"), _f("asinh"), _f("Arcsinh")),
    Elementwise("acosh", _f("Acosh"), _f("acosh"), _f("Arccosh")),
    Elementwise("atanh", _f("Atanh"), _f("atanh"), _f("Arctanh")),
    Elementwise("erf", _f("Erf"), _f("erf"), _f("Erf")),
    Elementwise("floor", _f("Floor"), _f("floor"), _f("Floor")),
    Elementwise("ceil", _f("Ceil"), _f("ceil"), _f("Ceil")),
    Elementwise("round", _f("Round"), _f("round")),
    Elementwise("trunc", None, _f("trunc"), _f("Trunc")),
    Elementwise("sign", _f("Sign"), _f("sign"), _f("Sign")),
    Elementwise("log1p", None, _f("log1p"), _f("Log1p")),
    Elementwise("expm1", None, _f("expm1"), _f("Expm1")),
    Elementwise("log2", None, _f("log2"), _f("Log2")),
    Elementwise("log10", None, _f("log10"), _f("Log10")),
    Elementwise("exp2", None, _f("exp2"), _f("Exp2")),
    Elementwise("celu", _f("Celu", alpha=1.0), _f("celu", alpha=1.0), _f("Celu", alpha=1.0), ("celu",), (1.0,)),
    Elementwise("hard_swish", _f("HardSwish"), _f("hardswish"), _f("HardSilu"), ("hard_silu", "hard_swish")),
    Elementwise("swish", _f("Swish", alpha=1.0)),
    Elementwise("thresholded_relu", _f("ThresholdedRelu", alpha=1.0)),
    Elementwise("power", _f("Sqrt"), _f("sqrt"), _f("Sqrt"), numbers=(0.5,)),
    Elementwise("power", None, _f("rsqrt"), _f("Rsqrt"), numbers=(-0.5,)),
    Elementwise("power", _f("Reciprocal"), _f("reciprocal"), _f("Reciprocal"), numbers=(-1.0,)),
    Elementwise("power", None, _f("square"), _f("Square"), numbers=(2.0,)),
    Elementwise("affine", _f("Neg"), _f("neg"), _f("Negative"), numbers=(-1.0, 0.0)),
)  # fmt: skip


def functions_of(framework: Framework) -> Iterator[tuple[Foreign, Elementwise]]:
    """Yield the name and settings of each function that a framework has, with the function's row of the table."""
    for row in ELEMENTWISE:
        foreign: Foreign | None = getattr(row, framework)
        if foreign is not None:
            yield foreign, row


def ops_of(framework: Framework) -> Iterator[tuple[type[Op], Foreign]]:
    """Yield each core op that a function of the framework computes, whatever its attributes are, and this function."""
    for foreign, row in functions_of(framework):
        if row.operator and row.function in POINTWISE and (foreign.settings or not row.numbers):
            yield POINTWISE[row.function], foreign
