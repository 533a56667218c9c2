"""Scans as one layer each, whose C++ and CUDA are generated from the graph of a step."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.loops import code, plan
else:
    code = ByName("lstmc.loops.code")
    plan = ByName("lstmc.loops.plan")

__all__ = ["code", "plan"]
