"""The running process, and pools of worker processes."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "memory")
