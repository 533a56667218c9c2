"""Text from templates."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


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
