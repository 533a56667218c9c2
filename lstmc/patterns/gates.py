"""Gates of a step: functions of sums of W x, R h and b.

A gate's function may be written with several ops (a hard sigmoid, clipping before the function).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lstmc.ir import Ref
from lstmc.patterns.polynomial import Atom, Clip, Columns, Function, Monomial, Polynomial, Product, Weight, without
from lstmc.patterns.recognised import Activation, Clipped, Difference, Entering, Gate, HardSigmoid
from lstmc.patterns.step import ONE, Mismatch, Step


def activation_of(function: Function) -> tuple[Activation, Polynomial] | None:
    """Return a gate's activation and its operand; None for a clip that is not a hard sigmoid's."""
    if not isinstance(function.op, Clip):
        held = _held(function.operand)
        if held is None:
            return function.op, function.operand
        clip, low, inner = held
        return Clipped(function.op, low, low + clip.high), inner + Polynomial.constant(low)
    slopes = {value for monomial, value in function.operand if monomial}
    if function.op.high != 1 or len(slopes) != 1:
        return None
    (slope,) = slopes
    offset = sum(value for monomial, value in function.operand if not monomial)
    operand = Polynomial.of({monomial: 1.0 for monomial, _ in function.operand if monomial})
    held = _held(operand)
    if held is None:
        return HardSigmoid(slope, offset), operand
    clip, _, inner = held
    low = -clip.high / 2  # of both bounds together with the offset one is known; the usual ones are alike
    clipped = Clipped(HardSigmoid(slope, offset - slope * low), low, -low)
    return clipped, inner + Polynomial.constant(low)


def _held(formula: Polynomial) -> tuple[Clip, float, Polynomial] | None:
    """Return the clip of a clipped formula, its lower bound, and the formula less that bound."""
    low = sum(value for monomial, value in formula if not monomial)
    atoms = (formula - Polynomial.constant(low)).single
    if atoms is None or len(atoms) != 1 or not isinstance(atoms[0], Function):
        return None
    return (atoms[0].op, low, atoms[0].operand) if isinstance(atoms[0].op, Clip) else None


@dataclass(frozen=True)
class Gates:
    """A reader of the gates of a step; ``resets`` has the factor of each state, from the first gate that was read."""

    step: Step
    h: Ref
    resets: Mapping[Ref, Monomial]

    def gate(self, function: Function, cell: Monomial | None = None, skipped: Collection[Monomial] = ()) -> Gate:
        """Return the gate that a function is. ``cell`` is the operand of a peephole; ``skipped`` terms are no part of
        the gate.

        Raises :class:`~lstmc.patterns.Mismatch` for a term that no gate has.
        """
        if not self._all_units(function.operand_place.columns):
            raise self.step.mismatch_at(f"a gate of {self._units} units", function.operand_place)
        activation, terms = self.opened(function)
        entering: list[Entering] = []
        recurrent = []
        biases = []
        added = []
        peephole, constant = None, 0.0
        for monomial, coefficient in terms:
            if monomial in skipped and coefficient == 1:
                continue
            atom = monomial[0] if len(monomial) == 1 else None
            seen = without(monomial, cell) if cell else None
            if not monomial:
                constant = coefficient
            elif coefficient != 1:
                raise self._no_term(function)
            elif isinstance(atom, Product) and self._all_units(atom.matrix.rows) and not atom.recurrent:
                entering.append(Entering(atom.matrix, atom.operand_place))
            elif isinstance(atom, Product) and self._all_units(atom.matrix.rows):
                self._check_operand(atom)
                recurrent.append(atom.matrix)
            elif atom is not None and self.is_vector(atom):
                biases.append(atom.place)
            elif atom is not None and not atom.recurrent:
                added.append(atom.place)
            elif peephole is None and seen is not None and len(seen) == 1 and self.is_vector(seen[0]):
                peephole = seen[0].place
            else:
                raise self._no_term(function)
        return Gate(
            activation,
            function.operand_place,
            tuple(entering),
            tuple(recurrent),
            tuple(biases),
            peephole,
            tuple(added),
            constant,
        )

    def opened(self, function: Function) -> tuple[Activation, Polynomial]:
        """Return a gate's function and the terms of its operand. Raises :class:`~lstmc.patterns.Mismatch`."""
        activation = activation_of(function)
        if activation is None:
            raise self.step.mismatch_at("a function such as sigmoid", function.place)
        return activation

    def _no_term(self, function: Function) -> Mismatch:
        return self.step.mismatch_at("a sum of W x, R h and b", function.operand_place)

    @property
    def _units(self) -> int:
        return self.step.body.type(self.h).shape[-1]

    def _all_units(self, columns: Columns) -> bool:
        """Return whether columns have one number for each unit; a single number is broadcast, and no gate's own."""
        return columns is not None and columns[1] - columns[0] == self._units

    def is_vector(self, atom: Atom) -> bool:
        """Return whether an atom is a weight with a number for each unit."""
        place = atom.place
        if not isinstance(atom, Weight) or not self._all_units(place.columns):
            return False
        return all(size == 1 for size in self.step.equations.graph(place.where).type(place.ref).shape[:-1])

    def _check_operand(self, product: Product) -> None:
        h = self.step.atom(self.h)
        read = product.operand.single
        factor = None if read is None else without(read, (h,))
        if factor is None or not all(self.step.by_rows(atom) for atom in factor):
            raise self.step.mismatch_at(f"a product of the state %{self.h.node}", product.place)
        ((other, expected),) = self.resets.items()
        if factor != expected:
            factors = [(self.h, factor), (other, expected)][: 1 + (other != self.h)]
            raise Mismatch(
                Difference(
                    "every state to be multiplied by the same indicator, or none",
                    " and ".join(self._times(state, by) for state, by in factors),
                    self.step.node.loc,
                )
            )

    def _times(self, state: Ref, by: Monomial) -> str:
        names = [self.step.equations.graph(atom.place.where).value_name(atom.place.ref) for atom in by]
        return " times ".join(f"%{name}" for name in (state.node, *names))


def gate_or_rest(formula: Polynomial) -> tuple[Function | None, bool]:
    """Return the gate that a formula is, and whether it is one minus the gate; None if it is neither."""
    for inverted, value in ((False, formula), (True, ONE - formula)):
        atoms = value.single
        if atoms is not None and len(atoms) == 1 and isinstance(atoms[0], Function):
            return atoms[0], inverted
    return None, False


def new_content(gate: Function, new: Polynomial, direct: bool) -> Function | None:
    """Return n of a term ``new``, which is gate * n (``direct``) or (1 - gate) * n."""
    times, rest = new.divided((gate,))
    atoms = (times if direct else rest).single
    if atoms is None or len(atoms) != 1 or not isinstance(atoms[0], Function):
        return None
    n = Polynomial.atom(atoms[0])
    factor = Polynomial.atom(gate) if direct else ONE - Polynomial.atom(gate)
    return atoms[0] if factor * n == new else None
