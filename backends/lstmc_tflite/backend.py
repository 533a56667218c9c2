"""The TFLite backend: its targets, its files, and running them in LiteRT."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from lstmc.backend import Artifact, Compiled, Layer, LintReport, Violation
from lstmc.errors import BackendError
from lstmc.files.json_file import parse_json
from lstmc.files.reading import read_file, reading
from lstmc.ir import Graph, Ref
from lstmc.manifest import Place, describe
from lstmc.nets.session import RunsFiles
from lstmc.ops import Array, Full, Input, Op
from lstmc.passes import Pass
from lstmc.process.status import gc_paused
from lstmc.types import TensorType
from lstmc_tflite import examples
from lstmc_tflite.lowerings import INTEGERS, PASSES, WIDER_STATES, lowerings, write_net
from lstmc_tflite.net import Net, Operator, Tensor, file_bytes, read_net
from lstmc_tflite.numbers import FLOAT32, Numbers, Quantiser, halve_weights
from lstmc_tflite.runtime import MicroExecutor, ReferenceExecutor, TfliteExecutor, VelaExecutor, findings, loaded_net


@dataclass(frozen=True)
class Rule:
    """A ``[[rule]]`` of a target: the ``operators`` that the target supports, or a limit on one ``operator``."""

    reason: str
    source: str
    operators: tuple[str, ...] = ()
    operator: str = ""
    inputs_at_most: int | None = None
    rows_at_most: int | None = None
    advice: str = ""

    def broken(self, operator: Operator) -> tuple[str, str] | None:
        """Return what an operator has and what the rule expects if the operator breaks the rule; otherwise None."""
        if self.operators and operator.code not in self.operators:
            return operator.code, "one of its operators"
        if operator.code != self.operator:
            return None
        if self.inputs_at_most is not None and len(operator.inputs) > self.inputs_at_most:
            return f"{len(operator.inputs)} operands", f"at most {self.inputs_at_most}"
        if self.rows_at_most is not None and (rows := operator.outputs[0].shape[0]) > self.rows_at_most:
            return f"{rows} rows", f"at most {self.rows_at_most}"
        return None


@dataclass(frozen=True)
class Target:
    """A target. With ``numbers`` "integers" it computes nothing in float32."""

    summary: str
    base: str = ""
    numbers: Literal["any", "integers"] = "any"
    rule: tuple[Rule, ...] = ()


@cache
def targets() -> Mapping[str, Target]:
    """Return the targets by name. A target also has the rules of its base."""
    folder = files(__package__) / "targets"
    texts = {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in folder.iterdir()}
    values: dict[str, Any] = {name: tomllib.loads(texts[name]) for name in sorted(texts, key=_order)}
    for value in values.values():
        value["rule"] = [*values.get(value.get("base", ""), {}).get("rule", []), *value.get("rule", [])]
    return {name: parse_json(json.dumps(value).encode(), Target) for name, value in values.items()}


def _order(name: str) -> int:
    """Return the place of a target in listings; a target comes after its base."""
    names = ("tflite", "tflite-micro", "ethos-u", "edgetpu")
    return names.index(name) if name in names else len(names)


def check_net(net: Net, target: str, graph: Graph) -> None:
    """Raise :class:`BackendError`, at its node's line, for the first operator that breaks a rule of a target."""
    for operator in net.operators:
        for rule, found, expected in _broken(operator, target):
            notes, name = [f"source: {rule.source}", *filter(None, [rule.advice])], operator.outputs[0].name
            problem = f"target {target} does not take {name}: expected {expected}, found {found}: {rule.reason}"
            raise BackendError(problem, loc=graph.node(operator.node).loc, notes=notes)


def _broken(operator: Operator, target: str) -> Iterator[tuple[Rule, str, str]]:
    """Yield each rule of a target that an operator breaks, with what the operator has and what the rule expects."""
    for rule in targets()[target].rule:
        if (broken := rule.broken(operator)) is not None:
            yield rule, *broken


def lint_file(net: Path, target: str) -> LintReport:
    """Report the operators that break a rule of a target, and the first in float32 if the target needs integers."""
    with reading(net, BackendError):
        operators = read_net(read_file(net)).operators
    found = [(o, *each) for o in operators for each in _broken(o, target)]
    violations = [Violation(o.outputs[0].name, o.code, has, wanted, r.reason, r.source) for o, r, has, wanted in found]
    floats = [o for o in operators if targets()[target].numbers == "integers" and o.outputs[0].dtype == "float32"]
    why = "float32", "integers", "it has no numbers in float32", "its documents"
    violations += [Violation(o.outputs[0].name, o.code, *why) for o in floats[:1]]
    return LintReport(tuple(violations), (), len(operators))


SUFFIX = ".tflite"
FLOATS = "in float32 this target's compiler leaves the whole net to the CPU: give it numbers=a8w8 and ranges=FILE"


def artifact(compiled: Compiled, weights: Mapping[str, Array], numbers: Numbers = FLOAT32) -> Artifact:
    """Return ``NAME.tflite`` and its manifest: same input, same bytes. BackendError if the target lacks an operator."""
    graph, written = compiled.expanded, write_net(compiled, weights)
    net, target = written.net, targets()[compiled.target]
    if numbers.integers:
        Quantiser(written, compiled, weights, numbers).run()
    elif numbers.device is not None:
        if compiled.target != "tflite":
            expected = "expected target tflite, or numbers of integers"
            raise BackendError(f"target {compiled.target} has no weights in float16: {expected}")
        halve_weights(net)
    check_net(net, compiled.target, graph)
    live = {*net.tensors}

    def place(ref: Ref, tensor: Tensor) -> Place:
        return Place.from_types(graph.type(ref), ((tensor.name, TensorType(tensor.shape)),))

    inputs = {name: (place(Ref(name), tensor), False) for name, tensor in net.inputs.items() if tensor in live}
    outputs = {output.name: place(output.ref, net.outputs[output.name]) for output in graph.outputs}
    manifest = describe(compiled, weights, inputs=inputs, outputs=outputs, weights=written.weights)
    needs_integers = target.numbers == "integers" and not numbers.integers
    counts, content = f"{len({o.code for o in net.operators})} kinds", file_bytes(net)
    files = {f"{compiled.name}{SUFFIX}": content, f"{compiled.name}.manifest.json": manifest.text().encode()}
    figures = f"{len(net.operators)} operators of {counts}, {len(content)} bytes"
    notes = (*manifest.first_values(), figures, *([FLOATS] if needs_integers else []))
    fed = {name: entry.place.label for name, entry in manifest.inputs.items()}
    read = {name: each.label for name, each in manifest.outputs.items()}
    return Artifact(files, len(net.operators), fed, read, notes)


@dataclass(frozen=True)
class TfliteBackend(RunsFiles):
    """Writes one step of a net as a .tflite file, states as inputs and outputs, and runs it in LiteRT."""

    numbers: Numbers = FLOAT32
    name: ClassVar[str] = "tflite"
    summary: ClassVar[str] = "TFLite: one step as NAME.tflite, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {name: target.summary for name, target in targets().items()}
    options: ClassVar[Mapping[str, str]] = {
        "numbers": "float32, fp16 (weights), a8w8, a16w8, a8w8-s16 (states in 16 bits), a device as tflm-a8w8, or"
        " FILE.toml; float32",
        "ranges": "for integers: the range of each value, a file that lstmc numbers ranges wrote",
    }
    one_step: ClassVar[bool] = True
    net_suffix: ClassVar[str] = SUFFIX
    weights_suffix: ClassVar[str] = SUFFIX

    @property
    def ops(self) -> tuple[type[Op], ...]:  # type: ignore[override]  # packages that are installed have some
        return (Input, Full, *lowerings)

    def with_options(self, values: Mapping[str, str]) -> TfliteBackend:
        return replace(self, numbers=self.numbers.with_options(values))

    def for_integers(self, wide_states: bool) -> TfliteBackend:
        return replace(self, numbers=Numbers.of("a8w8-s16" if wide_states else "a8w8", {}))

    def passes(self, target: str) -> tuple[Pass, ...]:
        device = self.numbers.device
        if device is None or not self.numbers.integers:
            return PASSES
        return INTEGERS if device.state is None else WIDER_STATES

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        with gc_paused():
            return artifact(compiled, weights, self.numbers)

    lint = staticmethod(lint_file)
    loaded = staticmethod(loaded_net)
    example = staticmethod(examples.example)
    doctor = staticmethod(findings)

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        def layer(operator: Operator) -> Layer:
            bottoms, tops = (tuple(each.name for each in ends) for ends in (operator.inputs, operator.outputs))
            return Layer(tops[0], operator.code, bottoms, tops, tuple(each.shape for each in operator.outputs))

        return tuple(map(layer, read_net(net).operators))

    def executors(self) -> Sequence[TfliteExecutor]:
        kinds = (TfliteExecutor, ReferenceExecutor, MicroExecutor, VelaExecutor)
        return tuple(each(self.numbers) for each in kinds)
