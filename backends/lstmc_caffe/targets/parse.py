"""What a target's TOML may say. A file that is built on another one (``base``) says only what is different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args

from lstmc.errors import BackendError
from lstmc_caffe.proto.net import LayerParameter
from lstmc_caffe.targets.target import Layout, Reader, Restriction, Scans, Target, Time

T = TypeVar("T", str, bool)
_KEYS = (
    *("name", "summary", "base", "layout", "time", "scans", "trained", "outputs_unread", "sharers_carry_blobs"),
    *("reader", "sources", "layers", "rule"),
)
# The checks of a rule, and what each must be; the first three are of a field.
_CHECKS: Mapping[str, tuple[type, str]] = {
    "one_of": (list, "an array"),
    "at_most": (int, "a whole number"),
    "absent": (bool, "true"),
    "forbidden": (bool, "true or false"),
    "bottoms": (int, "a whole number"),
    "bottoms_at_most": (int, "a whole number"),
    "steps_at_most": (int, "a whole number"),
    "axes": (list, "an array"),
    "in_place": (bool, "true or false"),
    "every_size_given": (bool, "true or false"),
}
_FIELD_CHECKS = tuple(_CHECKS)[:3]
Subject = tuple[str, str, str]  # of a rule: the layer, the check, and the field


@dataclass(frozen=True)
class Parsed:
    """A target with what a file that is built on it may name: its sources, and its rules by what they are about."""

    target: Target
    sources: Mapping[str, str]
    rules: Mapping[Subject, Restriction]


_NOTHING = Parsed(Target("", "", (), (), "", "", ()), {}, {})


def parse(data: Mapping[str, Any], where: str, base: Parsed = _NOTHING) -> Parsed:
    """A target from its TOML; ``where`` is what errors call it.

    What the file does not say is its base's. A rule on the same layer and the same thing replaces the base's rule;
    ``forbidden = false`` and the like lift it. Raises :class:`BackendError` that names the key, what was expected and
    what was found.
    """
    file = _Table(data, where)
    file.allow(*_KEYS)
    named = file.table("sources")
    sources = {**base.sources, **{name: named.wanted(name) for name in named.data}}
    rules = dict(base.rules)
    for entry in file.tables("rule"):
        subject, rule = _rule(entry, sources)
        rules.pop(subject, None)
        if rule is not None:
            rules[subject] = rule
    before = base.target
    types, reason, source = _layers(file.table("layers"), before, sources)
    target = Target(
        name=file.wanted("name"),
        summary=file.wanted("summary"),
        readers=tuple(_reader(entry) for entry in file.tables("reader")),
        layers=types,
        layers_reason=reason,
        layers_source=source,
        restrictions=tuple(rules.values()),
        layout=file.choice("layout", get_args(Layout), before.layout),
        time=file.choice("time", get_args(Time), before.time),
        scans=file.choice("scans", get_args(Scans), before.scans),
        trained=file.optional("trained", before.trained),
        outputs_unread=file.optional("outputs_unread", before.outputs_unread),
        sharers_carry_blobs=file.optional("sharers_carry_blobs", before.sharers_carry_blobs),
    )
    return Parsed(target, sources, rules)


@dataclass(frozen=True)
class _Table:
    """A table of the file, and what errors call it."""

    data: Mapping[str, Any]
    where: str

    def error(self, key: str, expected: str, found: object) -> BackendError:
        return BackendError(f"{self.where}: {key}: expected {expected}, found {found}")

    def allow(self, *keys: str) -> None:
        if unknown := [key for key in self.data if key not in keys]:
            raise BackendError(f"{self.where}: expected keys of {', '.join(keys)}, found {', '.join(unknown)}")

    def wanted(self, key: str) -> str:
        if key not in self.data:
            raise self.error(key, "a text", "nothing")
        return self.optional(key, "")

    def optional(self, key: str, default: T) -> T:
        value = self.data.get(key, default)
        if not isinstance(value, type(default)):
            raise self.error(key, "a text" if isinstance(default, str) else "true or false", repr(value))
        return value

    def choice(self, key: str, values: tuple[str, ...], default: Any) -> Any:
        value = self.data.get(key, default)
        if value not in values:
            raise self.error(key, " or ".join(values), repr(value))
        return value

    def table(self, key: str) -> _Table:
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"a table [{key}]", repr(value))
        return _Table(value, f"{self.where}: [{key}]")

    def tables(self, key: str) -> Iterator[_Table]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.error(key, f"tables [[{key}]]", repr(value))
        for number, entry in enumerate(value, 1):
            yield _Table(entry, f"{self.where}: [[{key}]] {number}")

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.error(key, "an array of texts", repr(value))
        return tuple(value)


def _reader(table: _Table) -> Reader:
    table.allow("name", "note")
    return Reader(table.wanted("name"), table.optional("note", ""))


def _layers(table: _Table, base: Target, sources: Mapping[str, str]) -> tuple[tuple[str, ...], str, str]:
    """The types allowed, why no others, and where that is documented."""
    table.allow("types", "add", "reason", "source")
    types = (table.texts("types") or base.layers) + table.texts("add")
    if "types" not in table.data:
        return types, table.optional("reason", base.layers_reason), base.layers_source
    return types, table.wanted("reason"), _source(table, sources)


def _source(table: _Table, sources: Mapping[str, str]) -> str:
    """Source names of the file's own table or its base's, joined by commas, as what they stand for."""
    wanted = [name.strip() for name in table.wanted("source").split(",")]
    if missing := [name for name in wanted if name not in sources]:
        raise table.error("source", f"names of [sources], which are {', '.join(sources) or 'none'}", ", ".join(missing))
    return "; ".join(sources[name] for name in wanted)


def _check_field(table: _Table, path: str) -> None:
    """Raise unless a path names a field of LayerParameter."""
    message = LayerParameter.DESCRIPTOR
    for name in path.split("."):
        known = message.fields_by_name if message is not None else {}
        if name not in known:
            raise table.error("field", "a field of LayerParameter, such as inner_product_param.axis", repr(path))
        message = known[name].message_type


def _rule(table: _Table, sources: Mapping[str, str]) -> tuple[Subject, Restriction | None]:
    """A rule, None where it lifts one of the base, and what it is about."""
    table.allow("layer", "field", *_CHECKS, "reason", "source")
    layer, field = table.wanted("layer"), table.optional("field", "")
    given = [key for key in table.data if key in _CHECKS]
    if len(given) != 1 or (given[0] in _FIELD_CHECKS) != bool(field):
        found = ", ".join([*given, *(["field"] if field else [])]) or "none"
        raise BackendError(
            f"{table.where}: expected one check of {', '.join(_CHECKS)}, the first three with a field, found {found}"
        )
    (check,) = given
    value, (kind, expected) = table.data[check], _CHECKS[check]
    if type(value) is not kind:
        raise table.error(check, expected, repr(value))
    if value == []:
        raise table.error(check, f"{expected} of one value or more", "none")
    if field:
        _check_field(table, field)
    subject = (layer, check if not field else "", field)
    default = next(f.default for f in fields(Restriction) if f.name == check)
    if value == default:
        return subject, None
    checked: dict[str, Any] = {check: tuple(value) if isinstance(value, list) else value}
    return subject, Restriction(layer, table.wanted("reason"), _source(table, sources), field, **checked)
