"""How parameters start, under the names that models are written with."""

from lstmc.ops import Constant, Gaussian, Msra, Uniform, Xavier

__all__ = ["constant", "gaussian", "msra", "uniform", "xavier"]

constant, gaussian, msra, uniform, xavier = Constant, Gaussian, Msra, Uniform, Xavier
