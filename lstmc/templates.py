"""The templates of files that are text: jinja2, set so that what is not told is an error and lines are kept."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def text_templates(package: str, folder: str) -> Environment:
    """The templates in a folder of a package. Lines of statements leave nothing behind; nothing is escaped."""
    return Environment(
        loader=PackageLoader(package, folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
