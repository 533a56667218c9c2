"""A compiled graph as a program in Python: a function for each scan, step by step, and one for the whole graph."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.backend.compiled import PRODUCT, OpenSizes
from lstmc.errors import BackendError
from lstmc.ir import Node, Ref, Scan
from lstmc.loops.code import cpu_source, layer_code, source
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.rows import batch_of
from lstmc.ops import Arg, Binary, Full, Input, Param, Split, Unstack
from lstmc.text import unused
from lstmc_torch.lowerings import FUNCTIONS, Call, lowered

_OWN = ("torch", "F", "parameters", "training", "native", "loop", "like", "t", *FUNCTIONS)
_TAKEN = {*dir(builtins), *keyword.kwlist, *_OWN}


@dataclass(frozen=True)
class Program:
    """The text of a program, whose ``forward`` computes a graph; the C++ of its loops, and their CUDA where that was
    asked for, both empty without any."""

    text: str
    cpp: str
    cu: str = ""


def program_of(sizes: OpenSizes, gpu: bool = False) -> Program:
    """Return the program of a graph, for all sizes of its open dimensions; with ``gpu`` its loops in CUDA too.

    Raises :class:`BackendError` for an op that has no form in PyTorch, and a size that cannot be written.
    """
    graph = sizes.graph
    codes = [layer_code(node.op.plan()) for node in graph if isinstance(node.op, GeneratedScan)]
    whole = _Function(sizes, "forward")
    whole.write_graph()
    functions = [*whole.scans, "\n".join(whole.lines)]
    functions = [text for name, text in FUNCTIONS.items() if any(f"{name}(" in each for each in functions)] + functions
    text = "\n\n\n".join(["import torch\nimport torch.nn.functional as F", *functions])
    cu = source(graph.name, codes).cu if codes and gpu else None
    return Program(text + "\n", cpu_source(graph.name, codes) if codes else "", cu or "")


class _Names:
    """Names of values that are identifiers, each once."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self._taken = {*_TAKEN, *taken}

    def unique(self, name: str) -> str:
        base = re.sub(r"\W", "_", name.rpartition("/")[2]) or "v"
        base = f"v{base}" if base[0].isdigit() else base
        fresh = unused(base, self._taken.__contains__)
        self._taken.add(fresh)
        return fresh


class _Function:
    """The lines of one function: of a whole graph, or of a scan and the steps of its body."""

    def __init__(self, sizes: OpenSizes, name: str) -> None:
        self.sizes, self.graph, self.name = sizes, sizes.graph, name
        self.dims = list(sizes.inputs()) if name == "forward" else []
        self.names = _Names(self.dims)
        self.values: dict[Ref, str] = {}
        self.lines: list[str] = []
        self.scans: list[str] = []

    # the whole graph ----------------------------------------------------------------------------------------------

    def write_graph(self) -> None:
        inputs = [node for node in self.graph if isinstance(node.op, Input)]
        for node in inputs:
            self._name(node)
        listed = "".join(f"{self.values[Ref(node.name)]}, " for node in inputs)
        self.lines.append(f"def forward(parameters, {listed}training, native, loop):")
        self.lines += [
            f"    {dim} = {self._value(name)}.shape[{axis}]" for dim, (name, axis) in self.sizes.inputs().items()
        ]
        params = [node for node in self.graph if isinstance(node.op, Param)]
        for node in params:
            self.lines.append(f"    {self._name(node)} = parameters[{node.name!r}]")
        self.lines.append(f"    like = {self._value((params or inputs)[0].name)}")
        for node in self.graph:
            if isinstance(node.op, Scan):
                self._call_scan(node, node.op)
            else:
                self._write(node, "    ")
        self.lines.append(f"    return {_tuple([self._read(output.ref) for output in self.graph.outputs])}")

    def _call_scan(self, node: Node, scan: Scan) -> None:
        function = _Function(self.sizes.inside(node), self.names.unique(scan.body.name))
        dims = list(self.sizes.inputs())
        steps, rows = self._open_sizes(node, scan)
        function.write_scan(scan, dims, steps)
        self.scans.append("\n".join(function.lines))
        operands = self.graph.args(node.name)
        results = [self.names.unique(name) for name in node.names]
        self.values.update((Ref(node.name, out), name) for out, name in enumerate(results))
        to = ", ".join(results) + ("," if len(results) == 1 else "")
        plain = f"{to} = {function.name}({', '.join([*map(self._read, operands), 'like', *dims])})"
        if not isinstance(scan, GeneratedScan):
            self.lines.append(f"    {plain}")
            return
        inlined = scan.inlined(len(operands))
        bottoms = [ref for slot, ref in enumerate(operands) if scan.role(slot) != "weight" and slot not in inlined]
        weights = [ref for slot, ref in enumerate(operands) if scan.role(slot) == "weight"]
        tensors = (f"[{', '.join(map(self._read, refs))}]" for refs in (bottoms, weights))
        kind = layer_code(scan.plan()).type
        self.lines += [
            "    if native:",
            f"        {to} = loop({kind!r}, {steps}, {rows}, {', '.join(tensors)})",
            "    else:",
            f"        {plain}",
        ]

    def _open_sizes(self, node: Node, scan: Scan) -> tuple[int | str, int | str]:
        """T and N of a scan, as they are written."""
        steps = self.sizes.shape(Ref(node.name))[0] if scan.step_outputs else scan.length
        states = [slot for slot in range(len(scan.body.body_args())) if scan.role(slot) == "state"]
        first = self.sizes.inside(node).shape(Ref(scan.body.body_args()[states[0]].name)) if states else ()
        return steps, first[0] if first else batch_of(scan)

    # a scan -------------------------------------------------------------------------------------------------------

    def write_scan(self, scan: Scan, dims: Sequence[str], length: int | str) -> None:
        self.dims, self.names = list(dims), _Names(dims)
        args = self.graph.body_args()
        roles = [scan.role(slot) for slot in range(len(args))]
        names = [self.names.unique(arg.name) for arg in args]
        sequences = [name for name, role in zip(names, roles, strict=True) if role == "x"]
        self.lines.append(f"def {self.name}({', '.join([*names, 'like', *dims])}):")
        steps = f"{sequences[0]}.shape[0]" if sequences else str(length)
        states = [name for name, role in zip(names, roles, strict=True) if role == "state"]
        outputs = [self.names.unique(f"all_{output.name or 'y'}") for output in scan.step_outputs]
        self.lines += [f"    {name} = []" for name in outputs]
        self.lines.append(f"    for t in {f'reversed(range({steps}))' if scan.reverse else f'range({steps})'}:")
        for arg, name, role in zip(args, names, roles, strict=True):
            if role == "x":
                step = self.names.unique(f"{name}_t")
                self.lines.append(f"        {step} = {name}[t]")
                name = step
            self.values[Ref(arg.name)] = name
        for node in self.graph:
            if isinstance(node.op, Scan):
                raise BackendError("a scan in a scan has no form in PyTorch", loc=node.loc)
            self._write(node, "        ")
        results = [self._read(output.ref) for output in self.graph.outputs]
        self.lines += [f"        {name}.append({value})" for name, value in zip(outputs, results, strict=False)]
        if states:
            self.lines.append(f"        {', '.join(states)} = {', '.join(results[len(outputs) :])}")
        order = "[::-1]" if scan.reverse else ""
        stacked = [f"torch.stack({name}{order})" for name in outputs]
        self.lines.append(f"    return {_tuple([*stacked, *states])}")

    # one node -----------------------------------------------------------------------------------------------------

    def _write(self, node: Node, indent: str) -> None:
        if isinstance(node.op, Input | Param | Arg | Full):
            return
        operands = self.graph.args(node.name)
        types = [self.graph.type(ref) for ref in operands]
        args = [self._read(ref) for ref in operands]
        if isinstance(node.op, Binary):
            args = [
                self._number(ref, arg) if other == node.types[0] else arg
                for ref, arg, other in zip(operands, args, types[::-1], strict=True)
            ]
        call = Call(node.op, args, types, node.types[0], lambda: self._shape(Ref(node.name)))
        try:
            text = lowered(call)
        except BackendError as error:
            raise error.located(node.loc) from None
        names = [self.names.unique(name) for name in node.names]
        self.values.update((Ref(node.name, out), name) for out, name in enumerate(names))
        to = ", ".join(names) + ("," if len(names) == 1 and isinstance(node.op, Split | Unstack) else "")
        self.lines.append(f"{indent}{to} = {text}")

    def _name(self, node: Node) -> str:
        self.values[Ref(node.name)] = self.names.unique(node.name)
        return self.values[Ref(node.name)]

    def _value(self, name: str) -> str:
        return self.values[Ref(name)]

    def _read(self, ref: Ref) -> str:
        op = self.graph.node(ref.node).op
        if isinstance(op, Full):
            return f"like.new_full({self._shape(ref)}, {op.value!r})"
        return self.values[ref]

    def _number(self, ref: Ref, text: str) -> str:
        """The number that a value is everywhere, where it may stand for it; else the value."""
        op = self.graph.node(ref.node).op
        return repr(op.value) if isinstance(op, Full) else text

    def _shape(self, ref: Ref) -> str:
        sizes = self.sizes.shape(ref)
        if sum(size == PRODUCT for size in sizes) > 1:
            raise BackendError(f"{self.graph.value_name(ref)} has two sizes that are computed")
        texts = ["-1" if size == PRODUCT else str(size) for size in sizes]
        return _tuple(texts)


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
