"""The page that package indexes show: README.md, whose links and pictures are paths in this repository."""

import re
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this file is run before pip looks at requires-python)
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(
        f"lstmc needs Python 3.11 or newer, found {found}. Ubuntu 22.04 has one beside its own:"
        " apt-get install python3.11 python3.11-venv, then python3.11 -m venv .venv"
    )

import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^][]*)\]\((?P<path>[^():#][^():]*)\)")
PICTURE = re.compile(r"^!\[[^][]*\]\([^():#][^():]*\)\n\n?", re.MULTILINE)  # one that is a paragraph


def page(readme: str, source: str | None) -> str:
    """The README as it reads elsewhere: paths become addresses below ``source``, the repository's own.

    Without one the paths stand as text, and pictures are left out.
    """

    def there(link: re.Match[str]) -> str:
        if source is None:
            file = link["path"].partition("#")[0]
            return link["text"] if link["text"] == file else f"{link['text']} (`{file}`)"
        view = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({source}/{view}/HEAD/{link['path']})"

    return LINK.sub(there, PICTURE.sub("", readme) if source is None else readme)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project.get("urls", {}).get("Source")
    readme = page((ROOT / "README.md").read_text(encoding="utf-8"), source)
    setup(long_description=readme, long_description_content_type="text/markdown")
