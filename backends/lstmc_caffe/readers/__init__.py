"""Other programs that read Caffe nets: what each is, where it is installed, and nets run in it."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc_caffe.readers import executor, known
else:
    executor = ByName("lstmc_caffe.readers.executor")
    known = ByName("lstmc_caffe.readers.known")

__all__ = ["executor", "known"]
