"""Writes a net and its weights as files: prototxt, caffemodel and manifest. From a manifest it writes programs that
stream through a net of one step.
"""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc_caffe.write import program
else:
    program = ByName("lstmc_caffe.write.program")

__all__ = ["program"]
