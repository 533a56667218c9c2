"""Write docs/cells.md and the targets of each cell from the library cells themselves: ``make docs``.

Tests hold the page, and lstmc/cells/targets.json, to what this makes.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from docs.step_equations import equations
from lstmc.api import library_cell
from lstmc.api.installed import refusal, targets_written
from lstmc.backend import find_backends, load_backend, load_cell
from lstmc.patterns import state_lines
from lstmc.plugins import cell_groups

PAGE = Path(__file__).with_name("cells.md")
TARGETS = PAGE.parents[1] / "lstmc" / "cells" / "targets.json"

TEMPLATE = """\
# The library cells

The cells that `lstmc compile --cell NAME` takes: the equations, states, parameters and costs of each.
`docs/generate_cells.py` writes this page from the cells themselves. `lstmc cells` lists the cells, `lstmc cells -D
H=256` also prints their costs at this size, and `lstmc cells NAME` prints the source and the graph of a cell. Wrappers
such as `residual` and `zoneout` take any cell ([write-a-cell.md](write-a-cell.md)). [Two tasks](cells-trained.md)
show what each cell learns.

How to read an entry:

- h' is the next value of state h. Two letters in a row are multiplied: W x is a matrix times a vector, r h a product
  element by element.
- "Rows in the order z, r, n" names the parts of a packed matrix from top to bottom: first the rows of gate z.
- Short cells have equations that were derived from the graph of a step; $u_1$, $u_2$ are values without a name.
- "size" is the number of parameters. A multiplication and an addition are two FLOPs, a function of one element is one.
  Sizes and FLOPs are for one step of one sequence, at the sizes below the table.
- A "sequential" state must be computed step by step; the line names the part of the step that is the reason. "linear"
  and "parallel" states can be computed for all steps at once ([parallel in time](parallel-time.md)).
{% for group, cells in groups %}

## {{ group }}
{% for cell in cells %}

### `{{ cell.name }}`

{{ cell.summary }}

{{ cell.paper }}
{% if drawn[cell.name] %}

{{ drawn[cell.name] }}
{% endif %}

| inputs | states | parameters | size | FLOPs | targets |
|---|---|---|---|---|---|
| {{ cell.shapes | map("replace", "*", "\\\\*") | map("replace", "\\n", "<br>") | join(" | ") }} | \
{{ "{:,}".format(cell.parameters) }} | \
{{ "{:,}".format(cell.flops) }} | {{ cell.fits }} |
{% for state, text in states[cell.name] %}
{{ "\n" if loop.first }}{{ "- State `" ~ state ~ "` is " ~ text }}
{% endfor %}

{% for dim, size in cell.sizes.items() %}{{ dim }}={{ size }}{{ " " if not loop.last }}{% endfor %}
{% if cell.options %}; options {{ cell.options | join(", ") }}{% endif %}

{% endfor %}
{% endfor %}
"""


def targets() -> str:
    """What each target is for, and which cells each of Caffe's takes, as JSON: a line for each target."""
    backend = load_backend("caffe")
    cells = {name: load_cell(name) for names in cell_groups().values() for name in names}
    taken = {
        target: [name for name, cell in cells.items() if refusal(cell, backend, target) is None]
        for target in backend.targets
    }
    purposes = {name: dict(load_backend(name).targets) for name in find_backends()}
    return f'{{\n"purposes": {_lines(purposes)},\n"cells": {_lines({backend.name: taken})}\n}}\n'


def _lines(listed: dict[str, dict[str, Any]]) -> str:
    """What is listed by backend and target, as JSON."""
    backends = []
    for name, targets in listed.items():
        lines = ",\n".join(f"    {json.dumps(target)}: {json.dumps(what)}" for target, what in targets.items())
        backends.append(f"  {json.dumps(name)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(backends) + "\n}"


def page() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    cells = [library_cell(name) for names in cell_groups().values() for name in names]
    groups = [(group, list(members)) for group, members in groupby(cells, key=lambda cell: cell.group)]
    states = {cell.name: state_lines(cell.step) for cell in cells}
    drawn = {cell.name: equations(cell.step) for cell in cells}
    return environment.from_string(TEMPLATE).render(groups=groups, drawn=drawn, states=states).strip() + "\n"


if __name__ == "__main__":
    TARGETS.write_text(targets())
    targets_written.cache_clear()
    PAGE.write_text(page())
    print(f"wrote {TARGETS.name} and {PAGE.name}")
