"""Targets as data: the layers that a runtime accepts, each restriction with its reason and its source.

The compiler asks a target which lowering to write; the linter checks any net against the same restrictions. A target
is a TOML file; one with a ``base`` states only the differences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, PlainValidator, with_config

from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected, parse_json
from lstmc.text import did_you_mean
from lstmc_caffe.ops import WindowKind
from lstmc_caffe.proto.fields import LAYER_TYPES
from lstmc_caffe.proto.net import LayerParameter, load_layer_fields

ANY_LAYER = "*"
Value = bool | int | float | str
Layout = Literal["blobs", "rows"]
Time = Literal["slice", "steps"]
Scans = Literal["unrolled", "layers", "fused"]
Names = Literal["model", "words", "apart"]
Program = Literal["caffe", "opencv", "mnn", "ncnn", "rknn"]


@dataclass(frozen=True)
class Reader:
    """A program that reads nets of a target, with a note on requirements that the target's rules do not cover."""

    name: str
    note: str = ""


@dataclass(frozen=True)
class Restriction:
    """One restriction on the layers of a type, or on all layers (``*``). Exactly one check is set.

    ``field`` names a field of LayerParameter by its path, which must be ``one_of`` some values (a default that is not
    written counts), ``at_most`` a number, ``absent`` or ``present``; of a repeated field the numbers must be
    ``all_equal``. The others count or measure the layer's blobs.
    """

    layer: str
    reason: str
    source: str
    field: str = ""
    one_of: tuple[Value, ...] = ()
    at_most: int | None = None
    absent: bool = False
    all_equal: bool = False
    present: bool = False
    forbidden: bool = False
    bottoms: int | None = None
    bottoms_at_most: int | None = None
    steps_at_most: int | None = None
    axes: tuple[int, ...] = ()  # how many axes every blob that the layer reads or writes may have
    in_place: bool = True
    every_size_given: bool = False
    columns_at_least: int | None = None  # how many columns, axis 1 and all after it, every blob that it reads has
    rows_at_most: int | None = None  # how large the first axis of every blob that the layer writes may be
    not_after: tuple[str, ...] = ()  # the types of layers whose blobs it may not read
    unshared: tuple[str, ...] = ()  # the types of layers whose blobs no other layer may read beside it
    bottoms_differ: bool = False  # it reads no blob of several numbers twice
    no_windows: tuple[WindowKind, ...] = ()  # kinds of windows that a layer on images may not have

    @property
    def is_limit(self) -> bool:
        """Whether it is a size that a model may be too large for; anything else the compiler has to get right."""
        return any(
            limit is not None for limit in (self.at_most, self.bottoms_at_most, self.steps_at_most, self.rows_at_most)
        )

    def applies_to(self, layer_type: str) -> bool:
        return self.layer in (ANY_LAYER, layer_type)


@dataclass(frozen=True)
class Pitfall:
    """A silent error of some version of a reader, which the target cannot avoid for all versions.

    It is told of nets that have ``path``: layers of these types, each but the first reading the one before.
    """

    name: str
    path: tuple[str, ...]
    text: str
    version: str
    source: str


@dataclass(frozen=True)
class Target:
    """The layers, layout and settings of nets for one kind of reader. No ``layers`` means any type of layer."""

    name: str
    summary: str
    readers: tuple[Reader, ...]
    layers: tuple[str, ...]  # ``Fused_*`` are all that begin so
    layers_reason: str
    layers_source: str
    restrictions: tuple[Restriction, ...]
    # "rows": every blob is a matrix, [T, N, D] as [T*N, D], but of layers whose own rule says other axes (images);
    # "blobs": of the model's shapes
    layout: Layout = "blobs"
    time: Time = "slice"  # how a sequence is cut into steps; "steps": each step is a blob of its own
    # "layers": a scan becomes one recurrent layer of Caffe's own; "fused": one layer that is generated for it
    scans: Scans = "unrolled"
    # what blobs are called: as in the model; by words: a-z, 0-9 and _; apart from what readers call weights
    names: Names = "model"
    program: Program | None = None  # which an example is written for, that runs a net of one step
    trained: bool = False  # nets are trained as they are, so no layer may lose a gradient
    outputs_unread: bool = False  # a model's output is a blob that no layer reads
    folds_constants: bool = False  # readers compute constants while they build a net
    outputs_alone: bool = False  # a model's output is the one blob of its layer, which changes something
    sharers_carry_blobs: bool = False  # every layer that shares a parameter has its blobs in the caffemodel
    float16: bool = False  # readers compute in it
    layer_cost: float | None = None  # what a layer costs its readers, in elements of an elementwise op; None: unknown
    pitfalls: tuple[Pitfall, ...] = ()
    # what its readers load of nets from elsewhere, in forms too that are not written; None: the same as is written
    reads: Target | None = None

    def allows(self, layer_type: str) -> bool:
        """Return whether layers of this type may be written at all."""
        return self.lists(layer_type) and not any(rule.forbidden for rule in self.restrictions_on(layer_type))

    def lists(self, layer_type: str) -> bool:
        """Return whether a type is among those of ``layers``."""
        return not self.layers or any(fnmatchcase(layer_type, allowed) for allowed in self.layers)

    def restrictions_on(self, layer_type: str) -> tuple[Restriction, ...]:
        """Return the restrictions on a layer of this type; those on axes are its type's, or else the target's."""
        rules = [rule for rule in self.restrictions if rule.applies_to(layer_type)]
        of_its_own = any(rule.axes and rule.layer == layer_type for rule in rules)
        return tuple(rule for rule in rules if not (of_its_own and rule.axes and rule.layer == ANY_LAYER))

    def axes_of(self, layer_type: str) -> tuple[int, ...]:
        """Return the numbers of axes that blobs of a layer of this type may have, where blobs are matrices."""
        return next((rule.axes for rule in self.restrictions_on(layer_type) if rule.axes), (2,))

    def reason_against(self, layer_type: str) -> tuple[str, str]:
        """Return the reason why layers of a type are not allowed, and its source."""
        for rule in self.restrictions_on(layer_type):
            if rule.forbidden:
                return rule.reason, rule.source
        return self.layers_reason, self.layers_source

    def may_read(self, layer_type: str, writer: str) -> bool:
        """Return whether a layer of one type may read a blob that a layer of another type wrote."""
        return not any(writer in rule.not_after for rule in self.restrictions_on(layer_type))

    def may_repeat(self, layer_type: str) -> bool:
        """Return whether a layer of a type may read one blob several times."""
        return not any(rule.bottoms_differ for rule in self.restrictions_on(layer_type))

    @property
    def one_row(self) -> bool:
        """Whether every blob has one row."""
        return any(rule.rows_at_most == 1 for rule in self.restrictions_on(ANY_LAYER))

    @property
    def in_place(self) -> bool:
        """Whether a layer may overwrite its bottom."""
        return all(rule.in_place for rule in self.restrictions_on(ANY_LAYER))

    @property
    def bottoms_at_most(self) -> int | None:
        """Return the largest number of bottoms of a Concat, or None if it is not limited."""
        limits = [rule.bottoms_at_most for rule in self.restrictions_on("Concat") if rule.bottoms_at_most]
        return min(limits, default=None)


Subject = tuple[str, str, str]  # of a rule: the layer, the check, and the field


def _value(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("true, false, a number or a text")
    return value


def _some(value: object) -> object:
    if not isinstance(value, list) or not value:
        raise ValueError("an array of one value or more")
    return tuple(map(_value, value))


def _layer_types(value: object) -> object:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ValueError("an array of one layer type or more")
    return tuple(value)


Some = Annotated[tuple[Value, ...], PlainValidator(_some)]
LayerTypes = Annotated[tuple[str, ...], PlainValidator(_layer_types)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class RuleTable:
    """A ``[[rule]]``: a :class:`Restriction` with one check, or what lifts one; ``source`` has names of sources."""

    layer: str
    reason: str | None = None
    source: str | None = None
    field: str = ""
    # of a field
    one_of: Some | None = None
    at_most: int | None = None
    absent: bool | None = None
    all_equal: bool | None = None
    present: bool | None = None
    # of a layer and its blobs
    forbidden: bool | None = None
    bottoms: int | None = None
    bottoms_at_most: int | None = None
    steps_at_most: int | None = None
    axes: Some | None = None
    in_place: bool | None = None
    every_size_given: bool | None = None
    rows_at_most: int | None = None
    not_after: LayerTypes | None = None
    unshared: LayerTypes | None = None
    columns_at_least: int | None = None
    bottoms_differ: bool | None = None
    no_windows: tuple[WindowKind, ...] | None = None


CHECKS = tuple(f.name for f in fields(RuleTable))[4:]
FIELD_CHECKS = CHECKS[:5]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class LayersTable:
    """``[layers]``: the types that are allowed, those of the base and those added to them."""

    types: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    reason: str | None = None
    source: str | None = None


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ReadsTable:
    """``[reads]``: the types that the target's readers load, in nets that lstmc did not write; ``source`` has names."""

    types: LayerTypes
    reason: str
    source: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ReaderTable:
    """A ``[[reader]]``."""

    name: str
    note: str = ""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class WarningTable:
    """A ``[[warning]]``: a :class:`Pitfall`; ``source`` has names of sources."""

    name: str
    path: LayerTypes
    text: str
    version: str
    source: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class TargetFile:
    """The contents of a target's file. None inherits the base's value."""

    name: str
    summary: str | None = None
    base: str | None = None
    layout: Layout | None = None
    time: Time | None = None
    scans: Scans | None = None
    names: Names | None = None
    program: Program | None = None  # what is no more than this file's own, as readers are
    trained: bool | None = None
    outputs_unread: bool | None = None
    folds_constants: bool | None = None
    outputs_alone: bool | None = None
    sharers_carry_blobs: bool | None = None
    float16: bool | None = None
    layer_cost: float | None = None
    reader: tuple[ReaderTable, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    layers: LayersTable = LayersTable()
    reads: ReadsTable | None = None  # this file's own too
    rule: tuple[RuleTable, ...] = ()
    warning: tuple[WarningTable, ...] = ()


@dataclass(frozen=True)
class Parsed:
    """A target with the names that a derived file can refer to: sources, and rules by their subjects."""

    target: Target
    sources: Mapping[str, str]
    rules: Mapping[Subject, Restriction]


_NOTHING = Parsed(Target("", "", (), (), "", "", ()), {}, {})


def parse(data: Mapping[str, Any], where: str, base: Parsed = _NOTHING) -> Parsed:
    """Parse a target from its TOML; errors call it ``where``.

    What the file does not say is its base's. A rule on the same layer and the same thing replaces the base's rule;
    ``forbidden = false`` and the like lift it. Raises :class:`BackendError` that names the key, what was expected and
    what was found.
    """
    try:
        return _derived_target(parse_json(json.dumps(data, default=str).encode(), TargetFile), base)
    except NotExpected as wrong:
        raise BackendError(f"{where}: {wrong}") from None


def _derived_target(file: TargetFile, base: Parsed) -> Parsed:
    """Return the target of a file, merged into its base."""
    sources, rules = {**base.sources, **file.sources}, dict(base.rules)
    own, before = list[Restriction](), base.target
    for number, table in enumerate(file.rule):
        if near := did_you_mean(table.layer, {*LAYER_TYPES, *before.layers, *file.layers.types, *file.layers.add}):
            raise NotExpected(f"rule[{number}].layer: unknown type {table.layer}{near} One of a reader: [layers] add")
        subject, rule = _rule(table, number, sources)
        rules.pop(subject, None)
        if rule is not None:
            rules[subject] = rule
            own.append(rule)
    outputs = ("outputs_unread", "folds_constants", "outputs_alone")
    same = ("layout", "time", "scans", "names", "trained", *outputs, "sharers_carry_blobs", "float16")
    fields = {name: getattr(file, name) for name in same}
    types, reason, source = _layers(file.layers, before, sources)
    target = Target(
        name=file.name,
        summary=file.summary or _wanted(before.summary or None, ("summary",)),
        readers=tuple(Reader(entry.name, entry.note) for entry in file.reader),
        layers=types,
        layers_reason=reason,
        layers_source=source,
        restrictions=tuple(rules.values()),
        program=file.program,
        layer_cost=file.layer_cost,
        pitfalls=_pitfalls(file.warning, before, sources),
        **{name: getattr(before, name) if value is None else value for name, value in fields.items()},
    )
    reads = None if file.reads is None else _reads(file.reads, target, own, sources)
    return Parsed(replace(target, reads=reads), sources, rules)


def _reads(table: ReadsTable, target: Target, own: Sequence[Restriction], sources: Mapping[str, str]) -> Target:
    """Return the target for nets from elsewhere: the types of ``reads`` in any form that the file's own rules allow.

    Of the base's rules those remain that say why a type is not loaded; the others are about what lstmc writes.
    """
    left_out = [rule for rule in target.restrictions if rule.forbidden and rule.layer not in table.types]
    source = _source(table.source, ("reads",), sources)
    restrictions = tuple(dict.fromkeys((*own, *left_out)))
    return replace(
        target, layers=table.types, layers_reason=table.reason, layers_source=source, restrictions=restrictions
    )


def _pitfalls(tables: Sequence[WarningTable], base: Target, sources: Mapping[str, str]) -> tuple[Pitfall, ...]:
    """Return the base's pitfalls, with this file's own added; one of the same name replaces the base's."""
    by_name = {pitfall.name: pitfall for pitfall in base.pitfalls}
    for number, table in enumerate(tables):
        source = _source(table.source, ("warning", number), sources)
        by_name[table.name] = Pitfall(table.name, table.path, table.text, table.version, source)
    return tuple(by_name.values())


def _layers(table: LayersTable, base: Target, sources: Mapping[str, str]) -> tuple[tuple[str, ...], str, str]:
    """The types allowed, why no others, and where that is documented."""
    types = (table.types or base.layers) + table.add
    if not table.types:
        return types, base.layers_reason if table.reason is None else table.reason, base.layers_source
    return types, _wanted(table.reason, ("layers", "reason")), _source(table.source, ("layers",), sources)


def _wanted(text: str | None, place: tuple[str | int, ...]) -> str:
    if text is None:
        raise NotExpected.at(place, "a text", None)
    return text


def _source(text: str | None, place: tuple[str | int, ...], sources: Mapping[str, str]) -> str:
    """Return the sources that names of the file's own table or its base's stand for, joined by commas."""
    place = (*place, "source")
    names = [name.strip() for name in _wanted(text, place).split(",")]
    if any(name not in sources for name in names):
        raise NotExpected.at(place, f"names of [sources], which are {', '.join(sources) or 'none'}", text)
    return "; ".join(sources[name] for name in names)


def _is_field(path: str) -> bool:
    """Return whether a path names a field of LayerParameter. Packages are loaded only for a field that is not known."""
    if _has_field(path):
        return True
    load_layer_fields()
    return _has_field(path)


def _has_field(path: str) -> bool:
    message = LayerParameter.DESCRIPTOR
    for name in path.split("."):
        fields = message.fields_by_name if message is not None else {}
        if name not in fields:
            return False
        message = fields[name].message_type
    return True


def _rule(table: RuleTable, number: int, sources: Mapping[str, str]) -> tuple[Subject, Restriction | None]:
    """Return a rule with its subject; None in place of the rule lifts the base's rule on that subject."""
    place = ("rule", number)
    checks = [check for check in CHECKS if getattr(table, check) is not None]
    if len(checks) != 1 or (checks[0] in FIELD_CHECKS) != bool(table.field):
        keys = [*checks, *(["field"] if table.field else [])]
        listed = ", ".join(keys) or "none"
        raise NotExpected(
            f"rule[{number}]: expected one check of {', '.join(CHECKS)}, the first five with a field, found {listed}"
        )
    if table.field and not _is_field(table.field):
        expected = "a field of LayerParameter, such as inner_product_param.axis"
        raise NotExpected.at((*place, "field"), expected, table.field)
    (check,) = checks
    value = getattr(table, check)
    subject = (table.layer, "" if table.field else check, table.field)
    if value == next(f.default for f in fields(Restriction) if f.name == check):
        return subject, None
    reason = _wanted(table.reason, (*place, "reason"))
    checked: dict[str, Any] = {check: value}
    return subject, Restriction(table.layer, reason, _source(table.source, place, sources), table.field, **checked)
