"""Targets as data: the layers that a runtime accepts, each restriction with its reason and its source. The compiler
asks a target which layers to write; the linter checks any net. A target is a TOML file of this package, of a plug-in,
or any by its path; one with a ``base`` states only the differences."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.metadata import EntryPoint
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, GetPydanticSchema, PlainValidator, with_config

from lstmc.errors import BackendError, PluginError
from lstmc.files.json_file import NotExpected, parse_json
from lstmc.files.reading import read_file, reading
from lstmc.ops import Price
from lstmc.plugins import distribution, entry_points_of, load_point, malformed, only_entry_point, origin
from lstmc.text import did_you_mean
from lstmc_caffe.ops import WindowKind
from lstmc_caffe.proto.net import LAYER_TYPES, LayerParameter, load_layer_fields

ANY_LAYER = "*"
Value = bool | int | float | str


def _some(value: object) -> object:  # ValueError: what an error says was expected
    if not isinstance(value, list) or not value:
        raise ValueError("an array of one value or more")
    if not all(isinstance(each, Value) for each in value):
        raise ValueError("true, false, a number or a text")
    return tuple(value)


def _layer_types(value: object) -> object:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ValueError(SOME_LAYERS)
    return tuple(value)


SOME_LAYERS = "an array of one layer type or more"
Some = Annotated[tuple[Value, ...], PlainValidator(_some)]
LayerTypes = Annotated[tuple[str, ...], PlainValidator(_layer_types)]
of_file = with_config(ConfigDict(extra="forbid"))


@of_file
@dataclass(frozen=True)
class Reader:
    """A ``[[reader]]``: a program that reads nets of a target, with a note on what the target's rules do not cover."""

    name: str
    note: str = ""


@of_file
@dataclass(frozen=True)
class Restriction:
    """A ``[[rule]]`` on the layers of a type, or on all layers (``*``). One check differs from its default.

    ``field`` names a field of LayerParameter by its path, which must be ``one_of`` some values (a default that is not
    written counts), ``at_most`` a number, ``absent`` or ``present``; of a repeated field the numbers must be
    ``all_equal``. The other checks count or measure the layer's blobs.
    """

    layer: str
    reason: str = ""
    source: str = ""  # in a file: names of its sources
    field: str = ""
    stage: Literal["one_row"] | None = None  # the pass from which on the rule holds; None: always
    # of a field
    one_of: Some = ()
    at_most: int | None = None
    absent: bool = False
    all_equal: bool = False
    present: bool = False
    # of a layer and its blobs
    forbidden: bool = False
    bottoms: int | None = None
    bottoms_at_most: int | None = None
    steps_at_most: int | None = None
    # how many axes every blob that the layer reads or writes may have
    axes: Annotated[tuple[int, ...], PlainValidator(_some)] = ()
    in_place: bool = True  # False: no layer may overwrite its bottom
    every_size_given: bool = False
    rows_at_most: int | None = None  # how large the first axis of every blob that the layer writes may be
    not_after: LayerTypes = ()  # the types of layers whose blobs it may not read
    unshared: LayerTypes = ()  # the types of layers whose blobs no other layer may read beside it
    columns_at_least: int | None = None  # how many columns, axis 1 and all after it, every blob that it reads has
    bottoms_differ: bool = False  # it reads no blob of several numbers twice
    no_windows: tuple[WindowKind, ...] = ()  # kinds of windows that a layer on images may not have

    @property
    def subject(self) -> tuple[str, str, str]:
        """The layer, the check and the field: a later rule with the same subject replaces an earlier one."""
        check = next(check for check in CHECKS if getattr(self, check) != DEFAULTS[check])
        return self.layer, "" if self.field else check, self.field

    @property
    def is_limit(self) -> bool:
        """Whether the rule limits a size, which a model may exceed; the compiler must satisfy all other rules."""
        limits = (self.at_most, self.bottoms_at_most, self.steps_at_most, self.rows_at_most)
        return any(limit is not None for limit in limits)


DEFAULTS = {f.name: f.default for f in fields(Restriction)}
CHECKS = tuple(DEFAULTS)[5:]
FIELD_CHECKS = CHECKS[:5]


@of_file
@dataclass(frozen=True)
class Pitfall:
    """A ``[[warning]]``: a silent error of some version of a reader, which the target cannot avoid for all versions. It
    is given for nets with ``path``: layers of these types, each of which reads the previous layer."""

    name: str
    path: LayerTypes
    text: str
    version: str
    source: str


@of_file
@dataclass(frozen=True)
class Layers:
    """``[layers]`` and ``[reads]``: the allowed types (empty: all), and the reason why no other type is allowed.
    ``Fused_*`` matches all types with this prefix. A file's ``add`` are added to its ``types``, or to the base's."""

    types: LayerTypes = ()
    add: tuple[str, ...] = ()
    reason: str = ""
    source: str = ""


TARGET_OF_TYPES = Annotated[Layers, AfterValidator(lambda table: Target("", layers=table))]


@of_file
@dataclass(frozen=True)
class Target:
    """A target's file: the layers, layout and settings of nets for one kind of reader, as merged into its base."""

    name: str
    summary: str = ""
    base: str | None = None
    # "rows": every blob is a matrix, [T, N, D] as [T*N, D], but of layers whose own rule says other axes (images);
    # "blobs": of the model's shapes
    layout: Literal["blobs", "rows"] = "blobs"
    time: Literal["slice", "steps"] = "slice"  # how a sequence is cut; "steps": each step is a blob of its own
    # "layers": a scan becomes one recurrent layer of Caffe's own; "fused": one layer that is generated for it
    scans: Literal["unrolled", "layers", "fused"] = "unrolled"
    # what blobs are called: as in the model; by words: a-z, 0-9 and _; apart from what readers call weights
    names: Literal["model", "words", "apart"] = "model"
    # the runtime in which an example program runs a net of one step; None: no example
    program: Literal["caffe", "opencv", "mnn", "ncnn", "rknn"] | None = None
    trained: bool = False  # nets are trained as they are, so no layer may lose a gradient
    outputs_unread: bool = False  # a model's output is a blob that no layer reads
    folds_constants: bool = False  # readers compute constants while they build a net
    outputs_alone: bool = False  # a model's output is its layer's only blob, and that layer changes something
    sharers_carry_blobs: bool = False  # every layer that shares a parameter has its blobs in the caffemodel
    float16: bool = False  # readers compute in it
    price: Price | None = None  # of its readers on a CPU; None: unknown
    reader: tuple[Reader, ...] = ()
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    layers: Layers = Layers()
    # the layers that its readers load in nets that lstmc did not write; None: only those that lstmc writes
    reads: Annotated[Target | None, GetPydanticSchema(lambda _, schema_of: schema_of(TARGET_OF_TYPES))] = None
    rule: tuple[Restriction, ...] = ()
    warning: tuple[Pitfall, ...] = ()

    @cached_property
    def _rules(self) -> dict[str, tuple[Restriction, ...]]:
        """Return the rules for each type of layer with rules, and as ``*`` those for other types; a type's own rules on
        axes replace those for all types."""
        rules = {}
        for layer in {ANY_LAYER, *(rule.layer for rule in self.rule)}:
            both = [rule for rule in self.rule if rule.layer in (layer, ANY_LAYER)]
            own_axes = any(rule.axes for rule in both if rule.layer == layer)
            rules[layer] = tuple(rule for rule in both if rule.layer == layer or not (own_axes and rule.axes))
        return rules

    @cached_property
    def before_one_row(self) -> Target:
        return replace(self, rule=tuple(rule for rule in self.rule if rule.stage is None))

    def allows(self, layer_type: str) -> bool:
        return self.lists(layer_type) and not any(rule.forbidden for rule in self.restrictions_on(layer_type))

    def lists(self, layer_type: str) -> bool:
        if layer_type not in self._listed:  # asked for each layer of a net
            allowed = self.layers.types
            self._listed[layer_type] = not allowed or any(fnmatchcase(layer_type, each) for each in allowed)
        return self._listed[layer_type]

    @cached_property
    def _listed(self) -> dict[str, bool]:
        return {}

    @cached_property
    def unshared(self) -> frozenset[str]:
        """The types of layers that must be the only readers of their bottoms."""
        return frozenset(type_ for rule in self.rule for type_ in rule.unshared)

    def restrictions_on(self, layer_type: str) -> tuple[Restriction, ...]:
        return self._rules.get(layer_type, self._rules[ANY_LAYER])

    def axes_of(self, layer_type: str) -> tuple[int, ...]:
        """Return the numbers of axes that blobs of a layer of this type may have, where blobs are matrices."""
        return next((rule.axes for rule in self.restrictions_on(layer_type) if rule.axes), (2,))

    def reason_against(self, layer_type: str) -> tuple[str, str]:
        """Return notes on the reason why the target does not allow layers of a type: the reason, and its source."""
        rules = self.restrictions_on(layer_type)
        why = next((rule for rule in rules if rule.forbidden), self.layers)
        return why.reason, f"documented in: {why.source}"

    def may_read(self, layer_type: str, writer: str) -> bool:
        """Return whether a layer of one type may read a blob that a layer of another type wrote."""
        return not any(writer in rule.not_after for rule in self.restrictions_on(layer_type))

    @property
    def one_row(self) -> bool:
        """Whether every blob has one row, and there are layers to cut and join rows."""
        of_one = any(rule.rows_at_most == 1 for rule in self.restrictions_on(ANY_LAYER))
        return of_one and self.allows("Slice") and self.allows("Concat")

    @property
    def in_place(self) -> bool:
        return all(rule.in_place for rule in self.restrictions_on(ANY_LAYER))

    @property
    def bottoms_at_most(self) -> int | None:
        """The largest number of bottoms of a Concat, or None if it is not limited."""
        limits = [rule.bottoms_at_most for rule in self.restrictions_on("Concat") if rule.bottoms_at_most]
        return min(limits, default=None)


Table = TypeVar("Table", Restriction, Layers)
NOT_INHERITED = {"name", "base", "program", "price", "reader", "reads", "layers"}


def _merged(file: Target, data: Mapping[str, Any], base: Target) -> Target:
    """Return a target: a file's keys ``data``, and for the keys that the file lacks those of its base. A rule on the
    same layer and subject replaces the base's rule; a rule such as ``forbidden = false`` only removes it."""
    inherited = {f.name: getattr(base, f.name) for f in fields(Target) if f.name not in {*data, *NOT_INHERITED}}
    sources, rules = {**base.sources, **file.sources}, {rule.subject: rule for rule in base.rule}
    own = list[Restriction]()
    for number, rule in enumerate(file.rule):
        if near := did_you_mean(rule.layer, {*LAYER_TYPES, *base.layers.types, *file.layers.types, *file.layers.add}):
            raise NotExpected(f"rule[{number}].layer: unknown type {rule.layer}{near} One of a reader: [layers] add")
        check = _check(rule, number, data["rule"][number])
        rules.pop((rule.layer, "" if rule.field else check, rule.field), None)
        if getattr(rule, check) != DEFAULTS[check]:  # a check of the default value only removes the base's rule
            own.append(_documented(rule, ("rule", number), sources))
            rules[own[-1].subject] = own[-1]
    warnings = {pitfall.name: pitfall for pitfall in base.warning}
    for number, pitfall in enumerate(file.warning):
        warnings[pitfall.name] = replace(pitfall, source=_source(pitfall.source, ("warning", number), sources))
    merged = inherited | {"sources": sources, "rule": tuple(rules.values()), "warning": tuple(warnings.values())}
    target = replace(file, **merged, layers=_layers(file.layers, base.layers, sources))
    _wanted(target.summary, ("summary",))
    return replace(target, reads=file.reads and _reads(file.reads.layers, target, own))


def _reads(layers: Layers, target: Target, own: Sequence[Restriction]) -> Target:
    """Return the target for nets from elsewhere: it allows the types of ``reads`` with any settings that the file's own
    rules allow. Of the base's rules only those remain that forbid a type outside of ``reads``."""
    if not layers.types:
        raise NotExpected.at(("reads", "types"), SOME_LAYERS, None)
    left_out = [rule for rule in target.rule if rule.forbidden and rule.layer not in layers.types]
    layers = _documented(layers, ("reads",), target.sources)
    return replace(target, layers=layers, reads=None, rule=tuple(dict.fromkeys((*own, *left_out))))


def _layers(table: Layers, base: Layers, sources: Mapping[str, str]) -> Layers:
    """Return the allowed types of the file, or else of its base, with the reason and source why no other is allowed."""
    if table.types:
        table = _documented(table, ("layers",), sources)
    else:
        table = Layers(base.types, table.add, table.reason or base.reason, base.source)
    return replace(table, types=table.types + table.add, add=())


def _documented(table: Table, place: tuple[str | int, ...], sources: Mapping[str, str]) -> Table:
    """Return a table with a reason, and its sources in place of their names."""
    _wanted(table.reason, (*place, "reason"))
    return replace(table, source=_source(table.source, place, sources))


def _wanted(text: str, place: tuple[str | int, ...]) -> str:
    if not text:
        raise NotExpected.at(place, "a text", None)
    return text


def _source(text: str, place: tuple[str | int, ...], sources: Mapping[str, str]) -> str:
    """Return the sources that ``text`` names, separated by commas; raise NotExpected for a name not in [sources]."""
    place = (*place, "source")
    names = [name.strip() for name in _wanted(text, place).split(",")]
    if any(name not in sources for name in names):
        raise NotExpected.at(place, f"names of [sources], which are {', '.join(sources) or 'none'}", text)
    return "; ".join(sources[name] for name in names)


def _is_field(path: str) -> bool:
    """Return whether a path names a field of LayerParameter. Packages are loaded only for a field that is not known."""
    if not _has_field(path):
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


def _check(rule: Restriction, number: int, given: Mapping[str, Any]) -> str:
    """Return the only check that a file gives for a rule. Raise NotExpected for none, several or an unknown field."""
    checks = [check for check in CHECKS if check in given]
    if len(checks) != 1 or (checks[0] in FIELD_CHECKS) != bool(rule.field):
        listed = ", ".join([*checks, *(["field"] if rule.field else [])]) or "none"
        expected = f"one check of {', '.join(CHECKS)}, the first five with a field"
        raise NotExpected(f"rule[{number}]: expected {expected}, found {listed}")
    if rule.field and not _is_field(rule.field):
        expected = "a field of LayerParameter, such as inner_product_param.axis"
        raise NotExpected.at(("rule", number, "field"), expected, rule.field)
    return checks[0]


# in targets/NAME.toml: the targets that others build on, the default first; OWN adds one for each reader, by its name
BASES = ("caffe", "flat", "noslice", "caffe-native", "caffe-fused")
_FILES = sorted(entry.name for entry in files(__package__).iterdir() if entry.name.endswith(".toml"))
OWN = tuple(dict.fromkeys((*BASES, *(name.removesuffix(".toml") for name in _FILES))))
GROUP = "lstmc_caffe.targets"  # entry points of other packages: a target's name -> its TOML file, as path or resource


def load_target(name: str, folder: Path = Path(), above: tuple[str, ...] = ()) -> Target:
    """Return a target by its name, or from a TOML file by the file's path relative to ``folder``. A path has a
    separator or ends in ``.toml``; the files ``above`` name this file as their ``base``. Raises :class:`BackendError`
    with the key, the expected and the actual value."""
    if is_path(name):
        return _read(folder / name, str(folder / name), above)
    return _by_name(name, above)


@dataclass(frozen=True)
class Summaries(Mapping[str, str]):
    """The summary of each known target, in order, or of the TOML file at a path. With ``trained``, only targets whose
    nets are trained. The summary of a plug-in's target that does not load is the reason."""

    trained: bool = False

    def __getitem__(self, name: str) -> str:
        if not is_path(name) and name not in _names():
            raise KeyError(name)
        try:
            target = load_target(name)
        except (PluginError, BackendError) as error:
            if is_path(name):
                raise
            if self.trained:
                raise KeyError(name) from None
            return f"cannot be used: {error.message}"
        if self.trained and not target.trained:
            raise KeyError(name)
        return target.summary

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in _names() if not self.trained or name in self])

    def __len__(self) -> int:
        return len(list(iter(self)))


def is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith(".toml")


def _names() -> tuple[str, ...]:
    return (*OWN, *(name for name in entry_points_of(GROUP) if name not in OWN))


def target_faults() -> Iterator[tuple[str, str]]:
    """Yield the name of each plug-in's target that cannot be used, and the reason."""
    for name, points in entry_points_of(GROUP).items():
        if name in OWN:
            others = " and ".join(map(origin, points))
            yield name, f"target {name} of {others} is not used: lstmc has one of that name. Give it another"
            continue
        try:
            load_target(name)
        except (PluginError, BackendError) as error:
            yield name, error.message


@cache
def _by_name(name: str, above: tuple[str, ...]) -> Target:
    if name in OWN:
        return _read(files(__package__).joinpath(f"{name}.toml"), f"targets/{name}.toml", above)
    if name in entry_points_of(GROUP):
        return _of_plug_in(only_entry_point(GROUP, name, "target"), above)
    near = did_you_mean(name, _names()) or f": expected {', '.join(_names())}, or the path of a TOML file"
    raise BackendError(f"there is no target {name}{near}")


def _of_plug_in(point: EntryPoint, above: tuple[str, ...]) -> Target:
    """Return the target that a package's entry point names. Raise PluginError if the entry point is malformed."""
    place = load_point(point, "target")
    if not isinstance(place, str | Traversable):
        raise malformed(point, "target", "the path of a TOML file, or a resource", repr(place))
    brought = f"target {point.name} of {distribution(point)}"
    parsed = _read(Path(place) if isinstance(place, str) else place, f"{brought} ({place})", above)
    if parsed.name != point.name:
        raise PluginError(f"{brought} ({place}): name: expected {point.name}, found {parsed.name}")
    return parsed


def _read(file: Path | Traversable, where: str, above: tuple[str, ...]) -> Target:
    """Return the target of a TOML file, with its base. Raise BackendError if the file is among those ``above`` it."""
    if where in above:
        raise BackendError(f"{where}: base: targets are built on each other in a circle: {' on '.join(above)}")
    try:
        with reading(where, BackendError):
            content = read_file(file) if isinstance(file, Path) else file.read_bytes()
        data = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise BackendError(f"{where}: expected a target as TOML, found a file that is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BackendError(f"{where}: expected a target as TOML: {error}") from None
    except RecursionError:
        raise BackendError(f"{where}: expected a target as TOML, found it nested too deep") from None
    return parse_with_base(data, where, file.parent if isinstance(file, Path) else Path(), above)


def parse_with_base(data: Mapping[str, Any], where: str, folder: Path, above: tuple[str, ...] = ()) -> Target:
    """Return a target from the content of its file, merged with its base. Paths of bases are relative to ``folder``.
    Raises :class:`BackendError` that names the file ``where``, the key, what was expected and what was found."""
    base = data.get("base")
    if not isinstance(base, str | None):
        raise BackendError(f"{where}: base: expected the name or the path of a target, found {base!r}")
    parent = Target("") if base is None else load_target(base, folder, (*above, where))
    try:
        return _merged(parse_json(json.dumps(data, default=str).encode(), Target), data, parent)
    except NotExpected as wrong:
        raise BackendError(f"{where}: {wrong}") from None
