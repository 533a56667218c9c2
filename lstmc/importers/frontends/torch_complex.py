"""Complex numbers of PyTorch as two real values, and discrete Fourier transforms as products with constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import waves
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.frontends.torch_elements import Handler, Torch
from lstmc.importers.frontends.torch_shape_ops import UNCHANGED
from lstmc.importers.ir.values import axis_in, number
from lstmc.importers.refusal import Refused
from lstmc.ops import Array


@dataclass(frozen=True)
class Complex:
    """A complex value by its real and its imaginary part."""

    real: Operand
    imag: Operand


def _real(x: Any) -> Any:
    """Return the real part of a value, or of each value in a list; anything else unchanged."""
    return x.real if isinstance(x, Complex) else [*map(_real, x)] if isinstance(x, list) else x


def _imag(t: Torch, x: Any) -> Any:
    """Return the imaginary part of a value, or of each value in a list: zeros for a real value."""
    if isinstance(x, Complex):
        return x.imag
    if isinstance(x, list):
        return [_imag(t, one) for one in x]
    return t.affine(x, 0.0, 0.0) if isinstance(x, str) else np.zeros(x.shape)


def is_complex(arguments: Sequence[Any], options: Mapping[str, Any], values: Sequence[Any]) -> bool:
    """Return whether an operator has complex operands, or a complex type among its arguments."""
    operands = (*values, *arguments)
    return any(isinstance(one, Complex | complex) for one in operands) or _has_complex_type(arguments, options)


def _has_complex_type(arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    return any(getattr(one, "is_complex", False) is True for one in (*arguments, *options.values()))


def of_complex(t: Torch, target: str, handler: Handler, arguments: Sequence[Any], options: Any) -> Any:
    """Return an operator's result on complex operands, by its ``handler`` on parts, or raise :class:`Refused`."""
    xs = [Complex(np.asarray(x.real), np.asarray(x.imag)) if isinstance(x, complex) else x for x in arguments]
    if target in _OF_COMPLEX:
        return _OF_COMPLEX[target](t, *xs, **options)
    name = target.split(".")[1]
    first, *settings = xs
    if target in UNCHANGED:
        return first
    if name in ("_to_copy", "to") and _has_complex_type(settings, options):
        return Complex(_real(first), _imag(t, first))
    if name in _OF_PARTS:
        settings = _real(settings)
        real = handler(t, _real(first), *settings, **options)
        if name in ("pad", "constant_pad_nd"):  # padding by a real number: the imaginary part gets 0
            settings[-1] = 0.0
        imag = handler(t, _imag(t, first), *settings, **options)
        return [*map(Complex, real, imag)] if isinstance(real, list) else Complex(real, imag)
    places = [place for place, x in enumerate(xs) if place < 2 or name == "einsum"]
    if name in ("add", "sub", "rsub"):
        return _sum(t, handler, xs, options)
    if name in _PRODUCTS and len(places) >= 2:
        return _product(t, handler, name, xs, options)
    why, mend = f"{name} of complex numbers is not written", "write it in real and imaginary parts"
    raise Refused("operand", "complex", why, mend)


def _sum(t: Torch, handler: Handler, xs: Sequence[Any], options: Any) -> Complex:
    """Return a sum or difference of two operands, each complex or real."""
    x, y, *rest = xs
    real = handler(t, _real(x), _real(y), *rest, **options)
    parts = [z.imag if isinstance(z, Complex) else np.asarray(0.0) for z in (x, y)]
    if all(isinstance(part, np.ndarray) for part in parts):
        parts[0] = t.value(parts[0])
    imag = handler(t, *parts, *rest, **options)
    return Complex(real, t.expand(imag, t.shape(real)))


def _product(t: Torch, handler: Handler, name: str, xs: Sequence[Any], options: Any) -> Complex:
    """Return a product or quotient of two operands, each complex or real. The operands of an einsum are in a list."""
    (x, y), rest = (xs[1], xs[2:]) if name == "einsum" else (xs[:2], xs[2:])
    if name == "div" and isinstance(y, Complex):
        return _product(t, lambda t, a, b, *_, **__: t.binary("mul", a, b), "mul", [x, _inverse(t, y)], {})

    def of(a: Any, b: Any) -> Operand:
        operands = (xs[0], [a, b]) if name == "einsum" else (a, b)
        made: Operand = handler(t, *operands, *rest, **options)
        return made

    if not isinstance(y, Complex):
        return Complex(of(x.real, y), of(x.imag, y))
    if not isinstance(x, Complex):
        return Complex(of(x, y.real), of(x, y.imag))
    real = t.binary("sub", of(x.real, y.real), of(x.imag, y.imag))
    return Complex(real, t.binary("add", of(x.real, y.imag), of(x.imag, y.real)))


def _inverse(t: Torch, z: Complex) -> Complex:
    power = _power(t, z)
    return Complex(t.binary("div", z.real, power), t.binary("div", _negated(t, z.imag), power))


def _power(t: Torch, z: Complex) -> str:
    """Return the squared magnitude of z."""
    return t.binary("add", t.apply("power", z.real, 2.0), t.apply("power", z.imag, 2.0))


def _negated(t: Torch, x: Operand) -> str:
    return t.affine(x, -1.0, 0.0)


def _polar(t: Torch, size: Any, angle: Any) -> Complex:
    return Complex(*(t.binary("mul", size, t.apply(name, angle)) for name in ("cos", "sin")))


# functions of each part alone
_OF_PARTS = frozenset(
    """
    view reshape _unsafe_view flatten unflatten transpose mT t permute movedim neg unsqueeze squeeze slice select narrow
    cat stack expand expand_as repeat flip roll split split_with_sizes chunk unbind sum mean index index_select unfold
    constant_pad_nd pad cumsum
    """.split()  # noqa: SIM905
)
_PRODUCTS = frozenset({"mul", "div", "matmul", "mm", "bmm", "einsum", "dot", "mv"})
_OF_COMPLEX: dict[str, Handler] = {
    "aten.view_as_real.default": lambda t, z: t.stack([z.real, z.imag], -1),
    "aten.real.default": lambda t, z: z.real,
    "aten.imag.default": lambda t, z: z.imag,
    "aten.abs.default": lambda t, z: t.apply("power", _power(t, z), 0.5),
    "aten.reciprocal.default": _inverse,
    **{f"aten.{n}.default": lambda t, z: Complex(z.real, _negated(t, z.imag)) for n in ("_conj", "_conj_physical")},
    "aten.resolve_conj.default": lambda t, z: z,
    "aten.exp.default": lambda t, z: _polar(t, t.apply("exp", z.real), z.imag),
    "aten._fft_c2r.default": lambda t, *xs: _to_real(t, *xs),
    "aten._fft_c2c.default": lambda t, *xs: _transform(t, *xs),
}


def _transformed(t: Torch, x: Operand, axis: int, matrix: Array, name: str) -> str:
    return t.along_last(x, axis, lambda y: t.linear(y, number(matrix, f"{name} of a Fourier transform")))


def _scale(normalization: int, size: int) -> float:
    return (1.0, 1 / sqrt(size), 1 / size)[normalization]


def _of_real(t: Torch, x: Operand, axes: Sequence[int], normalization: int, onesided: bool) -> Complex:
    """Return the Fourier transform of a real value along axes; with ``onesided`` the last axis keeps half of it."""
    *others, axis = axes
    size = t.size(x, axis)
    cosines, sines = waves(size // 2 + 1 if onesided else size, size, size, _scale(normalization, size))
    z = Complex(_transformed(t, x, axis, cosines, "cosines"), _transformed(t, x, axis, -sines, "sines"))
    return _transform(t, z, others, normalization, True) if others else z


def _transform(t: Torch, z: Complex, axes: Sequence[int], normalization: int, forward: bool) -> Complex:
    """Return the Fourier transform of a complex value along some axes, or its inverse."""
    for axis in axes:
        size = t.size(z.real, axis)
        cosines, sines = waves(size, size, size, _scale(normalization, size))
        sines = -sines if forward else sines

        def of(x: Operand, m: Array, axis: int = axis) -> str:
            return _transformed(t, x, axis, m, "waves")

        real = t.binary("sub", of(z.real, cosines), of(z.imag, sines))
        z = Complex(real, t.binary("add", of(z.real, sines), of(z.imag, cosines)))
    return z


def _to_real(t: Torch, z: Complex, axes: Sequence[int], normalization: int, size: int) -> str:
    """Return the real inverse transform, ``size`` along the last of ``axes``, where z has only half of the values."""
    *others, axis = axes
    z = _transform(t, z, others, normalization, False)
    axis = axis_in(axis, t.rank(z.real))
    count = size // 2 + 1
    cosines, sines = waves(size, count, size, _scale(normalization, size))
    twice = np.where((np.arange(count) == 0) | (2 * np.arange(count) == size), 1.0, 2.0)
    parts = [t.cut(x, axis, 0, count) for x in (z.real, z.imag)]
    real = _transformed(t, parts[0], axis, cosines * twice, "cosines")
    return t.binary("add", real, _transformed(t, parts[1], axis, -sines * twice, "sines"))


HANDLERS: dict[str, Handler] = {
    "aten.complex.default": lambda t, x, y: Complex(x, y),
    "aten.polar.default": _polar,
    "aten.view_as_complex.default": lambda t, x: Complex(t.select(x, -1, 0), t.select(x, -1, 1)),
    "aten.view_as_real.default": _OF_COMPLEX["aten.view_as_real.default"],
    **{f"aten.{name}.default": lambda t, x: x for name in ("real", "_conj", "_conj_physical", "resolve_conj")},
    "aten._fft_r2c.default": _of_real,
    "aten._fft_c2r.default": _to_real,
    "aten._fft_c2c.default": _transform,
}
