"""Targets as data: the operators that a reader of TFLite files has, each rule with its reason and its source."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from lstmc.backend import LintReport, Violation
from lstmc.errors import BackendError
from lstmc.files.json_file import parse_json
from lstmc.files.reading import read_file, reading
from lstmc.ir import Graph
from lstmc_tflite.net import Net, Operator, read_net

SUFFIX = ".toml"


@dataclass(frozen=True)
class Rule:
    """A ``[[rule]]``: the supported ``operators``, or a limit on one ``operator``."""

    reason: str
    source: str
    operators: tuple[str, ...] = ()
    operator: str = ""
    inputs_at_most: int | None = None
    rows_at_most: int | None = None
    advice: str = ""

    def broken(self, operator: Operator) -> tuple[str, str] | None:
        """Return the actual and the expected property of an operator that breaks the rule."""
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
    """A target. If its ``numbers`` are integers, it computes nothing in float32."""

    summary: str
    base: str = ""
    numbers: Literal["any", "integers"] = "any"
    rule: tuple[Rule, ...] = ()


@cache
def targets() -> Mapping[str, Target]:
    """Return the targets by name; each has the rules of its base too."""
    folder = files(__package__) / "targets"
    texts = {entry.name.removesuffix(SUFFIX): entry.read_text(encoding="utf-8") for entry in folder.iterdir()}
    values: dict[str, Any] = {name: tomllib.loads(texts[name]) for name in sorted(texts, key=_order)}
    for value in values.values():
        value["rule"] = [*values.get(value.get("base", ""), {}).get("rule", []), *value.get("rule", [])]
    return {name: parse_json(json.dumps(value).encode(), Target) for name, value in values.items()}


def _order(name: str) -> int:
    names = ("tflite", "tflite-micro", "ethos-u", "edgetpu")
    return names.index(name) if name in names else len(names)


def check_net(net: Net, target: str, graph: Graph) -> None:
    """Raise :class:`BackendError`, at the line of its node, for the first operator that a target lacks."""
    for operator in net.operators:
        for rule, found, expected in _broken(operator, target):
            notes = [f"source: {rule.source}", *([rule.advice] if rule.advice else [])]
            raise BackendError(
                f"target {target} does not take {operator.outputs[0].name}: expected {expected}, found {found}:"
                f" {rule.reason}",
                loc=graph.node(operator.node).loc,
                notes=notes,
            )


def _broken(operator: Operator, target: str) -> Iterator[tuple[Rule, str, str]]:
    for rule in targets()[target].rule:
        if (broken := rule.broken(operator)) is not None:
            yield rule, *broken


def lint_file(net: Path, target: str) -> LintReport:
    """Check the operators of a .tflite file, and their numbers, against a target."""
    with reading(net, BackendError):
        operators = read_net(read_file(net)).operators
    violations = [
        Violation(operator.outputs[0].name, operator.code, found, expected, rule.reason, rule.source)
        for operator in operators
        for rule, found, expected in _broken(operator, target)
    ]
    floats = [o for o in operators if targets()[target].numbers == "integers" and o.outputs[0].dtype == "float32"]
    violations += [
        Violation(o.outputs[0].name, o.code, "float32", "integers", "it has no numbers in float32", "its documents")
        for o in floats[:1]
    ]
    return LintReport(tuple(violations), (), len(operators))
