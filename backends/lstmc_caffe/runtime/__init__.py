"""Real Caffe: finding a build, and running nets in it. A Runner owns the process."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "executor", "locate", "runner")
