"""``docs/readers/table.md``, from what runs of the grid found of each reader."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lstmc.templates import text_templates

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs" / "readers" / "found"
PAGE = FOUND.parent / "table.md"
# What no registry has, or what needs more than a registry brings.
NOT_HAD = {
    "TensorRT 8": "its wheel imports with libcudnn.so.8 and an NVIDIA GPU alone; target `tensorrt` is by its sources",
    "Ascend ATC": "it is on no registry; target `ascend` is by its documentation",
    "Acuity": "acuitylite 6.51.0 was run by hand, with the torch of another package; it has no program here yet",
    "RKNN toolkit 1.x": "it is on no registry",
    "Tengine": "its converter is on no registry",
}


def write_table() -> None:
    """Write the page anew."""
    rows = [_row(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOUND.glob("*.json"))]
    page = text_templates("tools.readers", ".").get_template("table.md.j2").render(rows=rows, not_had=NOT_HAD)
    PAGE.write_text(page, encoding="utf-8")


def _row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    nets = found.get("nets", [])
    count = Counter(net["outcome"] for net in nets)
    written = len(nets) - count["not written"]
    right = [net["off"] for net in nets if net["outcome"] == "right"]
    return {
        "name": name,
        "version": found.get("version", ""),
        "missing": found.get("missing", ""),
        "target": found["target"],
        "tried": len(nets),
        "written": written,
        "right": count["right"],
        "largest": f"{max(right):.1e}" if right else "",
        "wrong": [net for net in nets if net["outcome"] == "wrong"],
        "refused": _by_words(nets, "refused"),
        "not_written": _by_words(nets, "not written"),
        "not_judged": _by_words(nets, "not judged"),
    }


def _by_words(nets: list[dict[str, Any]], outcome: str) -> dict[str, list[str]]:
    """The nets of one outcome under what was said of them."""
    found: dict[str, list[str]] = {}
    for net in nets:
        if net["outcome"] == outcome:
            found.setdefault(net["said"].replace("|", " ").replace("\n", " ")[:200], []).append(net["net"])
    return found
