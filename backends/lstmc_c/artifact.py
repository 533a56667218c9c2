"""The files of a net in C: the source with its weights, the header, and the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from lstmc.backend import Artifact, Compiled
from lstmc.errors import BackendError
from lstmc.files.templates import text_templates
from lstmc.interp import forward
from lstmc.ir import Graph, Ref, Scan, graph_work, values_over_time, weight_graph
from lstmc.manifest import Manifest, Place, describe
from lstmc.numerics.device import Grid
from lstmc.numerics.integers import IntegerRounding, not_measured
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Input
from lstmc.text import late, quoted
from lstmc.types import shape_text
from lstmc.version import __version__
from lstmc_c import numbers as stored
from lstmc_c.code import OWN, PANEL, Writer
from lstmc_c.elements import ALONG, HEADER, INDEPENDENT, INDICES, c_names, identifier, number
from lstmc_c.numbers import FLOAT32, PANELS, Constants, IntegerWriter, Numbers
from lstmc_c.plan import Plan

_TEMPLATES = text_templates("lstmc_c", ".")
_TEMPLATES.filters["number"] = number
BYTES = {"float": 4, "int8_t": 1, "int16_t": 2}
WEIGHTS = ".bin"  # the suffix of the file of weights
STATE = "state."  # prefix of the blobs of states


@dataclass(frozen=True)
class Field:
    """An array of the generated C. ``initial`` is a state's first value as C; ``each_step`` says that an input or
    output has a value for each step of a block; ``grid`` has the integers of its elements, or is None for floats."""

    name: str
    size: int
    comment: str
    initial: str = ""
    each_step: bool = False
    grid: Grid | None = None

    @property
    def type(self) -> str:
        return "float" if self.grid is None else stored.integer_type(self.grid.high)

    @property
    def bytes(self) -> int:
        return BYTES[self.type] * self.size


class Source:
    """The C of a compiled net with these weights and numbers. ``in_file``: the weights are in a file of their own."""

    def __init__(
        self, compiled: Compiled, weights: Mapping[str, Array], numbers: Numbers = FLOAT32, in_file: bool = False
    ) -> None:
        self.compiled, self.graph = compiled, compiled.expanded
        self.weights, self.numbers, self.in_file = weights, numbers, in_file
        self.rounding = numbers.rounding(compiled)  # None for float32
        integers = isinstance(self.rounding, IntegerRounding)
        self.plan = Plan.of(self.graph, compiled.states or (), integers, exact=self.rounding is None)
        self.work_type = "int16_t" if integers else "float"
        self.name = identifier(compiled.name)
        own = (f"{self.name}_{word}" for word in ("state", "work", "weights", "reset", "step", "block", "open"))
        self.names = c_names((*functions(), *OWN, *INDICES, ALONG, *own))  # of arguments, constants, variables
        self.fields = c_names()  # of the struct of states
        self.over_time = values_over_time(compiled.model)
        self.is_frame = is_frame(compiled.model)
        self.constants = Constants(self.names, in_file)
        self.initial = {pair.before: pair for pair in compiled.states or ()}  # the states by their inputs
        self.arrays: dict[tuple[str, str], str] = {}  # C names by kind (input, use, ...) and name in the plan
        states = [self._state(name) for name in self.plan.states]
        self.states = sorted(states, key=lambda field: -BYTES[field.type])  # a struct without gaps
        self.inputs = [self._array("input", node.name, Ref(node.name)) for node in self.plan.inputs]
        self.outputs = [self._array("output", output.name, output.ref) for output in self.plan.outputs]
        self.weight_graph = weight_graph(self.plan.graph, [*dict.fromkeys(ref for ref, _ in self.plan.weights)])
        writer = self._writer(forward(self.weight_graph, params=weights).outputs)
        self.plan.schedule(writer.loop_code)
        self.body = writer.step()

    def _writer(self, weights: Mapping[str, Array]) -> Writer:
        """Return the writer of a step in integers, or of a step in floats after adding its weights to the constants."""
        if not isinstance(self.rounding, IntegerRounding):
            self._add_weights(weights)
            return Writer(self.plan, self.arrays, self.names, self.numbers.half)
        values = {ref: weights[self.graph.value_name(ref)] for ref, _ in self.plan.weights}
        fields = {field.name: field.type for field in (*self.inputs, *self.outputs)}
        states = {field.name: field.type for field in self.states}
        types = {key: (states if key[0] == "state" else fields)[name] for key, name in self.arrays.items()}
        return IntegerWriter(self.plan, self.arrays, self.names, self.rounding, values, types, self.constants)

    def _grid(self, ref: Ref) -> Grid | None:
        """Return the grid of a caller's array, None for floats. Raises BackendError for a constant or unknown range."""
        if not isinstance(self.rounding, IntegerRounding):
            return None
        grid, name = self.rounding.grid(ref), self.graph.value_name(ref)
        if ref.node in constants(self.graph):
            problem = f"output {name} depends on no input: a step in integers has no such output"
            raise BackendError(problem, loc=self.graph.node(ref.node).loc)
        if grid is None:
            raise not_measured(name)
        return grid

    def _state(self, before: str) -> Field:
        """Return the field of the state whose input is ``before``. A first value that is an array is a constant."""
        pair, type_, grid = self.initial[before], self.graph.type(Ref(before)), self._grid(Ref(before))
        self._grid(next(output.ref for output in self.graph.outputs if output.name == pair.after))
        short = pair.name.rpartition("/")[2]
        alone = [other.name.rpartition("/")[2] for other in self.initial.values()].count(short) == 1
        name = self.arrays["state", before] = self.fields.unique(short if alone else pair.name)
        first = pair.first(self.weights)
        values = np.array(0.0 if isinstance(first, str) else first, np.float32)
        if grid is not None:
            whole = np.rint(grid.rounded(values.astype(np.float64)) / grid.scale)
            values = whole.astype(stored.integer_type(grid.high).removesuffix("_t"))
        if isinstance(first, np.ndarray):
            begin, comment = "an array", f"the first {pair.name} {shape_text(type_.shape)}"
            array = stored.finite(pair.name, values, values.dtype.type).ravel()
            initial = f"{self.constants.add(f'{name} first', array, comment)}[i]"
        else:
            begin = f"{first}, set after reset" if isinstance(first, str) else f"{first:g}"
            initial = number(float(values)) if grid is None else str(values)
        about = quoted(f"{pair.name}: {shape_text(type_.shape)}, from {begin}", "comment")
        return Field(name, type_.size, about, initial, grid=grid)

    def _array(self, memory: str, name: str, value: Ref) -> Field:
        """Return the field of an input or output (``memory``): its C name, and a comment on shape, domain and delay."""
        identifier = self.arrays[memory, name] = self.names.unique(name)
        self.names.taken.add(f"{self.name}_{'de' * (memory == 'output')}quantize_{identifier}")
        output = next((o for o in self.compiled.model.outputs if memory == "output" and o.name == name), None)
        ref = Ref(name) if output is None else output.ref
        op = self.graph.node(name).op if memory == "input" else None
        domain = f", {op.values}" if isinstance(op, Input) and op.values is not None else ""
        type_, each_step = self.plan.graph.type(value), self.is_frame or ref in self.over_time
        comment = f"{shape_text(type_.shape)}{domain}{f' ({name})' * (name != identifier)}"
        comment += f", {late(output.delay)}: of the inputs of that step" if output and output.delay else ""
        return Field(identifier, type_.size, quoted(comment, "comment"), each_step=each_step, grid=self._grid(value))

    def _add_weights(self, values: Mapping[str, Array]) -> None:
        """Add the weights that a step in floats reads, each in the number format and order that its product needs."""
        for ref, use in self.plan.weights:
            name, shape = self.plan.graph.value_name(ref), shape_text(self.plan.graph.type(ref).shape)
            format = self.numbers.format_of(use)
            array, comment = np.asarray(values[name], np.float32), f"{name} {shape}"
            if format == "int8":
                assert self.rounding is not None
                integers, steps = self.rounding.integers(stored.finite(name, array, np.float32))
                array = integers.astype(np.int8)
                about, scales = f"the scale of each row of {name}", steps.ravel().astype(np.float32)
                self.arrays[f"{use} scale", name] = self.constants.add(f"{name} scale", scales, about)
                comment += ", in integers"
            else:
                array = stored.finite(name, array, np.float16 if format == "fp16" else np.float32)
            if use == "bias":
                array = array.astype(np.float32)
            large = use == "panel" and format == "float" and not self.in_file and array.size >= PANEL**2
            parts, bounds = stored.in_bands(array) if large else ([array], array)
            if 0 < 4 * sum(part.size for part in parts) <= 3 * array.size:
                about = f"the columns of {name} that are not zero: of each panel the first one, and the end"
                self.arrays["panel bands", name] = self.constants.add(f"{name} bands", bounds.ravel(), about)
                array = np.concatenate([stored.in_panels(part) for part in parts])
                comment += f", in panels of {PANEL} rows without columns of zeros at both ends"
            elif use in PANELS:
                array = stored.in_panels(array, use)
                comment += f", in panels of {PANELS[use]} rows"
            self.arrays[use, name] = self.constants.add(name, array.ravel(), comment)

    def files(self) -> dict[str, bytes]:
        """Return ``NAME.c`` and ``NAME.h``, and the file of weights if they are not in the source."""
        body, constants = self.body, self.constants.ordered
        source = quoted(self.compiled.source, "comment")
        quantized = ["quantized()" for array in self.inputs if array.grid]
        arrays = [*self.inputs, *self.outputs]
        grids = {field.name: field.grid for field in arrays}
        grids |= {f"{STATE}{field.name}": field.grid for field in self.states}
        context = {
            "title": f"{self.name}: one step of {source}, written by lstmc {__version__}.", "name": self.name,
            "guard": f"{self.name.upper()}_H", "header": f"{self.compiled.name}.h",
            "facts": "\n".join(f"   {line}".rstrip() for line in self.facts()), "states": self.states,
            "work": self.plan.work + self.plan.scratch, "arrays": arrays, "inputs": self.inputs,
            "outputs": self.outputs, "work_type": self.work_type, "integers": self.work_type != "float",
            "numbers_of": {macro(self.name, blob): grid for blob, grid in grids.items() if grid is not None},
            "constants": constants, "in_file": self.in_file, "layout": f"0x{stored.layout_checksum(constants):08x}u",
            "bytes": self.constants.bytes, "file": f"{quoted(self.compiled.name, 'comment')}{WEIGHTS}",
            "functions": (used := used_functions([*body, *(state.initial for state in self.states), *quantized])),
            "pairs": any("__smlad" in text for text in used), "declaration": self._arguments(""),
            "definition": self._arguments("restrict "), "block": self._arguments("", "size_t steps"),
            "call": ", ".join([*self._first_arguments().values(), *(each.name for each in arrays)]), "body": body,
            "independent": any(line.strip() == INDEPENDENT for line in body),
            "vectors": any("LANES" in text for text in used)
            or (not self.in_file and any(c.is_large for c in constants)),
            "widens": any("WIDENED" in text for text in used),
            "intrinsics": any("WIDENED" in text or "_mm" in text for text in used),
            "uses_state": any("state->" in line for line in body),
            "uses_weights": any("weights->" in line for line in body), "reset": self._reset_note(),
            "reset_weights": any("weights->" in state.initial for state in self.states), "each": self._block_note(),
        }  # fmt: skip
        contents = {
            ".c": _TEMPLATES.get_template("source.c.j2").render(context).encode(),
            ".h": _TEMPLATES.get_template("header.h.j2").render(context).encode(),
            **({WEIGHTS: stored.weights_file(constants)} if self.in_file else {}),
        }
        return {f"{self.compiled.name}{suffix}": content for suffix, content in contents.items()}

    def _first_arguments(self, restrict: str = "") -> dict[str, str]:
        """Return the arguments before the arrays by their declarations: state, work memory, weights in a file."""
        return {
            **({f"{self.name}_state *{restrict}state": "state"} if self.states else {}),
            f"{self.name}_work *{restrict}work": "work",
            **({f"const {self.name}_weights *{restrict}weights": "weights"} if self.in_file else {}),
        }

    def _arguments(self, restrict: str, more: str = "") -> str:
        """Return the declarations of a function's arguments, ``more`` between the first arguments and the arrays."""
        inputs = [f"const {array.type} *{restrict}{array.name}" for array in self.inputs]
        outputs = [f"{array.type} *{restrict}{array.name}" for array in self.outputs]
        return ", ".join([*self._first_arguments(restrict), *filter(None, [more]), *inputs, *outputs])

    def _reset_note(self) -> str:
        words = [state.name for state in self.states if "set after reset" in state.comment]
        if not words:
            return "All states take their first values."
        return f"Then set {', '.join(words)}: where {'they start' if len(words) > 1 else 'it starts'} is no number."

    def _block_note(self) -> str:
        """Return the comment on which arrays of a block have a value for each step."""
        arrays = [*self.inputs, *self.outputs]
        each, same = ([a.name for a in arrays if a.each_step is of_step] for of_step in (True, False))
        notes = [f"Of {', '.join(each)} the values of all steps, one after the other."] if each else []
        notes += [f"Once for all steps: {', '.join(same)}."] if same else []
        return " ".join(notes)

    def facts(self) -> list[str]:
        """Return a table of inputs, outputs and states, then memory and operations of a step, as lines."""
        work = BYTES[self.work_type] * max(self.plan.work + self.plan.scratch, 1)
        state = sum(field.bytes for field in self.states)
        state += -state % max((BYTES[field.type] for field in self.states), default=1)
        flash = f"{self.constants.bytes} bytes of weights"
        flash += f", in {self.compiled.name}{WEIGHTS}" if self.in_file else ""
        total = graph_work(self.graph)
        rows = [("input", array.name, array.comment) for array in self.inputs]
        rows += [("output", array.name, array.comment) for array in self.outputs]
        rows += [("state", field.name, field.comment) for field in self.states]
        width = max((len(name) for _, name, _ in rows), default=0)
        return [
            *(f"{kind:6} {name:{width}}  {comment}" for kind, name, comment in rows),
            *([f"numbers: {quoted(self.numbers.device.about, 'comment')}"] if self.numbers.device else []),
            "",
            f"RAM: {state} bytes for each stream ({self.name}_state), {work} bytes of scratch ({self.name}_work)",
            f"flash: {flash}, and the code",
            f"each step: {total.multiply_adds} multiply-adds in products, {total.operations} other operations",
        ]


def is_frame(model: Graph) -> bool:
    """Return whether a model is one step because it has no loop over time: each call takes a frame."""
    return all(node.op.inside for node in model if isinstance(node.op, Scan))


def macro(net: str, blob: str) -> str:
    """Return the prefix of the macros of one array of a net."""
    return f"{net}_{blob}".replace(".", "_").upper()


@cache
def functions() -> Mapping[str, str]:
    """Return the functions that generated code may call, by name. Each function calls only functions before it."""
    named = {}
    for block in HEADER.split("\n\n")[1:]:
        match = re.search(r"^static [\w *]+?(\w+)\(", block, re.MULTILINE)
        assert match is not None, block
        named[match[1]] = block.strip()
    return named


def used_functions(body: Iterable[str]) -> list[str]:
    """Return the functions that lines of C call, directly or through other functions."""
    text, used = "\n".join(body), list[str]()
    for name, block in reversed([*functions().items()]):
        if re.search(rf"\b{name}\(", text):
            used.append(block)
            text += block
    return used[::-1]


# layout -> the folder of a net's files, and the templates of all other files by their names
LAYOUTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "files": ("", {}),
    "arduino": ("{name}/src/", {"{name}/library.properties": "library.properties.j2"}),
    "esp-idf": ("{name}/", {"{name}/CMakeLists.txt": "CMakeLists.txt.j2"}),
}


def artifact(source: Source, layout: str = "files") -> Artifact:
    """Return ``NAME.c``, ``.h``, ``.manifest.json``, maybe ``.bin``, in a layout's folders: same input, same bytes."""
    compiled, manifest = source.compiled, _manifest(source)
    folder, others = LAYOUTS[layout]
    named = {**source.files(), f"{compiled.name}.manifest.json": manifest.text().encode()}
    files = {f"{folder.format(name=compiled.name)}{name}": content for name, content in named.items()}
    for name, template in others.items():
        text = _TEMPLATES.get_template(template).render(name=compiled.name, version=__version__, net=source.name)
        files[name.format(name=compiled.name)] = text.encode()
    inputs = {name: entry.place.label for name, entry in manifest.inputs.items()}
    outputs = {name: place.label for name, place in manifest.outputs.items()}
    notes = (*manifest.first_values(), *source.facts()[-3:])
    return Artifact(files, len(source.plan.works), inputs, outputs, notes)


def _manifest(source: Source) -> Manifest:
    """Return the manifest of a step in C: each input, output and state is in a field of the state or an argument."""
    graph, plan = source.graph, source.plan
    fed = {("input", node.name) for node in plan.inputs}

    def place(ref: Ref, blob: str | None) -> Place:
        type_ = graph.type(ref)
        return Place.from_types(type_, () if blob is None else ((blob, type_),))

    def blob(name: str) -> str | None:
        if name in plan.states:
            return f"{STATE}{source.arrays['state', name]}"
        return source.arrays["input", name] if ("input", name) in fed else None

    after = {after: blob(before) for before, after in plan.states.items()}
    names = [node.name for node in graph if isinstance(node.op, Input)]
    inputs = {name: (place(Ref(name), blob(name)), False) for name in names}
    outputs = {o.name: place(o.ref, after.get(o.name) or source.arrays["output", o.name]) for o in graph.outputs}
    return describe(source.compiled, source.weights, inputs, outputs, source.weight_graph)
