"""What is installed that writes nets: each backend's targets, and what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.backend import find_backends, load_backend
from lstmc.errors import PluginError


@dataclass(frozen=True)
class ListedTarget:
    """A target of a backend; for a backend that does not load, one without a name, and its ``fault``."""

    backend: str
    name: str
    purpose: str
    fault: str = ""


def targets() -> Iterator[ListedTarget]:
    """All targets of all installed backends.

    >>> import lstmc.api
    >>> [target.name for target in lstmc.api.targets() if target.backend == "caffe"][:2]
    ['caffe', 'flat']
    """
    for name in find_backends():
        try:
            found = load_backend(name).targets
        except PluginError as error:
            yield ListedTarget(name, "", "", error.message)
            continue
        yield from (ListedTarget(name, target, purpose) for target, purpose in found.items())
