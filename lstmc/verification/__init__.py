"""Comparison of a compiled net with its model."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.verification import native
else:
    native = ByName("lstmc.verification.native")

__all__ = ["native"]
