"""The error that verification gives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lstmc.errors import VerifyError
from lstmc.ir import Graph, Stage, verify
from lstmc.ops import Op


def refused(graph: Graph, stage: Stage = Stage.MODEL, legal: Sequence[type[Op]] | None = None) -> str:
    """The error that verification gives, without its class."""
    with pytest.raises(VerifyError) as caught:
        verify(graph, stage, legal)
    return str(caught.value).removeprefix("VerifyError: ")
