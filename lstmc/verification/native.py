"""Run a compiled graph with its generated layers compiled for this machine, and everything else by the interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.native import Loop, loops
from lstmc.loops.rows import batch_of
from lstmc.ops import Array, Arrays, Draw, Op, Sample, Types
from lstmc.passes import Refs, rewrite
from lstmc.types import TensorType
from lstmc.verification.differential import InterpreterExecutor, interpreted

NATIVE = "native"
Floats = NDArray[np.float32]
_ALIGNED = 16  # floats in a cache line


@dataclass(frozen=True)
class NativeScan(Op):
    """A generated scan that computes by its compiled code, in float32."""

    name: ClassVar[str] = "native_scan"
    operands: ClassVar[tuple[str, ...]] = ("*args",)
    scan: GeneratedScan
    loop: Loop

    def infer(self, *args: TensorType) -> Types:
        return self.scan.infer(*args)

    def eval(self, *args: Array) -> Arrays:
        return tuple(_Pass(self, args).tops)

    def vjp(self, cts: Arrays, outs: Arrays, *args: Array) -> tuple[Array | None, ...]:
        return _Pass(self, args).gradients(cts)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        raise NotImplementedError("native scans are made of generated ones")


class _Pass:
    """The forward pass of a native scan, run when this object is made; the backward pass reads its memory."""

    def __init__(self, op: NativeScan, args: Arrays) -> None:
        """Allocate results and memory, and run the forward pass of ``op`` on the operands ``args`` in float32."""
        self.op, self.loop = op, op.loop
        inlined = op.scan.inlined(len(args))
        self.bottoms = [slot for slot in range(len(args)) if op.scan.role(slot) != "weight" and slot not in inlined]
        self.weights = [slot for slot in range(len(args)) if op.scan.role(slot) == "weight"]
        self.args: list[Floats] = [np.ascontiguousarray(arg, np.float32) for arg in args]
        shapes = [args[slot].shape for slot in self.bottoms]
        self.sizes = self.loop.sizes(shapes, op.scan.length, batch_of(op.scan))
        self.tops = [np.empty(top.at(*self.sizes), np.float32) for top in self.loop.tops]
        self._memory = np.empty(self.loop.workspace_floats(*self.sizes) + _ALIGNED, np.float32)
        self._workspace = -(-self._memory.ctypes.data // (4 * _ALIGNED)) * 4 * _ALIGNED  # its first aligned address
        self.loop.forward(self.sizes, *self._inputs(), _addresses(self.tops), self._workspace)

    def _inputs(self) -> tuple[list[int], list[int]]:
        bottoms, weights = ([self.args[slot] for slot in slots] for slots in (self.bottoms, self.weights))
        return _addresses(bottoms), _addresses(weights)

    def gradients(self, cts: Arrays) -> tuple[Array | None, ...]:
        """Return each operand's gradient from those of the results; None for an initial state that is a number."""
        cotangents = [np.ascontiguousarray(ct, np.float32) for ct in cts]
        grads = {slot: np.zeros_like(self.args[slot]) for slot in (*self.bottoms, *self.weights)}
        of_bottoms, of_weights = ([grads[slot] for slot in slots] for slots in (self.bottoms, self.weights))
        self.loop.backward(
            self.sizes,
            *self._inputs(),
            _addresses(self.tops),
            self._workspace,
            (_addresses(cotangents), _addresses(of_bottoms), _addresses(of_weights)),
            [True] * len(of_bottoms),
        )
        return tuple(grads.get(slot) for slot in range(len(self.args)))


def _addresses(arrays: list[Floats]) -> list[int]:
    return [array.ctypes.data for array in arrays]


def with_native_loops(graph: Graph, written: str | None = None) -> Graph:
    """Return a graph whose generated layers run compiled code: of the source text ``written``, or newly generated.
    Raises :class:`BackendError` for a graph without generated layers, and if they cannot be compiled here."""
    nodes = {node.name: node.op for node in graph if isinstance(node.op, GeneratedScan)}
    if not nodes:
        raise BackendError(
            f"{NATIVE} runs generated layers: expected a net that has some, found one whose scans are all unrolled",
            notes=("choose a target with generated layers, as caffe-fused",),
        )
    plans, otherwise = [op.plan() for op in nodes.values()], f"{InterpreterExecutor.name} needs none"
    compiled = loops(plans, otherwise, written)
    ops = {name: NativeScan(op, loop) for (name, op), loop in zip(nodes.items(), compiled, strict=True)}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        return b.add(ops[node.name], *args, names=node.names, loc=node.loc) if node.name in ops else None

    return rewrite(graph, visit)


class NativeExecutor(InterpreterExecutor):
    """Runs generated layers compiled for this machine, and other ops in the interpreter in float32, without Caffe."""

    name = NATIVE

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Interpret the graph; its generated layers run compiled code, of the artifact's source if it has any."""
        file = f"{compiled.name}.layers.cpp"
        written = artifact.files[file].decode() if file in artifact.files else None
        graph = with_native_loops(compiled.expanded, written)
        return replace(interpreted(graph, arrays, self.dtype), files=() if written is None else (file,))
