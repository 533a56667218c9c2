"""The report of a comparison: the difference of each array, its tolerance, and the arrays that were not compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

NOT_FINITE = "the model itself is not finite"  # the begin of the remark that says where
Key = tuple[str, str]  # the kind of a difference, and its name
VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
LEAST_TOLERANCE = 1e-6  # some roundings of float32, and the error of a library's exp
# a tolerance as a multiple of the effect of rounding in a few runs: 5,500 results of real Caffe reached 0.9 times it
MARGIN = 2


@dataclass(frozen=True)
class Difference:
    """The difference of the arrays of one name, with ``*`` for every step. ``kind`` is output, blob, gradient, or:
    function, the result of a function of the written file, exact to the bit; setting, of training, which no array of a
    run shows, listed only if it differs; numbers, an output in lower precision."""

    kind: str
    name: str
    count: int
    absolute: float
    relative: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.relative <= self.tolerance  # NaN does not pass


@dataclass(frozen=True)
class NotCompared:
    """``count`` arrays of one name, with ``*`` for every step, that an executor did not return, and the reason."""

    kind: str
    name: str
    count: int
    reason: str


@dataclass(frozen=True)
class Report:
    """One executor's differences, and the arrays that it did not return."""

    executor: str
    differences: tuple[Difference, ...]
    not_compared: tuple[NotCompared, ...] = ()
    remarks: tuple[str, ...] = ()  # what the comparison cannot show, and why a difference may be no fault of the net's
    device: str = ""  # as in the execution
    rounding: tuple[Difference, ...] = ()  # those that pass because rounding alone moves the model as far
    files: tuple[str, ...] = ()  # of the net, that the executor ran: none for the interpreter
    against: str = "the float64 interpreter"
    found: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # the files that were compared

    @property
    def place(self) -> str:
        """The executor, with the name of its GPU, and the files and functions of the net that it ran."""
        functions = ", ".join(d.name for d in self.differences if d.kind == "function")
        more = ": ".join(filter(None, (", ".join(filter(None, (self.device, *self.files))), functions)))
        return f"{self.executor} ({more})" if more else self.executor

    @property
    def passed(self) -> bool:
        """Whether all compared arrays are within their tolerances."""
        return all(difference.passed for difference in self.differences)

    def verdict(self) -> str:
        """The result in a line: the numbers of equal arrays, and of arrays that were not compared, with the reasons."""
        count, failed = len(self.differences), sum(not difference.passed for difference in self.differences)
        said = f"{failed} of {count} differ" if failed else f"all {count} agree" if count else "nothing was compared"
        if count == 1 and not failed:
            said = f"1 {self.differences[0].kind} agrees"
        moved = [difference for difference in self.differences if difference.kind == "numbers"]
        for most in sorted(moved, key=lambda each: -each.relative)[:1]:
            said += f"; its numbers move {most.name} by {most.relative:.1e}, allowed {most.tolerance:.0e}"
        if not self.not_compared:
            return said
        groups: dict[tuple[str, str], int] = {}
        for gap in self.not_compared:
            groups[gap.kind, gap.reason] = groups.get((gap.kind, gap.reason), 0) + 1
        listed = (f"{n} {kind}{'s' if n > 1 else ''} ({reason})" for (kind, reason), n in groups.items())
        return f"{said}; not compared: {', '.join(listed)}"


def bounded(
    compared: Sequence[Difference],
    written: Iterator[Mapping[Key, float]],
    own: Iterator[Mapping[Key, float]],
    exact: bool,
    by_written: Collection[str] = ("blob",),
) -> list[Difference]:
    """Return the differences, with larger tolerances for those beyond theirs: a multiple of the effect of rounding.

    A kind in ``by_written``, such as a blob, is compared with the ``written`` graph, whose rounding gives its
    tolerance; outputs and gradients with the model, by the rounding of the model's ``own`` graph: a pass must not
    increase the rounding of a net. If values are ``exact`` float32, each tolerance is first set to LEAST_TOLERANCE.
    Runs with random rounding stop as soon as all differences are within their tolerances.
    """
    kinds = ("output", "blob", "gradient") if exact else ()
    differences = [replace(d, tolerance=LEAST_TOLERANCE) if d.kind in kinds else d for d in compared]
    limits = [inf if d.kind in by_written else d.tolerance for d in compared]
    for runs, limited in ((written, limits), (own, [inf] * len(differences))):
        while not all(d.passed for d in differences) and (moved := next(runs, None)) is not None:
            bounds = [
                min(MARGIN * moved.get((d.kind, d.name), 0.0), most)
                for d, most in zip(differences, limited, strict=True)
            ]
            differences = [
                d if d.passed else replace(d, tolerance=max(d.tolerance, b))
                for d, b in zip(differences, bounds, strict=True)
            ]
    return differences
