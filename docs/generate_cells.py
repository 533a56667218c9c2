"""Write docs/cells.md from the library cells themselves. A test holds the page to what this makes: ``make docs``."""

from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lstmc.api import library_cell
from lstmc.api.library import GROUPS

PAGE = Path(__file__).with_name("cells.md")

TEMPLATE = """\
# The library cells

Written by `docs/generate_cells.py` from the cells themselves; `lstmc cells` prints the same, at sizes of your own
(`-D H=256`), and `lstmc cells show NAME` a cell's source and graph. Numbers are those of one step of one sequence, at
the sizes that stand below each cell; a product and a sum are two FLOPs, a function of an element is one. Any of these
cells can be wrapped by `lstmc.cells.wrappers` ([write-a-cell.md](write-a-cell.md)).
{% for group, cells in groups %}

## {{ group }}
{% for cell in cells %}

### `{{ cell.name }}`

{{ cell.summary }}

{{ cell.paper }}

| inputs | states | parameters | size | FLOPs | targets |
|---|---|---|---|---|---|
| {{ cell.shapes | map("replace", "\\n", "<br>") | join(" | ") }} | {{ "{:,}".format(cell.parameters) }} | \
{{ "{:,}".format(cell.flops) }} | {{ cell.targets | join(", ") }} |

{% for dim, size in cell.sizes.items() %}{{ dim }}={{ size }}{{ " " if not loop.last }}{% endfor %}

{% endfor %}
{% endfor %}
"""


def page() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    cells = [library_cell(name) for names in GROUPS.values() for name in names]
    groups = [(group, list(members)) for group, members in groupby(cells, key=lambda cell: cell.group)]
    return environment.from_string(TEMPLATE).render(groups=groups).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
