"""Real Caffe: the build that is used, and nets that run in it. Its Runner owns the process."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "executor", "locate", "runner")
