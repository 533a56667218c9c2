"""Where the package's target stands."""

from __future__ import annotations

from importlib.resources import files

EXAMPLE = files(__package__).joinpath("example.toml")
