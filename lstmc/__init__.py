"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

This is all that most people need: the language that cells and models are written in, and :func:`compile`,
:func:`train` and :func:`load`, which the ``lstmc`` command calls too. A word is imported when it is first used: a file
of cells needs no importers and no sweeps, and ``lstmc --version`` nothing of this.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lstmc.version import __version__ as __version__

if TYPE_CHECKING:  # the same words, for type checkers and editors
    from lstmc.api import Conversion as Conversion
    from lstmc.api import Net as Net
    from lstmc.api import Run as Run
    from lstmc.api import SavedNet as SavedNet
    from lstmc.api import Stream as Stream
    from lstmc.api import Verification as Verification
    from lstmc.api import compile as compile
    from lstmc.api import convert as convert
    from lstmc.api import export_training as export_training
    from lstmc.api import load as load
    from lstmc.api import train as train
    from lstmc.api import training as training
    from lstmc.dsl.language import *
    from lstmc.errors import LstmcError as LstmcError
    from lstmc.importers import Inspection as Inspection
    from lstmc.importers import from_onnx as from_onnx
    from lstmc.importers import from_torch as from_torch
    from lstmc.importers import import_file as import_file
    from lstmc.importers import inspect as inspect
    from lstmc.runs.solver import Solver as Solver
    from lstmc.sweeps import Goal as Goal
    from lstmc.sweeps import Range as Range
    from lstmc.sweeps import Space as Space
    from lstmc.sweeps import Swept as Swept
    from lstmc.sweeps import sweep as sweep
else:
    _LANGUAGE = "lstmc.dsl.language"
    _OTHERS = {
        "compile": "lstmc.api.compiling",
        **dict.fromkeys(("Conversion", "convert"), "lstmc.api.converting"),
        "Net": "lstmc.api.net",
        **dict.fromkeys(("Stream", "Verification"), "lstmc.api.running"),
        **dict.fromkeys(("SavedNet", "load"), "lstmc.api.saved"),
        **dict.fromkeys(("Run", "train", "training"), "lstmc.api.training_run"),
        "export_training": "lstmc.api.training_setup",
        **dict.fromkeys(("Inspection", "from_onnx", "from_torch", "import_file", "inspect"), "lstmc.importers"),
        "LstmcError": "lstmc.errors",
        "Solver": "lstmc.runs.solver",
        **dict.fromkeys(("Goal", "Range", "Space", "Swept", "sweep"), "lstmc.sweeps"),
    }

    def _language():
        words = vars(import_module(_LANGUAGE))
        return [word for word, thing in words.items() if getattr(thing, "__module__", "").startswith("lstmc.")]

    def __getattr__(name):
        if name == "__all__":
            return sorted([*_language(), *_OTHERS])
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in _OTHERS and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        try:
            value = globals()[name] = getattr(import_module(_OTHERS.get(name, _LANGUAGE)), name)
        except AttributeError:
            package = f": import {__name__}_{name}" if find_spec(f"{__name__}_{name}") else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{package}") from None
        return value

    def __dir__():
        return sorted({*globals(), *_language(), *_OTHERS})
