"""Caffe from lstmc: nets of stock layers, and real Caffe in a process of its own to run them."""

from lstmc.runs.solver import Solver
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.worker.layer_library import load_layers

__all__ = ["CaffeBackend", "Solver", "load_layers"]
