"""Reasons why a model cannot be imported, as data: collected over the whole source, and raised together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lstmc.errors import Argument, LstmcError, worded
from lstmc.importers.ir.values import Shape, ShapeProblem, open_sizes

__all__ = ["Refusal", "RefusedError", "SourceError"]
SHAPE = "give shape, or check the model"
PIN = "give the sizes of the inputs, as in shape input=1,576"


@dataclass(frozen=True)
class Refusal:
    """A part of a model that cannot be expressed: node, attribute, its value, reason and remedy. For a node that cannot
    be streamed attribute and value are ''. ``line`` is the line of the model's code, ``FILE:LINE``, or ''."""

    node: str
    attribute: str
    value: str
    why: str
    mend: str
    line: str = ""

    def __str__(self) -> str:
        what = f"{self.attribute} = {self.value}" if self.attribute else self.value
        place = f"{self.node} at {self.line}" if self.line else self.node
        return f"{place}: {f'{what}: ' if what else ''}{self.why}; {self.mend}"


class SourceError(LstmcError):
    """Raised for a file of a trained model that cannot be read."""


class RefusedError(LstmcError):
    """Raised for a model that cannot be expressed completely. ``inputs`` are the inputs of a graph, as far as it was
    read; ``marked_refusals`` are the refusals before options are worded for Python or the command line."""

    def __init__(
        self, origin: str, refusals: Sequence[Refusal], what: str = "imported", inputs: Mapping[str, Shape] = {}
    ) -> None:
        """Write a message with the number of refusals, each of them a note; ``what`` ends "cannot be ..."."""
        count = f"{len(refusals)} problems" if len(refusals) > 1 else "1 problem"
        super().__init__(f"{origin} cannot be {what}: {count}", notes=[*map(str, refusals)])
        self.origin, self.what, self.inputs = origin, what, dict(inputs)
        self.marked_refusals = tuple(refusals)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals, with the names of arguments as Python has them."""
        return tuple(replace(one, why=worded(one.why), mend=worded(one.mend)) for one in self.marked_refusals)

    @classmethod
    def of_graph(cls, origin: str, refusals: Sequence[Refusal], inputs: Mapping[str, Shape]) -> RefusedError:
        """Return the error for a graph; if an input has an unknown size, the remedy names the shape to give."""
        fixed = [_fixed(name, shape) for name, shape in inputs.items() if open_sizes(shape)]
        names = dict.fromkeys(str(size).upper() for shape in inputs.values() for size in open_sizes(shape))
        mend = f"fix the sizes by {' and '.join(map(str, fixed))}, with numbers for {', '.join(names)}"
        mended = [replace(one, mend=mend) if fixed and one.mend in (PIN, SHAPE) else one for one in refusals]
        return cls(origin, mended, inputs=inputs)

    def beside(self, other: RefusedError) -> RefusedError:
        """Return this error with refusals of ``other``, a reading at other sizes, at nodes not refused here."""
        more = [one for one in other.marked_refusals if one.node not in {own.node for own in self.marked_refusals}]
        return RefusedError(self.origin, [*self.marked_refusals, *more], self.what, self.inputs)

    def of_stream(self, inputs: Mapping[str, Shape]) -> RefusedError:
        """Return this error, of a net to be streamed, with a note if an open size may be a loop's number of steps."""
        fixed = [_fixed(name, shape) for name, shape in inputs.items() if open_sizes(shape)]
        if not fixed:
            return self
        note = "if it has a loop of a fixed number of steps, give this number by"
        return self.located(notes=[f"{note} {' and '.join(map(str, fixed))}"])

    def __reduce__(self) -> tuple[type[RefusedError], tuple[object, ...]]:
        return type(self), (self.origin, self.marked_refusals, self.what, self.inputs)


def _fixed(name: str, shape: Shape) -> Argument:
    """Return the argument that gives an input its shape, with the names of open sizes in capitals."""
    sizes = [str(size).upper() for size in shape]
    return Argument("shapes", f"{name}={','.join(sizes)}", f'shapes={{"{name}": ({", ".join(sizes)})}}')


class Refused(Exception):
    """A refusal without its node; :meth:`at` makes a :class:`Refusal` when the node is known."""

    def __init__(self, attribute: str, value: str, why: str, mend: str) -> None:
        super().__init__(why)
        self.attribute, self.value, self.why, self.mend = attribute, value, why, mend

    def at(self, node: str, line: str = "") -> Refusal:
        return Refusal(node, self.attribute, self.value, self.why, self.mend, line)

    @classmethod
    def of(cls, error: Refused | ShapeProblem) -> Refused:
        if isinstance(error, cls):
            return error
        return cls("shapes", str(error), "they do not fit, or are not known", SHAPE)
