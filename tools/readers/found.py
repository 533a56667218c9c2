"""What runs of the grid found of a reader: a file of JSON in ``docs/readers/found/``, written after each net."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs" / "readers" / "found"


@dataclass(frozen=True)
class Row:
    """What became of one net.

    ``outcome`` is "right", "wrong", "refused" by the reader, "not written" for it, or "not judged"; ``said`` is what
    was said of that, whole; ``off`` how far an output was off, relative; ``files`` a digest of what was run, and of the
    programs that ran it; ``older``: the files are others now, and there was no time to run them.
    """

    net: str
    outcome: str
    said: str = ""
    off: float = 0.0
    files: str = ""
    older: bool = False


@dataclass
class Found:
    """What is known of one reader: its version, or why it is ``missing``, its nets by name, and of random models how
    many had each outcome."""

    title: str
    target: str
    version: str = ""
    missing: str = ""
    nets: dict[str, Row] = field(default_factory=dict)
    random: dict[str, int] = field(default_factory=dict)

    def keep(self, name: str) -> None:
        """Write it to the file of the reader of that name."""
        FOUND.mkdir(parents=True, exist_ok=True)
        described = {**asdict(self), "nets": [asdict(row) for row in self.nets.values()]}
        file = FOUND / f"{name}.json"
        made = file.with_suffix(".new")
        made.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        made.replace(file)


def known(name: str) -> Found | None:
    """What was found of a reader before; None where nothing was."""
    try:
        described = json.loads((FOUND / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    rows: Iterable[Row] = (Row(**row) for row in described.pop("nets", ()))
    return Found(**described, nets={row.net: row for row in rows})


def reader_names_known() -> list[str]:
    """The readers of which anything was found."""
    return sorted(path.stem for path in FOUND.glob("*.json"))
