"""Caffe from lstmc: nets of stock layers, and real Caffe in a process of its own to run them."""

from typing import TYPE_CHECKING

from lstmc.plugins import words_of
from lstmc_caffe.backend import CaffeBackend

if TYPE_CHECKING:
    from lstmc.runs.solver import Solver
    from lstmc_caffe.worker.layer_library import load_layers
else:
    __getattr__, __dir__ = words_of(
        __name__, {"lstmc.runs.solver": ("Solver",), "lstmc_caffe.worker.layer_library": ("load_layers",)}
    )

__all__ = ["CaffeBackend", "Solver", "load_layers"]
