"""Models of lstmc as modules of PyTorch: :func:`module`. PyTorch is imported when ``module`` is first used."""

from typing import TYPE_CHECKING

from lstmc.errors import BackendError
from lstmc.plugins import need
from lstmc_torch.backend import TorchBackend

if TYPE_CHECKING:
    from lstmc_torch.modules import Module, module
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(need("lstmc_torch.modules", "PyTorch", "torch", BackendError), name)


__all__ = ["Module", "TorchBackend", "module"]
