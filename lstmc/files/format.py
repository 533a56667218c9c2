"""Formatting of written files: templates, and float32 values in the fewest digits."""

from __future__ import annotations

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined


def shortest(value: float) -> float:
    """Return the decimal of fewest digits that is ``value`` as a float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(value)))


def text_templates(package: str, folder: str) -> Environment:
    """Return the templates in a folder of a package. Statement lines leave no blank line; nothing is escaped."""
    return Environment(
        loader=PackageLoader(package, folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
