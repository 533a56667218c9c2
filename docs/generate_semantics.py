"""Write docs/semantics.md from the ops themselves. A test holds the page to what this makes: ``make docs``."""

from dataclasses import fields
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from docs.docstrings import text_of
from docs.op_equations import AREA, equation
from lstmc.ir import Scan
from lstmc.ops import CORE, AvePool, Op
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS

PAGE = Path(__file__).with_name("semantics.md")

TEMPLATE = """\
# What the ops mean

This page has the operands, the attributes and the equation of each op of a graph. The methods `eval` and `vjp` define
an op, and a contract test checks every op. `docs/generate_semantics.py` writes this page from the docstrings of ops.

Equations use the op's names of operands and attributes. For an op along an axis, $i$ is the index of the axes before
it, $k$ the index on it, and $j$ the index of the axes after it. $L$ is the loss, $\\eta$ the learning rate,
$\\lambda$ the weight decay, and $M$ the divisor of a loss.

## The core
{% for op in core %}

### `{{ op.name }}`

    {{ op.name }}({{ op.signature }})

{{ op.text }}

$$
{{ op.equation }}
$$
{% if op.where %}

{{ op.where }}
{% endif %}
{% if op.rule %}

The rule `{{ op.rule }}` writes this op for Caffe.
{% endif %}
{% endfor %}

## Caffe layers

The class of a layer is `lstmc_caffe.ops.<name>`, unless a line below the equation names another class.
{% for op in caffe %}

### `{{ op.name }}`

    {{ op.name }}({{ op.signature }})

{{ op.text }}

$$
{{ op.equation }}
$$
{% if op.where %}

{{ op.where }}
{% endif %}
{% if op.class %}

The class of this op is `lstmc_caffe.ops.{{ op.class }}`.
{% endif %}
{% endfor %}

## Work of the host

The host, the program that runs a net, does this work if blobs have other shapes than values (`docs/targets.md`).
{% for op in host %}

### `{{ op.name }}`

    {{ op.name }}({{ op.signature }})

{{ op.text }}

$$
{{ op.equation }}
$$
{% endfor %}
"""


def describe(op: type[Op]) -> dict[str, str]:
    """One op as the page shows it."""
    rule = rules().trained.get(op)
    return {
        "name": op.name,
        "signature": ", ".join([*op.operands, *(f"{field.name}=" for field in fields(op))]),
        "text": text_of(op),
        "equation": equation(op),
        "where": AREA if issubclass(op, AvePool) else "",
        "rule": rule.__name__ if rule else "",
        "class": "" if op.name.endswith(f".{op.__name__}") else op.__name__,
    }


def page() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    core = [describe(op) for op in (*CORE, Scan)]
    caffe, host = ([describe(op) for op in ops] for ops in (CAFFE_OPS, HOST_OPS))
    return environment.from_string(TEMPLATE).render(core=core, caffe=caffe, host=host).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
