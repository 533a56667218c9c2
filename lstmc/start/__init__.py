"""The first files of a cell, a model or a plug-in, which work as they are and whose tests pass."""

from lstmc.start.files import STARTS, start_files

__all__ = ["STARTS", "start_files"]
