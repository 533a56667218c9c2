"""The graph of one step as equations in LaTeX, for the pages that are generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import isclose
from types import MappingProxyType

from lstmc.ir import Graph, Node, Ref
from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Arg,
    Concat,
    Conv,
    Exp,
    Full,
    Linear,
    Log,
    Maximum,
    Mul,
    Op,
    Power,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Split,
    Sub,
    Sum,
    Tanh,
    Transpose,
)
from lstmc.source import assigned_names

MOST, LONGEST = 9, 150  # equations, and letters of each, that a person reads at once
SUM, MATRIX, PRODUCT, WHOLE = range(4)  # how well a text holds together: a + b, W x, a * b, a name or a call
NAMED = {
    Sigmoid: r"\sigma",
    Tanh: r"\tanh",
    Relu: r"\mathrm{relu}",
    Log: r"\ln",
    Maximum: r"\max",
    Split: r"\mathrm{split}",
    Softmax: r"\mathrm{softmax}",
    Conv: r"\mathrm{conv}",
}
INVISIBLE = (Reshape,)  # the same elements


def equations(step: Graph, symbols: Mapping[float, str] = MappingProxyType({})) -> str | None:
    """Return the equations of a step as one display, or None where they would be hard to read: too many, too long, with
    ops that have no usual sign, or with parameters of cells inside it.

    A value that a person named, or that several read, has an equation; the others stand where they are read. Numbers
    that ``symbols`` has are written so: a size of the example, say, as ``n``.
    """
    try:
        lines = _Equations(step, symbols).lines()
    except _NoSign:
        return None
    if len(lines) > MOST or any(len(line) > LONGEST for line in lines):
        return None
    return "$$\n\\begin{array}{rcl}\n" + " \\\\\n".join(lines) + "\n\\end{array}\n$$"


class _NoSign(Exception):
    """Something that equations have no usual sign for."""


class _Equations:
    def __init__(self, step: Graph, symbols: Mapping[float, str]) -> None:
        self._step, self._symbols = step, symbols
        self._read = Counter(ref for node in step for ref in step.args(node.name))
        self._states = {
            node.names[0].removesuffix("_prev") for node in step if isinstance(node.op, Arg) and node.op.role == "state"
        }
        self._texts: dict[Ref, tuple[str, int]] = {}
        self._unnamed = 0

    def lines(self) -> list[str]:
        found = []
        outputs = {output.ref for output in self._step.outputs}
        for node in self._step:
            refs = [Ref(node.name, i) for i in range(len(node.names))]
            if isinstance(node.op, Arg):
                self._texts[refs[0]] = self._symbol(node.names[0], node.op.role), WHOLE
                continue
            text, binding = self._text(node)
            inline = len(refs) == 1 and self._is_unnamed(node) and self._read[refs[0]] == 1 and refs[0] not in outputs
            invisible = isinstance(node.op, INVISIBLE) and (self._is_unnamed(node) or binding == WHOLE)
            if inline or invisible:
                self._texts[refs[0]] = text, binding
                continue
            if len(refs) > 1 and self._is_unnamed(node):
                raise _NoSign
            symbols = [self._own_symbol(node, name) for name in node.names]
            self._texts |= {ref: (symbol, WHOLE) for ref, symbol in zip(refs, symbols, strict=True)}
            left = symbols[0] if len(symbols) == 1 else f"({', '.join(symbols)})"
            found.append(f"{left} &=& {text}")
        for output in self._step.outputs:
            name, text = output.name, self._texts[output.ref][0]
            if name and self._symbol(name, "next") != text:
                found.append(f"{self._symbol(name, 'next')} &=& {text}")
        return found

    def _is_unnamed(self, node: Node) -> bool:
        """Return whether its name is neither a variable that it is assigned to nor an output's."""
        return node.names[0] not in (*assigned_names(node.loc), *(output.name for output in self._step.outputs))

    def _own_symbol(self, node: Node, name: str) -> str:
        if len(node.names) == 1 and self._is_unnamed(node):
            if any(output.ref == Ref(node.name) and not output.name for output in self._step.outputs):
                return "y_{t}"
            self._unnamed += 1
            return f"u_{{{self._unnamed}}}"
        return self._symbol(name, "next" if name in self._states else "")

    def _symbol(self, name: str, role: str) -> str:
        """A name as it is set: ``W_x`` has a subscript, a state and an input the number of the step."""
        if name.count("/") > 1 or name.rpartition("/")[2].startswith("const"):  # a fixed array that nobody named
            raise _NoSign
        base, _, below = name.rpartition("/")[2].removesuffix("_prev").partition("_")
        marks = [below.replace("_", ",")] if below else []
        marks += {"state": ["t-1"], "x": ["t"], "next": ["t"]}.get(role, [])
        letter = base if len(base) == 1 else rf"\mathrm{{{base}}}"
        return letter + (f"_{{{','.join(marks)}}}" if marks else "")

    def _text(self, node: Node) -> tuple[str, int]:
        operands = [self._texts[ref] for ref in self._step.args(node.name)]
        return _written(node.op, operands, self._number)

    def _number(self, value: float) -> str:
        return next((symbol for known, symbol in self._symbols.items() if isclose(known, value)), f"{value:.4g}")


def _written(op: Op, operands: list[tuple[str, int]], number: Callable[[float], str]) -> tuple[str, int]:
    """Return an op on operands, each a text and how it holds together."""
    plain = [text for text, _ in operands]

    def held(i: int, least: int) -> str:
        text, binding = operands[i]
        return text if binding >= least else f"({text})"

    match op:
        case Linear():
            product = f"{held(1, WHOLE)} {held(0, WHOLE)}"
            return (f"{product} + {plain[2]}", SUM) if len(plain) == 3 else (product, MATRIX)
        case Add():
            return f"{plain[0]} + {plain[1]}", SUM
        case Sub():
            return f"{plain[0]} - {held(1, MATRIX)}", SUM
        case Mul():
            return rf"{held(0, PRODUCT)} \odot {held(1, PRODUCT)}", PRODUCT
        case Affine(scale=scale, shift=shift):
            sign, size = "-" if scale < 0 else "", abs(scale)
            scaled = f"{'' if size == 1 else f'{number(size)} '}{held(0, PRODUCT)}"
            if shift == 0:
                return f"{sign}{scaled}", PRODUCT if scale > 0 else SUM
            return (
                f"{number(shift)} - {scaled}"
                if scale < 0
                else f"{scaled} {'-' if shift < 0 else '+'} {number(abs(shift))}"
            ), SUM
        case Power(exponent=exponent):
            return f"{held(0, WHOLE)}^{{{exponent:.4g}}}", PRODUCT
        case Exp():
            return f"e^{{{plain[0]}}}", WHOLE
        case Abs():
            return rf"\left|{plain[0]}\right|", WHOLE
        case Full(value=value):
            return number(value), WHOLE
        case Concat():
            return f"[{'; '.join(plain)}]", WHOLE
        case Transpose():
            return rf"{held(0, WHOLE)}^\top", WHOLE
        case Sum():
            return rf"\textstyle\sum {held(0, PRODUCT)}", PRODUCT
        case Reshape():
            return operands[0]
        case _ if type(op) in NAMED:
            return f"{NAMED[type(op)]}({', '.join(plain)})", WHOLE
    raise _NoSign
