"""The integers of a net in TFLite, by a device of :mod:`lstmc.numerics`, and the tensors that store them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.ir import Ref
from lstmc.numerics.chosen import ChosenNumbers, step_rounding
from lstmc.numerics.device import Device, Grid
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.rounding import DeviceRounding
from lstmc.numerics.sequences import StepRunner
from lstmc.numerics.tflite import bias_integers, format_of_bits, has_kernel, integers_of, matrix_integers, number_grid
from lstmc.ops import Array, Input
from lstmc_tflite.lowerings import Written
from lstmc_tflite.net import Net, Operator, Tensor

# Operators whose results have the numbers of their operands.
MOVES = ("BROADCAST_TO", "CONCATENATION", "PAD", "REDUCE_MAX", "RESHAPE", "SLICE", "SPLIT", "TRANSPOSE")
JOINED = ("CONCATENATION", "MAXIMUM", "PAD")
MOST_STEPS = 256  # XNNPACK refuses a multiplier from here on, and LiteRT 2.3 then frees the net twice
SHORT: Mapping[str, str] = {
    **{name: f"litert-{name}" for name in ("a8w8", "a16w8", "a8w8-s16")},
    "fp16": "litert-fp16-weights",
}


class Numbers(ChosenNumbers):
    """The number format of a net in TFLite."""

    backend = "tflite"
    short = SHORT

    @staticmethod
    def problem(device: Device) -> str | None:
        halves = device.weights.format == "fp16" and device.values.format == "float"
        expected = f"expected float32, {', '.join(SHORT)}, or a device of TFLite as tflm-a8w8"
        return None if halves or device.kernels else expected

    def rounding(self, compiled: Compiled, kernels: str = "") -> IntegerRounding | None:
        """Return a net's integer arithmetic, by other ``kernels`` than the device's if given; None for floats."""
        if self.device is None or not self.integers:
            return None
        device = replace(self.device, target=compiled.target)
        if kernels:
            device = replace(device, kernels=kernels)  # type: ignore[arg-type]
        return step_rounding(device, compiled, self.limits or {})

    def half_weights(self, compiled: Compiled) -> DeviceRounding | None:
        """Return the arithmetic of a net in float32 with weights in float16, or None for other numbers."""
        return None if self.device is None or self.integers else DeviceRounding(self.device, compiled.expanded, {})


FLOAT32 = Numbers()


def halve_weights(net: Net) -> None:
    """Store the weights of products, and biases that are not zero, in float16, each followed by a DEQUANTIZE."""
    operators, net.operators = net.operators, []
    reals: dict[Tensor, Tensor] = {}
    for operator in operators:
        net.node = operator.node
        for place, tensor in enumerate(operator.inputs):
            if tensor.role not in ("weights", "bias") or tensor.data is None or not tensor.data.any():
                continue
            if tensor not in reals:
                tensor.dtype, tensor.stored = "float16", tensor.data.astype(np.float16)
                reals[tensor] = net.add("DEQUANTIZE", [tensor], tensor.shape, f"{tensor.name}/float")
            operator.inputs[place] = reals[tensor]
        net.operators.append(operator)


class Quantiser:
    """Gives each tensor of a net its integers. Raises :class:`BackendError` for an op without an integer form."""

    def __init__(self, written: Written, compiled: Compiled, params: Mapping[str, Array], numbers: Numbers) -> None:
        rounding = numbers.rounding(compiled)
        assert rounding is not None
        if compiled.states is None:
            expected = "expected a model with a scan, found none; numbers=float32 or numbers=fp16 need none"
            raise BackendError(f"{compiled.name} has no steps to measure ranges over: {expected}")
        self.net, self.per = written.net, rounding.device.weights.per  # per: the weights that share a scale
        self.graph = graph = compiled.expanded
        constants = StepRunner(compiled, params).constants
        for output in graph.outputs:
            if output.ref in constants:
                problem = f"output {output.name} depends on no input: a step in integers has no such output"
                raise BackendError(problem, loc=graph.node(output.ref.node).loc)
        self.floats = set[str]()  # nodes that compute in float32
        for node in graph:
            if not isinstance(node.op, Input) and Ref(node.name) not in constants:
                args = graph.args(node.name)
                rounding.kernel(node, [constants.get(ref, np.zeros(())) for ref in args])  # raises if there is none
                result = rounding.grid(Ref(node.name))
                assert result is not None
                if not has_kernel(node.op, [rounding.grid(ref) for ref in args], result, compiled.target):
                    self.floats.add(node.name)
        self.grids: dict[Tensor, Grid] = {}  # the integers of each tensor
        for ref, tensor in written.tensors.items():
            source: Tensor | None = tensor
            while source is not None and (grid := rounding.grid(ref)) is not None:  # views have one grid
                self.grids[source], source = grid, source.view
        self._constants: dict[tuple[Tensor, Grid], Tensor] = {}  # copies in integers
        self._reals: dict[Tensor, Tensor] = {}  # tensors in float32

    def run(self) -> None:
        """Store integers in all tensors, except around operators that stay in floats."""
        self._spread()
        for tensor in self.net.tensors:
            if tensor in self.grids and tensor.data is None:  # tensors without a grid are inside of an op in float32
                _set(tensor, self.grids[tensor])
        operators, self.net.operators = self.net.operators, []
        for operator in operators:
            if operator.node in self.floats:
                self._in_floats(operator)
                continue
            operator.inputs = [self._constant(operator, tensor) for tensor in operator.inputs]
            if any(tensor.role == "weights" for tensor in operator.inputs):
                self._product(operator)
            if operator.code == "MAXIMUM":
                operator.inputs = [self._requantized(operator, tensor) for tensor in operator.inputs]
            self.net.operators.append(operator)

    def _in_floats(self, operator: Operator) -> None:
        """Write an operator in float32, with a DEQUANTIZE of each operand and a QUANTIZE of each result in integers."""
        self.net.node = operator.node
        for place, tensor in enumerate(operator.inputs):
            name, is_copy = f"{tensor.name}/float", tensor.data is not None and tensor.role != "index"
            if tensor not in self._reals and is_copy:  # another product may have it in integers
                self._reals[tensor] = self.net.tensor(name, tensor.shape, data=tensor.data)
            elif tensor not in self._reals and tensor.scale:
                self._reals[tensor] = self.net.add("DEQUANTIZE", [tensor], tensor.shape, name)
            operator.inputs[place] = self._reals.get(tensor, tensor)
        results = operator.outputs
        reals = [self.net.tensor(f"{each.name}/float", each.shape) if each.scale else each for each in results]
        operator.outputs = reals
        self.net.operators.append(operator)
        for real, whole in zip(reals, results, strict=True):
            if real is not whole:
                self.net.operators.append(Operator("QUANTIZE", [real], [whole], {}, operator.node))

    def _requantized(self, operator: Operator, tensor: Tensor) -> Tensor:
        """Return an operand on the result's grid: the operand itself if it has this grid, or else a QUANTIZE of it."""
        grid, name = self.grids[operator.outputs[0]], f"{operator.outputs[0].name}/of"
        if tensor.data is not None or self.grids[tensor] == grid:
            return tensor
        self.net.node = operator.node
        copy = self.net.add("QUANTIZE", [tensor], tensor.shape, name)
        _set(copy, grid)
        return copy

    def _spread(self) -> None:
        """Give each tensor that an operator only moves the grid of its operand or result, until nothing changes."""
        moves = [o for o in self.net.operators if o.code in MOVES and o.node not in self.floats]
        known = -1
        while known < len(self.grids):
            known = len(self.grids)
            for operator in moves:
                values = [t for t in (*operator.inputs, *operator.outputs) if t.role == "value" and t.data is None]
                found = [self.grids[t] for t in values if t in self.grids]
                self.grids |= {t: found[0] for t in values if found}

    def _constant(self, operator: Operator, tensor: Tensor) -> Tensor:
        """Return a constant operand as integers: on the result's grid for operators in JOINED, else on its own grid."""
        if tensor.role != "value" or tensor.data is None:
            return tensor
        grid = self.grids[operator.outputs[0]]
        if operator.code not in JOINED:
            grid = number_grid(tensor.data, format_of_bits(8 if grid.high == 127 else 16))
        if (tensor, grid) not in self._constants:
            copy = self.net.tensor(tensor.name, tensor.shape, data=tensor.data)
            _set(copy, grid)
            copy.stored = (integers_of(tensor.data, grid) + grid.zero).astype(copy.dtype)
            self._constants[tensor, grid] = copy
        return self._constants[tensor, grid]

    def _product(self, operator: Operator) -> None:
        """Store a product's weights and bias as integers with scales. Raise BackendError if LiteRT would crash."""
        x, weights, bias = operator.inputs
        assert weights.data is not None
        assert bias.data is not None
        matrix, scales = matrix_integers(weights.data, self.per)
        weights.dtype, weights.scale, weights.stored = "int8", tuple(map(float, scales)), matrix.astype(np.int8)
        grid, result = self.grids[x], self.grids[operator.outputs[0]]
        steps = grid.scale * float(scales.max()) / result.scale
        if steps >= MOST_STEPS and result.high == 127:
            problem = f"product {operator.node}: a step of its operand is {steps:.3g} steps of its result, and LiteRT"
            notes = [f"give smaller first values or data{', or take a16w8' if steps < MOST_STEPS**2 else ''}"]
            loc = self.graph.node(operator.node).loc
            raise BackendError(f"{problem} ends the process from {MOST_STEPS} on", notes=notes, loc=loc)
        bias.dtype = "int32" if grid.high == 127 else "int64"
        bias.scale = tuple(map(float, np.float32(grid.scale) * scales))
        bias.stored = bias_integers(bias.data, grid, scales).astype(bias.dtype)


def _set(tensor: Tensor, grid: Grid) -> None:
    tensor.dtype, tensor.scale, tensor.zero = "int8" if grid.high == 127 else "int16", (grid.scale,), grid.zero
