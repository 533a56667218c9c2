"""A node that cannot be expressed, while a graph is read."""

from __future__ import annotations


class Refused(Exception):
    """Becomes a :class:`~lstmc.importers.refusal.Refusal` once it is known which node it is of."""

    def __init__(self, attribute: str, value: str, why: str, mend: str) -> None:
        super().__init__(why)
        self.attribute, self.value, self.why, self.mend = attribute, value, why, mend
