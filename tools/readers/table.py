"""``docs/readers/table.md``, from what runs of the grid found of each reader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from lstmc.files.templates import text_templates
from tools.readers.found import FOUND, Found, Row, known, reader_names_known
from tools.readers.grid import Case, cases

PAGE = FOUND.parent / "table.md"
# What no registry has, or what needs more than a registry brings.
NOT_HAD = {
    "TensorRT 8": "its wheel imports with libcudnn.so.8 and an NVIDIA GPU alone; target `tensorrt` is by its sources",
    "Ascend ATC": "it is on no registry; target `ascend` is by its documentation",
    "RKNN toolkit 1.x": "it is on no registry",
    "Tengine": "its converter is on no registry",
    "caffe2onnx 2.0.1": "its first layer reads all inputs, whatever it says: only nets of one input are read",
    "nncase 1.9": "its Caffe importer has no TanH, Sigmoid and Power",
}
# What a net has of its own in a text: names, numbers, shapes.
OWN = re.compile(r"[\s,]*\S*[\d/_%\[\]]\S*")


def write_table() -> None:
    """Write the page anew."""
    grid = cases()
    found = {name: each for name in reader_names_known() if (each := known(name)) is not None}
    rows = [_row(name, each, grid) for name, each in found.items() if each.nets or each.missing]
    templates = text_templates("tools.readers", ".")
    random = [{"name": name, "count": each.random} for name, each in found.items() if each.random]
    page = templates.get_template("table.md.j2").render(rows=rows, random=random, not_had=NOT_HAD, nets=len(grid))
    PAGE.write_text(page, encoding="utf-8")


def _row(name: str, found: Found, grid: Iterable[Case]) -> dict[str, Any]:
    rows = [found.nets[name] for name in sorted(map(str, grid)) if name in found.nets]
    nets, older = [row for row in rows if not row.older], [row.outcome for row in rows if row.older]
    of = {str(case): case for case in grid}
    count = Counter(row.outcome for row in nets)
    right = [row.off for row in nets if row.outcome == "right"]
    return {
        "name": name,
        "version": found.version,
        "missing": found.missing,
        "target": found.target,
        "tried": len(nets),
        "older": f"{len(older)}, {older.count('right')} right" if older else "",
        "written": len(nets) - count["not written"],
        "right": count["right"],
        "largest": f"{max(right):.1e}" if right else "",
        "count": count,
        "wrong": [row for row in nets if row.outcome == "wrong"],
        "said": {outcome: list(_alike(nets, outcome, of)) for outcome in ("refused", "not judged", "not written")},
    }


def _alike(nets: Iterable[Row], outcome: str, of: dict[str, Case]) -> Iterable[dict[str, Any]]:
    """The nets of one outcome of which the same was said, but for what is each one's own; most first."""
    groups: dict[str, list[Row]] = {}
    for row in nets:
        if row.outcome == outcome:
            groups.setdefault(OWN.sub(" ...", row.said), []).append(row)
    for rows in sorted(groups.values(), key=len, reverse=True):
        words = {row.said for row in rows}
        yield {
            "said": rows[0].said,
            "of": rows[0].net if len(words) > 1 else "",  # whose words these are
            "count": len(rows),
            "nets": ", ".join(_listed([of[row.net] for row in rows])),
        }


def _listed(found: Iterable[Case]) -> Iterable[str]:
    """Nets, those of a cell together: its name alone where it is all four."""
    cells: dict[str, list[Case]] = {}
    for case in found:
        cells.setdefault(case.cell, []).append(case)
    for cell, of_cell in sorted(cells.items()):
        if len(of_cell) == 4:
            yield cell
        else:
            yield from sorted(map(str, of_cell))
