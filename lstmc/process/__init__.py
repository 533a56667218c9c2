"""The running process, and pools of worker processes."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.process import memory
else:
    memory = ByName("lstmc.process.memory")

__all__ = ["memory"]
