"""Targets as data: what a program that reads Caffe nets accepts, each restriction with its reason and its source.

The compiler asks a target which form to write; the linter holds any net against the same restrictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

ANY_LAYER = "*"
Value = bool | int | float | str
Layout = Literal["blobs", "rows"]
Time = Literal["slice", "steps"]
Scans = Literal["unrolled", "layers", "fused"]
Names = Literal["model", "words"]
ClippedWindows = Literal["any", "padded", "none"]
Program = Literal["caffe", "opencv", "mnn", "ncnn", "rknn"]


@dataclass(frozen=True)
class Reader:
    """A program that reads nets of a target, and what it asks beyond the target's restrictions."""

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
    bottoms_differ: bool = False  # it reads no blob of several numbers twice
    clipped_windows: ClippedWindows = "any"  # of a Pooling: along which axes its last window may be left out

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
    """What a reader of some version gets wrong and says nothing of, where the target cannot avoid it for all versions.

    It is told of nets that have ``path``: layers of these types, each but the first reading the one before.
    """

    name: str
    path: tuple[str, ...]
    text: str
    version: str
    source: str


@dataclass(frozen=True)
class Target:
    """What may be written for one kind of reader. ``layers`` are the types allowed, empty for every type."""

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
    names: Names = "model"  # what blobs are called: as in the model, or by words: a-z, 0-9 and _
    program: Program | None = None  # which an example is written for, that runs a net of one step
    trained: bool = False  # nets are trained as they are, so no layer may lose a gradient
    outputs_unread: bool = False  # a model's output is a blob that no layer reads
    sharers_carry_blobs: bool = False  # every layer that shares a parameter has its blobs in the caffemodel
    float16: bool = False  # readers compute in it
    pitfalls: tuple[Pitfall, ...] = ()
    # what its readers load of nets from elsewhere, in forms too that are not written; None: the same as is written
    reads: Target | None = None

    def allows(self, layer_type: str) -> bool:
        """Whether layers of this type may be written at all."""
        return self.lists(layer_type) and not any(rule.forbidden for rule in self.restrictions_on(layer_type))

    def lists(self, layer_type: str) -> bool:
        """Whether a type is among those of ``layers``."""
        return not self.layers or any(fnmatchcase(layer_type, allowed) for allowed in self.layers)

    def restrictions_on(self, layer_type: str) -> tuple[Restriction, ...]:
        """What a layer of this type is held against: of axes, what is said of its type, else what is said of all."""
        found = [rule for rule in self.restrictions if rule.applies_to(layer_type)]
        of_its_own = any(rule.axes and rule.layer == layer_type for rule in found)
        return tuple(rule for rule in found if not (of_its_own and rule.axes and rule.layer == ANY_LAYER))

    def axes_of(self, layer_type: str) -> tuple[int, ...]:
        """How many axes the blobs of a layer of this type may have, where blobs are matrices."""
        return next((rule.axes for rule in self.restrictions_on(layer_type) if rule.axes), (2,))

    def reason_against(self, layer_type: str) -> tuple[str, str]:
        """Why layers of a type are not allowed, and where that is documented."""
        for rule in self.restrictions_on(layer_type):
            if rule.forbidden:
                return rule.reason, rule.source
        return self.layers_reason, self.layers_source

    def may_read(self, layer_type: str, writer: str) -> bool:
        """Whether a layer of one type may read what a layer of another one wrote."""
        return not any(writer in rule.not_after for rule in self.restrictions_on(layer_type))

    def may_repeat(self, layer_type: str) -> bool:
        """Whether a layer of a type may read one blob several times."""
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
        """How many blobs one Concat may join, where that is limited."""
        limits = [rule.bottoms_at_most for rule in self.restrictions_on("Concat") if rule.bottoms_at_most]
        return min(limits, default=None)
