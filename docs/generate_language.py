"""Write docs/language.md from the functions of the language themselves: ``make docs``. A test holds the page to it.

Every example is traced, and its result is that of the trace.
"""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

import lstmc
from docs.docstrings import signature_of, text_of
from docs.op_equations import equation
from docs.step_equations import equations
from lstmc import Input, Param, Value, cell, model
from lstmc.dsl import CellModel
from lstmc.ir import Graph, Scan
from lstmc.ops import Leaf

PAGE = Path(__file__).with_name("language.md")
# n is 6 in the examples, 3 in groups
SYMBOLS = dict.fromkeys((1 / 6, 1 / 3), r"\frac{1}{n}") | dict.fromkeys((1e-5, 1e-6), r"\epsilon")

TEMPLATE = """\
# The functions of the language

The functions that cells and models use; import them from `lstmc`. [write-a-cell.md](write-a-cell.md) and
[models.md](models.md) show how to use them. A function consists of ops ([the meaning of each](semantics.md)); a target
needs layers for these ops. `docs/generate_language.py` writes this page from the functions themselves.

If a function is one op, the equation is that of the op. If it consists of several ops, the equation comes from the
graph of the example, if this graph is short. n is the number of elements along the axis.

In the examples `x` and `z` are [2, 6], `mask` is [2, 1], `A` is [2, 3, 4], `B` is [2, 4, 5], `q` is
[2, 4], `image` is [2, 3, 8, 8], `id` and `label` are [2]; of the parameters, `W` is [5, 6], `b` is [5], `gain` is [6],
`V` is [2, 5, 3], `K` is [4, 3, 3, 3], `E` is [100, 16].
{% for section in sections %}

## {{ section.title }}
{% for word in section.words %}

### `{{ word.name }}`

    {{ word.signature | indent }}

{{ word.text }}
{% if word.equation %}

{{ word.equation }}
{% endif %}
{% if word.example %}

The example `{{ word.example }}` has shape {{ word.shapes }}{{ " and consists of " if word.ops }}
{%- for op in word.ops %}[`{{ op }}`](semantics.md#{{ op }}){{ ", " if not loop.last }}{% endfor %}.
{% endif %}
{% endfor %}
{% endfor %}
"""

# Each section: its functions, and an example of each that returns values.
SECTIONS: dict[str, dict[str, str | None]] = {
    "Arguments": {
        "Input": None,
        "Param": None,
        "State": None,
        "params": None,
    },
    "Dimensions": {
        "dims": None,
    },
    "How parameters start": {
        "constant": None,
        "gaussian": None,
        "msra": None,
        "uniform": None,
        "xavier": None,
    },
    "What inputs hold": {
        "integers": None,
        "reals": None,
    },
    "Cells": {
        "cell": None,
    },
    "Models": {
        "model": None,
    },
    "Over time": {
        "scan": None,
    },
    "Sequences of different lengths": {
        "last_valid": None,
    },
    "Products, pieces and shapes": {
        "abs": "abs(x)",
        "concat": "concat(x, z)",
        "linear": "linear(x, W, b)",
        "reshape": "reshape(x, 2, 3, 2)",
        "softmax": "softmax(x)",
        "split": "split(x, 3)",
    },
    "Functions of an element": {
        "cos": "cos(x)",
        "elu": "elu(x)",
        "exp": "exp(x)",
        "leaky_relu": "leaky_relu(x, 0.1)",
        "log": "log(x)",
        "power": "power(x, 3)",
        "relu": "relu(x)",
        "sigmoid": "sigmoid(x)",
        "sin": "sin(x)",
        "softplus": "softplus(x)",
        "stop_gradient": "stop_gradient(x)",
        "tanh": "tanh(x)",
    },
    "Functions made of others": {
        "erf": "erf(x)",
        "gelu": "gelu(x)",
        "hard_sigmoid": "hard_sigmoid(x)",
        "hard_tanh": "hard_tanh(x)",
        "log_sigmoid": "log_sigmoid(x)",
        "rsqrt": "rsqrt(x)",
        "silu": "silu(x)",
        "softsign": "softsign(x)",
        "sqrt": "sqrt(x)",
        "square": "square(x)",
        "step": "step(x)",
    },
    "One of two": {
        "clip": "clip(x, -1, 1)",
        "maximum": "maximum(x, z)",
        "minimum": "minimum(x, z)",
        "where": "where(mask, x, z)",
    },
    "Along axes": {
        "group_norm": "group_norm(x, 2)",
        "l2_norm": "l2_norm(x)",
        "layer_norm": "layer_norm(x, gain)",
        "log_softmax": "log_softmax(x)",
        "max": "max(x, axis=-1)",
        "mean": "mean(x, axis=-1, keepdims=True)",
        "min": "min(x, axis=-1)",
        "rms_norm": "rms_norm(x, gain)",
        "sum": "sum(x, axis=-1)",
        "var": "var(x, axis=-1)",
    },
    "Products of computed values": {
        "einsum": 'einsum("nab,nb->na", A, q)',
        "matmul": "matmul(A, B)",
        "outer": "outer(x, q)",
    },
    "Repeated, joined and turned": {
        "expand": "expand(mask, 2, 6)",
        "full": "full((2, 6), 0.5)",
        "full_like": "full_like(x, 0.5)",
        "ones_like": "ones_like(x)",
        "stack": "stack(x, z)",
        "tile": "tile(x, 3)",
        "transpose": "transpose(A)",
        "zeros_like": "zeros_like(x)",
    },
    "Heads": {
        "block_linear": "block_linear(x, V)",
        "merge_heads": "merge_heads(A)",
        "split_heads": "split_heads(x, 2)",
    },
    "Integers": {
        "argmax": "argmax(x)",
        "floor": "floor(x)",
        "mod": "mod(x, 3)",
        "one_hot": "one_hot(id, 10)",
    },
    "Fixed arrays": {
        "const": "x * const([1, 0, -1, 1, 0, -1])",
    },
    "Counting steps": {
        "step_index": "step_index()",
    },
    "Around cells": {
        "ave_pool": "ave_pool(image, 2)",
        "conv": "conv(image, K, pad=1)",
        "dropout": "dropout(x, 0.2)",
        "embed": "embed(id, E)",
        "max_pool": "max_pool(image, 2)",
    },
    "Losses and scores": {
        "accuracy": "accuracy(x, label)",
        "euclidean_loss": "euclidean_loss(x, z)",
        "sigmoid_cross_entropy_loss": "sigmoid_cross_entropy_loss(x, z)",
        "softmax_loss": "softmax_loss(x, label)",
    },
    "Ops of packages": {
        "op": None,
        "op_results": None,
        "pointwise": None,
    },
}
LOSSES = "Losses and scores"


def traced(example: str, section: str) -> tuple[Graph, tuple[str, ...]]:
    """The graph that an example makes, in a cell, or of a loss in a model, and the shapes of its results."""
    shapes: list[str] = []

    def result(values: dict[str, object]) -> Value:
        y = eval(example, {word: getattr(lstmc, word) for word in lstmc.__all__} | values)
        results = y if isinstance(y, tuple) else (y,)
        shapes.extend(str(list(value.shape)) for value in results)
        return y

    if section == LOSSES:

        @model
        def shown(x=Input(2, 6), z=Input(2, 6), label=Input(2)):
            return {"loss": result(locals())}

        return shown.graph(), tuple(shapes)

    @cell
    def step(
        x=Input(2, 6), z=Input(2, 6), mask=Input(2, 1), A=Input(2, 3, 4), B=Input(2, 4, 5), q=Input(2, 4),
        image=Input(2, 3, 8, 8), id=Input(2), *,
        W=Param(5, 6), b=Param(5), gain=Param(6), V=Param(2, 5, 3), K=Param(4, 3, 3, 3), E=Param(100, 16),
    ):  # fmt: skip
        return result(locals()), {}

    graph = CellModel(step).graph(T=1)
    *_, scan = (node.op for node in graph if isinstance(node.op, Scan))  # one that counts steps comes before
    return scan.body, tuple(shapes)


def _word(name: str, section: str, example: str | None) -> dict[str, object]:
    thing = getattr(lstmc, name)
    shown: dict[str, object] = {"name": name, "signature": signature_of(name, thing), "text": text_of(thing)}
    if example is None:
        return shown | {"example": "", "equation": ""}
    graph, shapes = traced(example, section)
    kinds = list(dict.fromkeys(type(node.op) for node in graph if not isinstance(node.op, Leaf)))
    drawn = f"$$\n{equation(kinds[0])}\n$$" if len(kinds) == 1 else equations(graph, SYMBOLS) if kinds else None
    named = {"example": example, "shapes": ", ".join(shapes), "ops": [op.name for op in kinds]}
    return shown | named | {"equation": (drawn or "").replace("_{t}", "")}  # of one step there is no other


def page() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    sections = [
        {"title": title, "words": [_word(word, title, example) for word, example in words.items()]}
        for title, words in SECTIONS.items()
    ]
    return environment.from_string(TEMPLATE).render(sections=sections).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
