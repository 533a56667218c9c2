"""The names that ``lstmc.api`` exports."""

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
