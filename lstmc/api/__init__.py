"""The Python API: compiling, running and training; ``lstmc`` exports it."""

from lstmc.on_use import modules_on_use, words_on_use

__getattr__, __dir__ = words_on_use(__name__)
modules_on_use(__name__, "low_precision", "running")
