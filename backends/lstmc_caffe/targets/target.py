"""Targets as data: what a program that reads Caffe nets accepts, each rule with its reason and its source.

One TOML file a target, in ``targets/``. Legalisation asks a target which form to write; the linter holds any net
against the same rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from lstmc.errors import BackendError

ANY_LAYER = "*"
Value = bool | int | float | str


@dataclass(frozen=True)
class Reader:
    """A program that reads nets of a target, and what it asks beyond the target's rules."""

    name: str
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """One restriction on the layers of a type, or on all layers (``*``). Exactly one check is set.

    ``field`` names a field of LayerParameter by its path, which must be ``one_of`` some values (a default that is not
    written counts), ``at_most`` a number, or ``absent``. The others count or measure the layer's blobs.
    """

    layer: str
    reason: str
    source: str
    field: str = ""
    one_of: tuple[Value, ...] = ()
    at_most: int | None = None
    absent: bool = False
    forbidden: bool = False
    bottoms: int | None = None
    bottoms_at_most: int | None = None
    steps_at_most: int | None = None
    axes: tuple[int, ...] = ()  # how many axes every blob that the layer reads or writes may have
    in_place: bool = True
    every_size_given: bool = False

    @property
    def is_limit(self) -> bool:
        """Whether it is a size that a model may be too large for; anything else the compiler has to get right."""
        return any(limit is not None for limit in (self.at_most, self.bottoms_at_most, self.steps_at_most))

    def applies_to(self, layer_type: str) -> bool:
        return self.layer in (ANY_LAYER, layer_type)


@dataclass(frozen=True)
class Target:
    """What may be written for one kind of reader. ``layers`` are the types allowed, empty for every type."""

    name: str
    summary: str
    readers: tuple[Reader, ...]
    layers: tuple[str, ...]
    layers_reason: str
    layers_source: str
    rules: tuple[Rule, ...]
    outputs_unread: bool = False  # a model's output is a blob that no layer reads
    sharers_carry_blobs: bool = False  # every layer that shares a parameter has its blobs in the caffemodel

    def allows(self, layer_type: str) -> bool:
        """Whether layers of this type may be written at all."""
        listed = not self.layers or layer_type in self.layers
        return listed and not any(rule.forbidden for rule in self.rules_for(layer_type))

    def rules_for(self, layer_type: str) -> tuple[Rule, ...]:
        """The rules that a layer of this type is held against."""
        return tuple(rule for rule in self.rules if rule.applies_to(layer_type))

    def allows_value(self, layer_type: str, field: str, value: Value) -> bool:
        """Whether layers of this type may have ``value`` in a field."""
        return not any(
            (rule.one_of and value not in rule.one_of) or rule.absent
            for rule in self.rules_for(layer_type)
            if rule.field == field
        )

    @property
    def rows_only(self) -> bool:
        """Whether every blob must have two axes."""
        return any(rule.axes == (2,) for rule in self.rules_for(ANY_LAYER))


def targets() -> dict[str, Target]:
    """Every target by name, the default one first."""
    return {name: load_target(name) for name in TARGETS}


@cache
def load_target(name: str) -> Target:
    """The target of ``targets/NAME.toml``."""
    file = files(__package__).joinpath(f"{name}.toml")
    return parse_target(tomllib.loads(file.read_text(encoding="utf-8")), f"targets/{name}.toml")


def parse_target(data: Mapping[str, Any], where: str) -> Target:
    """A target from its TOML. Raises :class:`BackendError` for a key that is not known or a rule without one check."""
    known = {"name", "summary", "reader", "layers", "rule", "sources", "outputs_unread", "sharers_carry_blobs"}
    if unknown := sorted(set(data) - known):
        raise BackendError(f"{where}: expected keys of {', '.join(sorted(known))}, found {', '.join(unknown)}")
    sources = data["sources"]
    layers = data.get("layers", {"types": (), "reason": "", "source": ""})
    return Target(
        name=data["name"],
        summary=data["summary"],
        readers=tuple(Reader(**entry) for entry in data.get("reader", ())),
        layers=tuple(layers["types"]),
        layers_reason=layers["reason"],
        layers_source=_source(sources, layers["source"], where),
        rules=tuple(_rule(entry, sources, where) for entry in data.get("rule", ())),
        outputs_unread=data.get("outputs_unread", False),
        sharers_carry_blobs=data.get("sharers_carry_blobs", False),
    )


def _source(sources: Mapping[str, str], names: str, where: str) -> str:
    """Source names of the file's own table, joined by commas, as what they stand for."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if missing := [name for name in wanted if name not in sources]:
        raise BackendError(f"{where}: expected sources of {', '.join(sources)}, found {', '.join(missing)}")
    return "; ".join(sources[name] for name in wanted)


_FIELD_CHECKS = ("one_of", "at_most", "absent")
_CHECKS = (
    *_FIELD_CHECKS,
    *("forbidden", "bottoms", "bottoms_at_most", "steps_at_most", "axes", "in_place", "every_size_given"),
)


def _rule(entry: Mapping[str, Any], sources: Mapping[str, str], where: str) -> Rule:
    given = [key for key in entry if key in _CHECKS]
    unknown = sorted(set(entry) - {f.name for f in fields(Rule)})
    on_field = bool(given) and given[0] in _FIELD_CHECKS
    if len(given) != 1 or unknown or on_field != ("field" in entry):
        found = ", ".join([*given, *unknown, *(["field"] if "field" in entry else [])]) or "none"
        raise BackendError(
            f"{where}: a rule for {entry.get('layer', 'no layer')} needs one check of {', '.join(_CHECKS)},"
            f" the first three with a field, found {found}"
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    values["source"] = _source(sources, entry["source"], where)
    return Rule(**values)


TARGETS = ("caffe", "flat", "noslice", "caffe-native")
