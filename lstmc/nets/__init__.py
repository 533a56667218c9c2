"""Written nets in use: sessions, batches of files larger than memory, text generation, and tuned memory sizes."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.nets import comparison, tune
else:
    comparison = ByName("lstmc.nets.comparison")
    tune = ByName("lstmc.nets.tune")

__all__ = ["comparison", "tune"]
