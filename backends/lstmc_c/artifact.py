"""The files of a net in C: the source with its weights, the header, and the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod

import numpy as np

from lstmc.backend import Artifact, Compiled
from lstmc.errors import BackendError
from lstmc.files.format import text_templates
from lstmc.interp import forward
from lstmc.ir import Graph, Ref, flops, values_over_time, weight_graph
from lstmc.manifest import Manifest, Place, Stored, describe
from lstmc.ops import Array, Conv, Input, Linear
from lstmc.types import TensorType, shape_text
from lstmc.version import __version__
from lstmc_c.code import ALONG, INDICES, OWN, PANEL, Writer
from lstmc_c.elements import ELEMENTS, Names, identifier, number
from lstmc_c.plan import plan_step

_TEMPLATES = text_templates("lstmc_c", ".")
_FLOAT = 4  # bytes
_PER_LINE = 8  # numbers


@dataclass(frozen=True)
class Field:
    """An array of C: its name, its number of elements, and what it is; ``initial`` is a state's first value,
    ``each_step`` whether an input or output has a value for each step."""

    name: str
    size: int
    comment: str
    initial: str = ""
    each_step: bool = False


@dataclass(frozen=True)
class Weight:
    """A constant array."""

    name: str
    values: Array
    comment: str

    @property
    def size(self) -> int:
        return int(self.values.size)

    @property
    def lines(self) -> list[str]:
        texts = [number(value) for value in self.values.tolist()]
        return [", ".join(texts[i : i + _PER_LINE]) + "," for i in range(0, len(texts), _PER_LINE)]


def in_panels(matrix: Array) -> Array:
    """Return a matrix [out, in] as products read it: by panels of ``PANEL`` rows, each column by column."""
    return np.concatenate([matrix[row : row + PANEL].T.ravel() for row in range(0, len(matrix), PANEL)])


class Source:
    """The C of a compiled net with these weights."""

    def __init__(self, compiled: Compiled, weights: Mapping[str, Array]) -> None:
        self.compiled, self.graph = compiled, compiled.expanded
        self.plan = plan_step(self.graph, compiled.states or (), tuple(ELEMENTS))
        self.name = identifier(compiled.name)
        self.names = Names((*functions(), *OWN, *INDICES, ALONG, f"{self.name}_state", f"{self.name}_work"))
        self.fields = Names()
        self.over_time = values_over_time(compiled.model)
        self.initial = {pair.before: pair for pair in compiled.states or ()}
        self.arrays: dict[tuple[str, str], str] = {}
        self.states = [self._state(name) for name in self.plan.states]
        self.inputs = [self._array("input", node.name, node.types[0]) for node in self.plan.inputs]
        self.outputs = [self._array("output", output.name, self.graph.type(output.ref)) for output in self.plan.outputs]
        self.weight_graph = weight_graph(self.graph, self.plan.weights)
        self.weights = self._weights(weights)

    def _state(self, before: str) -> Field:
        pair, type_ = self.initial[before], self.graph.type(Ref(before))
        short = pair.name.rpartition("/")[2]
        alone = [other.name.rpartition("/")[2] for other in self.initial.values()].count(short) == 1
        name = self.arrays["state", before] = self.fields.unique(short if alone else pair.name)
        number_first = isinstance(pair.initial, float | int)
        first = f"from {float(pair.initial):g}" if number_first else f"from {pair.initial}, set after reset"
        return Field(
            name,
            type_.size,
            f"{pair.name}: {shape_text(type_.shape)}, {first}",
            number(float(pair.initial)) if number_first else "0.0f",
        )

    def _array(self, memory: str, name: str, type_: TensorType) -> Field:
        found = self.arrays[memory, name] = self.names.unique(name)
        ref = Ref(name) if memory == "input" else next(o.ref for o in self.compiled.model.outputs if o.name == name)
        op = self.graph.node(name).op if memory == "input" else None
        domain = f", {op.values}" if isinstance(op, Input) and op.values is not None else ""
        return Field(found, type_.size, f"{name}: {shape_text(type_.shape)}{domain}", each_step=ref in self.over_time)

    def _weights(self, weights: Mapping[str, Array]) -> list[Weight]:
        values = forward(self.weight_graph, params=weights).outputs
        found = []
        plain = self.plan.plain
        for ref in self.plan.weights:
            name, shape = self.graph.value_name(ref), shape_text(self.graph.type(ref).shape)
            array = np.asarray(values[name], np.float32)
            if not np.isfinite(array).all():
                raise BackendError(f"weight {name} is not finite in float32: C has no constant for it")
            if ref in self.plan.panels:
                own = self.arrays["panel", name] = self.names.unique(name)
                found.append(Weight(own, in_panels(array), f"{name} {shape}, in panels of {PANEL} rows"))
            if ref in plain:
                own = self.arrays["weight", name] = self.names.unique(name)
                found.append(Weight(own, array.ravel(), f"{name} {shape}"))
        return found

    def files(self) -> dict[str, bytes]:
        """Return ``NAME.c`` and ``NAME.h``."""
        body = Writer(self.plan, self.arrays, self.names).step()
        step, block = self._arguments(""), self._arguments("", "size_t steps")
        told = {
            "title": f"{self.name}: one step of {_plain(self.compiled.source)}, written by lstmc {__version__}.",
            "name": self.name,
            "guard": f"{self.name.upper()}_H",
            "facts": "\n".join(f"   {line}".rstrip() for line in self.facts()),
            "states": self.states,
            "work": self.plan.work,
            "arrays": [*self.inputs, *self.outputs],
            "weights": self.weights,
            "functions": used_functions([*body, *(state.initial for state in self.states)]),
            "declaration": step,
            "definition": self._arguments("restrict "),
            "block": block,
            "call": ", ".join([*(["state"] if self.states else []), "work", *self.arguments()]),
            "body": body,
            "uses_state": any("state->" in line for line in body),
            "reset": self._reset_note(),
            "each": self._block_note(),
        }
        return {
            f"{self.compiled.name}.c": _TEMPLATES.get_template("source.c.j2").render(told).encode(),
            f"{self.compiled.name}.h": _TEMPLATES.get_template("header.h.j2").render(told).encode(),
        }

    def arguments(self) -> list[str]:
        """Return the names of the arrays of a step, in the order of its arguments."""
        return [array.name for array in (*self.inputs, *self.outputs)]

    def _arguments(self, restrict: str, more: str = "") -> str:
        state = [f"{self.name}_state *{restrict}state"] if self.states else []
        inputs = [f"const float *{restrict}{array.name}" for array in self.inputs]
        outputs = [f"float *{restrict}{array.name}" for array in self.outputs]
        return ", ".join([*state, f"{self.name}_work *{restrict}work", *filter(None, [more]), *inputs, *outputs])

    def _reset_note(self) -> str:
        words = [state.name for state in self.states if "set after reset" in state.comment]
        if not words:
            return "All states take their first values."
        return f"Then set {', '.join(words)}: where {'they start' if len(words) > 1 else 'it starts'} is no number."

    def _block_note(self) -> str:
        arrays = [*self.inputs, *self.outputs]
        each, same = ([a.name for a in arrays if a.each_step is of_step] for of_step in (True, False))
        notes = [f"Of {', '.join(each)} the values of all steps, one after the other."] if each else []
        notes += [f"Once for all steps: {', '.join(same)}."] if same else []
        return " ".join(notes)

    def facts(self) -> list[str]:
        """Return what a step takes and gives, and what it costs."""
        constants = _FLOAT * sum(weight.size for weight in self.weights)
        state, work = _FLOAT * sum(field.size for field in self.states), _FLOAT * max(self.plan.work, 1)
        products = multiply_adds(self.graph)
        rest = flops(self.graph) - 2 * products
        rows = [("input", array.name, array.comment) for array in self.inputs]
        rows += [("output", array.name, array.comment) for array in self.outputs]
        rows += [("state", field.name, field.comment) for field in self.states]
        width = max((len(name) for _, name, _ in rows), default=0)
        return [
            *(f"{kind:6} {name:{width}}  {_plain(comment)}" for kind, name, comment in rows),
            "",
            f"RAM: {state} bytes for each stream ({self.name}_state), {work} bytes of scratch ({self.name}_work)",
            f"flash: {constants} bytes of weights, and the code",
            f"each step: {products} multiply-adds in products, {rest} other operations",
        ]


def multiply_adds(graph: Graph) -> int:
    """Return the multiplications of products and convolutions in one forward pass."""
    return sum(
        node.types[0].size * prod(graph.type(graph.args(node.name)[1]).shape[1:])
        for node in graph
        if isinstance(node.op, Linear | Conv)
    )


def _plain(text: str) -> str:
    """Return a text that can stand in a comment of C."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("*/", "* /").replace("/*", "/ *").rstrip("\\")


@cache
def functions() -> Mapping[str, str]:
    """Return the functions that generated code may call, by name, in an order in which each calls earlier ones."""
    blocks = files("lstmc_c").joinpath("functions.h").read_text().split("\n\n")[1:]
    named = {}
    for block in blocks:
        match = re.search(r"^static \w+ (\w+)\(", block, re.MULTILINE)
        assert match is not None, block
        named[match[1]] = block.strip()
    return named


def used_functions(body: Iterable[str]) -> list[str]:
    """Return the functions that lines of C call, with those that these call."""
    text, used = "\n".join(body), list[str]()
    for name, block in reversed([*functions().items()]):
        if re.search(rf"\b{name}\(", text):
            used.append(block)
            text += block
    return used[::-1]


def artifact(compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
    """Return ``NAME.c``, ``NAME.h`` and ``NAME.manifest.json``. Same input, same bytes."""
    source = Source(compiled, weights)
    manifest = _manifest(source)
    return Artifact(
        files={**source.files(), f"{compiled.name}.manifest.json": manifest.text().encode()},
        layers=len(source.plan.groups),
        inputs={name: entry.place.label for name, entry in manifest.inputs.items()},
        outputs={name: place.label for name, place in manifest.outputs.items()},
        notes=(*manifest.first_values(), *source.facts()[-3:]),
    )


def _manifest(source: Source) -> Manifest:
    graph, plan = source.graph, source.plan
    fed = {("input", node.name) for node in plan.inputs}

    def place(ref: Ref, blob: str | None) -> Place:
        type_ = graph.type(ref)
        return Place.from_types(type_, () if blob is None else ((blob, type_),))

    def blob(name: str) -> str | None:
        if name in plan.states:
            return f"state.{source.arrays['state', name]}"
        return source.arrays["input", name] if ("input", name) in fed else None

    after = {after: blob(before) for before, after in plan.states.items()}
    inputs = [node.name for node in graph if isinstance(node.op, Input)]
    outputs = {o.name: after.get(o.name) or source.arrays["output", o.name] for o in graph.outputs}
    return describe(
        source.compiled,
        inputs={name: (place(Ref(name), blob(name)), False) for name in inputs},
        outputs={o.name: place(o.ref, outputs[o.name]) for o in graph.outputs},
        weights=source.weight_graph,
        blobs={
            output.name: Stored(output.name, 0, source.weight_graph.type(output.ref).shape)
            for output in source.weight_graph.outputs
        },
    )
