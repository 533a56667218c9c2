"""Training runs, for any backend: measurements, records and files."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "solver")
