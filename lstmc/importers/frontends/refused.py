"""A node that cannot be expressed, while a graph is read."""

from __future__ import annotations

from lstmc.importers.ir.op import ShapeProblem

SHAPE = "give shape, or check the model"


class Refused(Exception):
    """Becomes a :class:`~lstmc.importers.refusal.Refusal` once it is known which node it is of."""

    def __init__(self, attribute: str, value: str, why: str, mend: str) -> None:
        super().__init__(why)
        self.attribute, self.value, self.why, self.mend = attribute, value, why, mend

    @classmethod
    def of(cls, error: Exception, parts: str, mend: str) -> Refused:
        """What stopped a node: itself; shapes; else ``parts`` of the node that do not fit together, by any error."""
        if isinstance(error, cls):
            return error
        if isinstance(error, ShapeProblem):
            return cls("shapes", str(error), "they do not fit, or are not known", SHAPE)
        return cls(parts, f"{type(error).__name__}: {str(error)[:200]}", "they do not fit together", mend)
