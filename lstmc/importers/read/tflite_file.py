"""TFLite files read by the schema of ai-edge-litert: tensors and operators, every place and size checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.files.reading import read_file
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, checked_shape
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.text import brief, unused

MAGIC = b"TFL3"
KINDS = {
    "FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8", "INT8": "<i1", "UINT8": "<u1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "BOOL": "?",
}  # fmt: skip
LARGER = 16  # constants of a file have at most so many times its bytes: several may share one buffer


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file; ``signature`` is the shape with -1 for open sizes. ``stored`` has a constant's elements, None
    for a computed tensor. An integer q stands for (q - ``zero``) * ``scale``: one scale, or one for each place of
    ``axis``; ``scale`` is empty if the elements are plain numbers."""

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    kind: str
    stored: Array | None
    variable: bool
    scale: Array
    zero: Array
    axis: int

    @property
    def integer(self) -> bool:
        """Whether the elements are integers that stand for numbers by a scale."""
        return self.kind in ("INT8", "UINT8", "INT16", "INT32") and bool(self.scale.size)

    def numbers(self) -> Array:
        """Return a constant's numbers: scaled integers as float32, all others as float32, int64 or bool."""
        assert self.stored is not None
        if not self.integer:
            return self.stored.astype({"f": np.float32, "b": bool}.get(self.stored.dtype.kind, np.int64))
        sizes = [-1 if axis == self.axis and self.scale.size > 1 else 1 for axis in range(self.stored.ndim)]
        scale, zero = (np.reshape(part, sizes) for part in (self.scale, self.zero))
        numbers: Array = ((self.stored.astype(np.float64) - zero) * scale).astype(np.float32)
        return numbers


@dataclass(frozen=True)
class Operator:
    """An operator of a file: its name in the schema, its tensors' numbers (-1: omitted), and its options."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


def _names(values: type) -> dict[int, str]:
    return {value: name for name, value in vars(values).items() if not name.startswith("_")}


class TfliteFile:
    """The first graph of a file, checked. The constructor raises :class:`SourceError` for a damaged or another file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises :class:`SourceError` for any error of the schema's code, which checks no bytes."""
        schema = need("ai_edge_litert.schema_py_generated", "LiteRT", "tflite", SourceError)
        self.origin, self.content, self.bytes = path.name, read_file(path), 0  # bytes of constants, as float32
        try:
            self._read(schema)
        except SourceError:
            raise
        except Exception as error:  # flatbuffers, struct and NumPy raise others for damaged bytes
            raise self.damaged(brief(error) or type(error).__name__) from None

    def computes_in_integers(self, operator: Operator) -> bool:
        """Return whether a computed operand or result of an operator has integers with a scale."""
        tensors = [self.tensors[place] for place in (*operator.inputs, *operator.outputs) if place >= 0]
        return any(tensor.integer and tensor.stored is None for tensor in tensors)

    def damaged(self, why: str) -> SourceError:
        return SourceError(f"{self.origin}: not a TFLite file, or a damaged one: {why}")

    def _read(self, s: Any) -> None:
        """Read tensors, operators, inputs and outputs of the first graph, and check each number against the file."""
        kinds, codes = _names(s.TensorType), _names(s.BuiltinOperator)
        model = s.Model.GetRootAs(self.content)
        if not model.SubgraphsLength():
            raise self.damaged("it has no graph")
        graph = model.Subgraphs(0)
        count, operators, known = graph.TensorsLength(), graph.OperatorsLength(), model.OperatorCodesLength()
        if max(count, operators, known, model.BuffersLength()) > MANY:
            raise self.damaged(f"it has more than {MANY:,} tensors or operators")
        self.tensors = [self._tensor(model, graph.Tensors(place), kinds) for place in range(count)]
        entries = [model.OperatorCodes(place) for place in range(known)]
        numbers = [max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode()) for entry in entries]
        names = [
            codes.get(number, f"operator {number}")
            if number != s.BuiltinOperator.CUSTOM
            else (each.CustomCode() or b"").decode("utf-8", "replace")
            for each, number in zip(entries, numbers, strict=True)
        ]
        self.operators = []
        read = 0
        for place in range(operators):
            each = s.OperatorT.InitFromObj(graph.Operators(place))
            ends = [() if part is None else tuple(map(int, part[:MANY])) for part in (each.inputs, each.outputs)]
            read += sum(map(len, ends))
            if not all(-1 <= i < count for end in ends for i in end) or min(ends[1], default=0) < 0 or read > 10 * MANY:
                raise self.damaged(f"operator {place} has tensors that the file does not have")
            self.operators.append(Operator(names[each.opcodeIndex], ends[0], ends[1], each.builtinOptions))
        self.inputs, self.outputs = self._ends(model, graph)

    def _tensor(self, model: Any, entry: Any, kinds: Mapping[int, str]) -> Tensor:
        """Return a tensor. Raises :class:`SourceError` if its buffer or its scales do not fit its shape."""
        name = (entry.Name() or b"a tensor").decode("utf-8", "replace")
        kind = kinds.get(entry.Type(), f"type {entry.Type()}")
        stated = [] if entry.ShapeIsNone() else [*map(int, entry.ShapeAsNumpy()[:MANY])]
        shape = checked_shape(self.origin, name, stated)
        signature = () if entry.ShapeSignatureIsNone() else tuple(map(int, entry.ShapeSignatureAsNumpy()))
        buffer, stored = model.Buffers(entry.Buffer()), None
        if entry.Buffer() and kind in KINDS and (buffer.DataLength() or 0 in shape):
            dtype = np.dtype(KINDS[kind])
            data = buffer.DataAsNumpy() if buffer.DataLength() else np.zeros(0, np.uint8)
            self.bytes += 4 * prod(shape)
            if data.size != prod(shape) * dtype.itemsize or entry.Sparsity() is not None:
                raise self.damaged(f"tensor {name} of {kind}{list(shape)} has {data.size:,} bytes")
            if self.bytes > LARGER * len(self.content) + 2**20:
                raise self.damaged("its constants have more bytes than the file")
            stored = np.frombuffer(data, dtype).reshape(shape)
        scale, zero, axis = np.zeros(0), np.zeros(0), 0
        if (parts := entry.Quantization()) is not None and not parts.ScaleIsNone():
            scale, axis = parts.ScaleAsNumpy(), parts.QuantizedDimension()
            zero = np.zeros(scale.size) if parts.ZeroPointIsNone() else parts.ZeroPointAsNumpy()
            sizes = {1, *([shape[axis]] if 0 <= axis < len(shape) else [])}
            if scale.size not in sizes or zero.size not in (1, scale.size):
                raise self.damaged(f"tensor {name} has {scale.size} scales and {zero.size} zero points")
        if len(signature) != len(shape):
            signature = shape
        return Tensor(name, shape, signature, kind, stored, entry.IsVariable(), scale, zero, axis)

    def _ends(self, model: Any, graph: Any) -> tuple[dict[str, int], dict[str, int]]:
        """Return the numbers of input and output tensors by the signature's names, or without one by the tensors'."""
        ends: list[dict[str, int]] = []
        one = model.SignatureDefs(0) if model.SignatureDefsLength() == 1 else None
        for kind in ("Inputs", "Outputs"):
            length, at = getattr(graph, f"{kind}Length")(), getattr(graph, kind)
            places = [int(at(i)) for i in range(min(length, MANY))]
            if not all(0 <= place < len(self.tensors) for place in places):
                raise self.damaged("its inputs or outputs are no tensors")
            maps = [getattr(one, kind)(i) for i in range(getattr(one, f"{kind}Length")())] if one is not None else []
            called = [(each.Name().decode("utf-8", "replace"), int(each.TensorIndex())) for each in maps[:MANY]]
            if {place for _, place in called} != {*places} or len({*called}) > len(dict(called)):
                called = [(self.tensors[place].name, place) for place in dict.fromkeys(places)]
            named = dict[str, int]()
            taken = {*(ends[0] if ends else ())}  # a graph of ONNX has one value of a name: state h becomes h_out
            for name, place in called:
                title = unused(f"{name}_out" if name in taken else name, {*taken, *named}.__contains__)
                named[title] = place
            ends.append(named)
        return ends[0], ends[1]
