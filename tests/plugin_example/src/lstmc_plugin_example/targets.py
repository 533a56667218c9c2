"""Where the package's target stands."""

from __future__ import annotations

from importlib.resources import files

import lstmc_plugin_example.caffe as caffe  # its field is one of those that the target's rules name

EXAMPLE = files(caffe.__package__).joinpath("example.toml")
