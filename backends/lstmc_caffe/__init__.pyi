from lstmc.runs.solver import Solver as Solver
from lstmc_caffe.backend import CaffeBackend as CaffeBackend
from lstmc_caffe.worker.layer_library import load_layers as load_layers
