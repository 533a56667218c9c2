"""Plain C from lstmc: one step of a net as a C file without a library, for microcontrollers and audio threads."""

from lstmc_c.backend import CBackend

__all__ = ["CBackend"]
