"""Compiling, running and training from Python: what ``lstmc.compile``, ``lstmc.train`` and ``lstmc.load`` are."""

from lstmc.api.build import AnyModel, Phase, trained_weights, widest_phase, writer_of
from lstmc.api.compiling import compile
from lstmc.api.converting import Conversion, convert
from lstmc.api.findings import findings
from lstmc.api.graphs import explanation, graph_after, pass_names
from lstmc.api.library import LibraryCell, check_sizes, library_cell
from lstmc.api.net import Net
from lstmc.api.places import place
from lstmc.api.run import Run
from lstmc.api.saved import SavedNet, load
from lstmc.api.steering import training
from lstmc.api.running import Stream
from lstmc.api.targets import ListedTarget, targets
from lstmc.api.training_files import export_training, training_files, why_not_trained
from lstmc.api.training import train
from lstmc.api.verification import Verification

__all__ = [
    "AnyModel",
    "Conversion",
    "LibraryCell",
    "ListedTarget",
    "Net",
    "Phase",
    "Run",
    "SavedNet",
    "Stream",
    "Verification",
    "check_sizes",
    "compile",
    "convert",
    "explanation",
    "export_training",
    "findings",
    "graph_after",
    "library_cell",
    "load",
    "pass_names",
    "place",
    "targets",
    "train",
    "trained_weights",
    "training",
    "training_files",
    "why_not_trained",
    "widest_phase",
    "writer_of",
]
