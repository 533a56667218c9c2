"""Write docs/operators.md from the importers' tables. A test holds the page to what this makes: ``make docs``."""

from collections.abc import Iterable
from pathlib import Path

import onnx.defs
from jinja2 import Environment, StrictUndefined

from lstmc.importers.frontends import keras_layers, keras_ops, onnx_graph, torch_graph

PAGE = Path(__file__).with_name("operators.md")
OPSET = 24

TEMPLATE = """\
# Operators that are read

Written by `docs/generate_operators.py` from the tables of the importers. An operator may still be refused in a form
that has no meaning in lstmc, such as a size that depends on data. The error then says which form was expected, and
what to do. While lstmc reads a file, it computes values that depend on no input, also by operators not listed here.
[Import a trained model](importing.md) has the options.

## ONNX

{{ onnx.read | length }} of the {{ (onnx.read + onnx.others + onnx.bodies) | length }} operators of opset {{ opset }}:

{{ onnx.read | names }}

{{ onnx.bodies | length }} more are read as the function that defines them in ONNX, if all operators in it are read:

{{ onnx.bodies | names }}

Of ONNX Runtime (`com.microsoft`):

{{ onnx.runtime | names }}

Not read, unless all operands are constants:

{{ onnx.others | names }}

## PyTorch

Operators of exported programs (`.pt2`, and modules in memory), without the overloads of their names:

{{ torch | names }}

## Keras

Layers:

{{ layers | names }}

Functions of `keras.ops`, by the names of their operations:

{{ operations | names }}
"""


def names(words: Iterable[str]) -> str:
    """Return names as code, in lines of the page's width."""
    lines = [""]
    for word in sorted(words, key=str.lower):
        addition = f"`{word}`"
        if len(lines[-1]) + len(addition) > 118:
            lines.append("")
        lines[-1] += f"{addition}, "
    return "\n".join(line.rstrip() for line in lines).rstrip(",")


def of_onnx() -> dict[str, list[str]]:
    """Return ONNX's operators: those that are read, by their function or not at all, and those of ONNX Runtime."""
    known = {
        each.name
        for each in onnx.defs.get_all_schemas_with_history()
        if not each.domain and each.since_version <= OPSET
    }
    schemas = [onnx.defs.get_schema(name, OPSET) for name in sorted(known)]
    read = [each.name for each in schemas if each.name in onnx_graph.HANDLERS or each.name in onnx_graph.WALKED]
    unread = [each for each in schemas if each.name not in read and not each.deprecated]
    bodies = [each.name for each in unread if each.has_function or each.has_context_dependent_function]
    others = [each.name for each in unread if each.name not in bodies]
    return {"read": read, "bodies": bodies, "others": others, "runtime": list(onnx_graph.OF_RUNTIME)}


def page() -> str:
    """Return the text of the page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["names"] = names
    aten = {target.removeprefix("aten.").split(".")[0] for target in torch_graph.HANDLERS if target.startswith("aten.")}
    return environment.from_string(TEMPLATE).render(
        onnx=of_onnx(), opset=OPSET, torch=aten, layers=keras_layers.HANDLERS, operations=keras_ops.HANDLERS
    )


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
