"""Low precision: the ranges of a net's values over streams of data, and the errors of a net in a device's numbers."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.numerics import device
else:
    device = ByName("lstmc.numerics.device")

__all__ = ["device"]
