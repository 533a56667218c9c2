"""The options of compiling and training as objects: keywords that ``lstmc.compile`` and ``lstmc.train`` document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lstmc.api.models import Phase, Weights, all_sizes, backend_of
from lstmc.backend import Backend, target_of
from lstmc.numerics import device
from lstmc.passes import PassList, Time, with_convex_updates, with_time
from lstmc.pipeline import EditPasses

if TYPE_CHECKING:
    from lstmc.data import Data
    from lstmc.runs.events import Progress

# lstmc.Solver, or a backend's own type; some settings by name; or texts, as ("base_lr=0.1",).
Solver = object | Mapping[str, object] | Sequence[str]

Options = TypeVar("Options")


def options_of(kind: type[Options], function: Callable[..., object], given: Mapping[str, Any]) -> Options:
    """Return the arguments ``given`` to a public ``function`` as the dataclass ``kind``, with all sizes in one mapping.
    Raises :class:`ModelFileError` for a size that is invalid or given twice."""
    values = {each.name: given[each.name] for each in fields(cast(Any, kind)) if each.name in given}
    if "sizes" in values:
        values["sizes"] = all_sizes(values["sizes"], given.get("dims", {}), function)
    return kind(**values)


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """The options of :func:`lstmc.compile`; ``sizes`` has the sizes of all dimensions."""

    target: str | None = None
    backend: str | Backend | None = None
    step: bool = False
    phase: Phase = "deploy"
    outputs: Sequence[str] | None = None
    weights: Weights | None = None
    seed: int = 0
    form: str | None = None
    time: Time | None = None
    tuned: bool = False
    numbers: str | None = None
    passes: EditPasses | None = None
    dump_dir: str | Path | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def edited(self, passes: PassList) -> PassList:
        """Return the list of passes as the options ``time``, ``numbers`` and ``passes`` change it."""
        listed = passes
        if self.numbers is not None and device.read_device(self.numbers).rounds_sums:
            listed = with_convex_updates(listed)
        if self.time is not None:
            backend = self.resolved_backend()
            target = target_of(backend, self.target)
            trained = target in backend.training_targets
            listed = with_time(listed, self.time, trained, backend.price(target))
        return listed if self.passes is None else PassList(self.passes(listed))

    def resolved_backend(self) -> Backend:
        return backend_of(self.backend, self.target)

    @property
    def one_step(self) -> bool:
        """Whether the net computes one step: on request, or because the backend writes only such nets."""
        return self.step or self.resolved_backend().one_step


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of :func:`lstmc.train`, and of each point of a sweep, that affect the trained weights."""

    test_data: Data | None = None
    test_split: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    solver: Solver | None = None
    seed: int = 0
    batch: str | None = None
    shuffle: bool = True
    gpu: bool = False
    target: str | None = None
    backend: str | Backend | None = None
    epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of :func:`lstmc.train` for one run: its folder, its start, and its observers."""

    out: str | Path
    weights: Weights | None = None
    resume: bool = False
    overwrite: bool = False
    ranks: int | None = 1
    progress: Progress | None = None
    stop: Callable[[], bool] | None = None
    command: str = ""
