"""A hook of MkDocs: the name of the site, the link to the source, and which pages its search prefers."""

import tomllib
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Add to the site's configuration what pyproject.toml says of the project."""
    project = tomllib.loads(Path(config.config_file_path).with_name("pyproject.toml").read_text())["project"]
    config.site_name = f"{project['name']} {project['version']}"
    config.copyright = f"{project['name']} {project['version']}, licence {project['license']}"
    config.repo_url = project.get("urls", {}).get("Source")
    return config


# pages for those who work on lstmc: the search of the site leaves them out
MEASURED = ("numbers-measured.md", "cells-trained.md", "scale-measured.md")
UNSEARCHED = ("decisions/", "fuzzing.md", "how-it-is-tested.md", *MEASURED)
PREFERRED = ("c.md", "importing.md", "import-examples.md", "onnx.md", "targets.md", "stream-programs.md", "tutorials/")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Set what the search does with a page: readers look for their problem, not for a decision about it."""
    source = page.file.src_uri
    if source.startswith(UNSEARCHED):
        page.meta["search"] = {"exclude": True}
    elif source.startswith(PREFERRED):
        page.meta["search"] = {"boost": 4}
    return markdown
