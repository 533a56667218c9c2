"""A node that cannot be expressed, while a graph is read."""

from __future__ import annotations

from lstmc.importers.ir.sizes import ShapeProblem

SHAPE = "give shape, or check the model"
# Errors that wrong values in a file cause while a node is translated. Others are bugs of ours, and stay tracebacks.
MALFORMED = (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError)


class Refused(Exception):
    """A node's refusal without the node; becomes a :class:`~lstmc.importers.refusal.Refusal` where that is known."""

    def __init__(self, attribute: str, value: str, why: str, mend: str) -> None:
        super().__init__(why)
        self.attribute, self.value, self.why, self.mend = attribute, value, why, mend

    @classmethod
    def of(cls, error: Exception, parts: str, mend: str) -> Refused:
        """Return a refusal for an error of :data:`MALFORMED`; ``parts`` of the node are what does not fit together."""
        if isinstance(error, cls):
            return error
        if isinstance(error, ShapeProblem):
            return cls("shapes", str(error), "they do not fit, or are not known", SHAPE)
        return cls(parts, f"{type(error).__name__}: {str(error)[:200]}", "they do not fit together", mend)
