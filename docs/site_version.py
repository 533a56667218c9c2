"""The version in the name of the site, and the link to the source if the project has an address: a hook of MkDocs."""

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
