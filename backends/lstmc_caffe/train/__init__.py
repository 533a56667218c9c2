"""Training by Caffe's own solvers: the training net with its phases, and the engine of a run."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "net")
