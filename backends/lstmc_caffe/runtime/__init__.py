"""Real Caffe: the build that is used, and nets that run in it. Its Runner owns the process."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc_caffe.runtime import executor, locate, runner
else:
    executor = ByName("lstmc_caffe.runtime.executor")
    locate = ByName("lstmc_caffe.runtime.locate")
    runner = ByName("lstmc_caffe.runtime.runner")

__all__ = ["executor", "locate", "runner"]
