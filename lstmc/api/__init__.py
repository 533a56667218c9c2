"""The Python API: compiling, running and training; ``lstmc`` exports it.

All of it is imported with the first word that is used: who needs a part alone, as a backend, imports that part.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmc.api.interface import *
else:

    def __getattr__(name):
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if find_spec(f"{__name__}.{name}"):  # a module of it, as lstmc.api.installed
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(f"{__name__}.interface"), name)
