"""The page that package indexes show: README.md, whose links and pictures are paths in this repository."""

import re
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (pip runs this file before it looks at requires-python)
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(
        f"lstmc needs Python 3.11 or newer, found {found}. Ubuntu 22.04 has one beside its own:"
        " apt-get install python3.11 python3.11-venv, then python3.11 -m venv .venv"
    )

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

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


class Readme(MetadataHookInterface):
    """The page of the package. The address of the repository is the URL ``Source``, if the project has one."""

    def update(self, metadata: dict[str, Any]) -> None:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text = page(readme, metadata.get("urls", {}).get("Source"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
