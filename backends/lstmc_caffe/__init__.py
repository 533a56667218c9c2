"""Caffe from lstmc: nets of stock layers, and real Caffe in a process of its own to run them."""

from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.train.solver import Solver

__all__ = ["CaffeBackend", "Solver"]
