"""The Python API: compiling, running and training; ``lstmc`` exports it.

A word is imported when it is first used: who compiles imports no importer, and who needs a part alone imports that.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lstmc.plugins import ByName, words_of

if TYPE_CHECKING:
    from lstmc.api import low_precision as low_precision
    from lstmc.api import running as running
    from lstmc.api.compiling import compile, compile_model
    from lstmc.api.converting import Conversion, convert, convert_model
    from lstmc.api.graphs import costs_by_op, explanation, graph_after, model_graph, pass_names
    from lstmc.api.installed import LibraryCell, ListedTarget, check_sizes, findings, library_cell, targets
    from lstmc.api.models import AnyModel, Phase, trained_weights, widest_phase, writer_of
    from lstmc.api.net import Net
    from lstmc.api.options import CompileOptions, RunOptions, TrainingOptions
    from lstmc.api.running import Stream, Verification, place
    from lstmc.api.saved import SavedNet, load
    from lstmc.api.training_run import Run, train, train_model, training
    from lstmc.api.training_setup import export_training, training_files, why_not_trained
    from lstmc.patterns import scan_lines
else:
    low_precision = ByName("lstmc.api.low_precision")
    running = ByName("lstmc.api.running")
    _WORDS = {
        "lstmc.api.compiling": ("compile", "compile_model"),
        "lstmc.api.converting": ("Conversion", "convert", "convert_model"),
        "lstmc.api.graphs": ("costs_by_op", "explanation", "graph_after", "model_graph", "pass_names"),
        "lstmc.api.installed": ("LibraryCell", "ListedTarget", "check_sizes", "findings", "library_cell", "targets"),
        "lstmc.api.models": ("AnyModel", "Phase", "trained_weights", "widest_phase", "writer_of"),
        "lstmc.api.net": ("Net",),
        "lstmc.api.options": ("CompileOptions", "RunOptions", "TrainingOptions"),
        "lstmc.api.running": ("Stream", "Verification", "place"),
        "lstmc.api.saved": ("SavedNet", "load"),
        "lstmc.api.training_run": ("Run", "train", "train_model", "training"),
        "lstmc.api.training_setup": ("export_training", "training_files", "why_not_trained"),
        "lstmc.patterns": ("scan_lines",),
    }
    _word, __dir__ = words_of(__name__, _WORDS)

    def __getattr__(name):
        if not name.startswith("__") and find_spec(f"{__name__}.{name}"):  # a module of it, as lstmc.api.installed
            return import_module(f"{__name__}.{name}")
        return _word(name)


__all__ = [
    "AnyModel",
    "CompileOptions",
    "Conversion",
    "LibraryCell",
    "ListedTarget",
    "Net",
    "Phase",
    "Run",
    "RunOptions",
    "SavedNet",
    "Stream",
    "TrainingOptions",
    "Verification",
    "check_sizes",
    "compile",
    "compile_model",
    "convert",
    "convert_model",
    "costs_by_op",
    "explanation",
    "export_training",
    "findings",
    "graph_after",
    "library_cell",
    "load",
    "model_graph",
    "pass_names",
    "place",
    "scan_lines",
    "targets",
    "train",
    "train_model",
    "trained_weights",
    "training",
    "training_files",
    "why_not_trained",
    "widest_phase",
    "writer_of",
]
