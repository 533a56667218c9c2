"""The settings of a solver, typed and checked: ``Solver(type="Adam", base_lr=2e-3)``. Names and meanings are those of
SolverParameter in ``src/caffe/proto/caffe.proto``; the settings that each type and policy uses are those of
``src/caffe/solvers/*.cpp`` and ``include/caffe/sgd_solvers.hpp``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, NoReturn, Self

import numpy as np

from lstmc.errors import Argument, BackendError
from lstmc.source import argument_location, here
from lstmc.text import nearest_or_all, number, whole

LARGEST = 2**31 - 1  # Caffe's counts are int32
HIGHEST = float(np.finfo(np.float32).max)


class WrongValue(Exception):
    """``must be ..., found ...``: completes a message that begins with the setting's name."""


@dataclass(frozen=True)
class Kind:
    """One kind of value. ``expected`` completes "must be". ``parse`` turns a text into a value for ``convert``. Both
    return None for an invalid value."""

    expected: str
    convert: Callable[[Any], Any]
    parse: Callable[[str], Any]

    def take(self, value: Any) -> Any:
        """Return the value converted to the type in which it is stored. Raises :class:`WrongValue`."""
        converted = self.convert(value)
        if converted is None:
            raise WrongValue(f"must be {self.expected}, found {value!r}")
        return converted

    def read(self, text: str) -> Any:
        try:
            return self.take(self.parse(text))
        except WrongValue:
            raise WrongValue(f"must be {self.expected}, found {text!r}") from None


def _number(expected: str, fits: Callable[[np.float32], bool]) -> Kind:
    """Return the kind of finite numbers that satisfy ``fits`` as Caffe's float32: 0.99999999999 is not below 1."""

    def convert(value: Any) -> float | None:
        """Return a finite number that satisfies ``fits``, as a float; None for any other value."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return None
        scalar: Any = value
        if not abs(scalar) <= HIGHEST:
            return None
        with np.errstate(under="ignore"):
            return float(scalar) if fits(np.float32(scalar)) else None

    return Kind(expected, convert, number)


def _whole(least: int, most: int) -> Kind:

    def convert(value: Any) -> int | None:
        fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if fits and least <= value <= most else None

    return Kind(f"an integer from {least} to {most}", convert, whole)


def choice_of(names: Sequence[str]) -> Kind:
    """Return the kind of a choice among names, spelled exactly."""
    return Kind(f"one of {', '.join(names)}", lambda value: value if value in tuple(names) else None, str)


def _ascending(value: Any) -> tuple[int, ...] | None:
    """Return ascending integers from 1 on as a tuple, else None: Caffe's rate would change late (sgd_solver.cpp)."""
    if not isinstance(value, list | tuple) or not value:
        return None
    numbers = [COUNT.convert(item) for item in value]
    if None in numbers or any(a >= b for a, b in pairwise(numbers)):
        return None
    return tuple(numbers)


ABOVE_0 = _number("a number above 0", lambda x: bool(x > 0))
FROM_0 = _number("a number from 0 on", lambda x: bool(x >= 0))
BELOW_1 = _number("a number from 0 on and below 1", lambda x: bool(0 <= x < 1))
DIFFERENT_FROM_0 = _number("a number other than 0", lambda x: bool(x != 0))
COUNT = _whole(1, LARGEST)
FROM_0_COUNT = _whole(0, LARGEST)
SEED = _whole(0, 2**32 - 1)
COUNTS = Kind("integers from 1 on, each above the last", _ascending, lambda text: [whole(n) for n in text.split(",")])
FLAG = Kind(
    "true or false", lambda value: value if isinstance(value, bool) else None, {"true": True, "false": False}.get
)

TYPES = ("SGD", "Nesterov", "Adam", "AdaGrad", "RMSProp", "AdaDelta")
POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
# Fields of Caffe's SolverParameter that are no settings: lstmc fills them in.
FILLED_IN = (
    *("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param", "train_state", "test_state"),
    *("snapshot_prefix", "snapshot_format", "snapshot_after_train", "solver_mode"),
)


class SolverError(BackendError):
    """A solver setting that is unknown, has a wrong value, is missing, or is unused by the type or policy."""


@dataclass(frozen=True)
class Setting:
    """A setting: its kind of value, its meaning, and the ``types`` and ``policies`` that use it (empty: all).
    ``default`` is a value, or a value for each type. Without it, a setting that a policy uses must be given."""

    kind: Kind
    meaning: str
    default: Any = None
    types: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()


def _setting(kind: Kind, meaning: str, default: Any = None, **used_by: tuple[str, ...]) -> Any:
    return field(default=None, metadata={"setting": Setting(kind, meaning, default, **used_by)})


_RATES = {"SGD": 0.01, "Nesterov": 0.01, "Adam": 0.001, "AdaGrad": 0.01, "RMSProp": 0.001, "AdaDelta": 1.0}
_MOMENTA = {"SGD": 0.9, "Nesterov": 0.9, "Adam": 0.9, "AdaDelta": 0.95}
_DELTAS = {"Adam": 1e-8, "AdaGrad": 1e-8, "RMSProp": 1e-8, "AdaDelta": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Typed settings of a solver, each with a default. Settings that the type or the policy does not use are None.
    Raises :class:`SolverError`, at the user's own argument, for a setting that is unknown, wrong, missing or unused."""

    type: str = _setting(choice_of(TYPES), "the rule of the update", "SGD")
    base_lr: float = _setting(ABOVE_0, "the first learning rate", _RATES)
    lr_policy: str = _setting(choice_of(POLICIES), "how the learning rate changes with the iteration", "fixed")
    gamma: float | None = _setting(
        DIFFERENT_FROM_0,
        "the factor of the policy; for sigmoid the slope, below 0 for a rate that falls",
        policies=("step", "exp", "inv", "multistep", "sigmoid"),
    )
    power: float | None = _setting(FROM_0, "the policy's exponent", policies=("inv", "poly"))
    stepsize: int | None = _setting(
        COUNT, "iterations between two changes of the rate; for sigmoid the middle", policies=("step", "sigmoid")
    )
    stepvalue: tuple[int, ...] | None = _setting(COUNTS, "iterations when the rate changes", policies=("multistep",))
    max_iter: int = _setting(COUNT, "how many iterations to train", 1000)
    momentum: float | None = _setting(
        BELOW_1, "the factor of the last update; beta1 of Adam, rho of AdaDelta", _MOMENTA, types=tuple(_MOMENTA)
    )
    momentum2: float | None = _setting(BELOW_1, "beta2 of Adam", 0.999, types=("Adam",))
    delta: float | None = _setting(ABOVE_0, "a number that keeps the divisor above 0", _DELTAS, types=tuple(_DELTAS))
    rms_decay: float | None = _setting(BELOW_1, "the factor of the last mean square", 0.99, types=("RMSProp",))
    weight_decay: float = _setting(FROM_0, "the factor of the regularization", 0.0)
    regularization_type: str = _setting(choice_of(("L1", "L2")), "the norm of the weights in the regularization", "L2")
    clip_gradients: float | None = _setting(ABOVE_0, "the largest L2 norm of all gradients; by default no limit")
    iter_size: int = _setting(COUNT, "batches whose gradients make one update (`caffe train` and PyTorch)", 1)
    random_seed: int = _setting(SEED, "the seed of all random draws of a run", 0)
    display: int = _setting(FROM_0_COUNT, "iterations between two lines of `caffe train`; 0: no lines", 100)
    average_loss: int = _setting(COUNT, "iterations whose mean loss `caffe train` shows", 1)
    snapshot: int = _setting(FROM_0_COUNT, "iterations between two snapshots; 0: only at the end", 0)
    test_iter: int = _setting(FROM_0_COUNT, "batches of one test; 0: all test data once", 0)
    test_interval: int = _setting(FROM_0_COUNT, "iterations between two tests; 0: only at the end", 0)
    test_initialization: bool = _setting(FLAG, "whether to test before the first iteration", False)

    def __new__(cls, *positional: Any, **settings: Any) -> Self:
        """Raise :class:`SolverError` with the caller's location for arguments that ``__init__`` does not take."""
        if positional:
            _refuse(f"expected settings by name, as base_lr=0.01, found {positional[0]!r}")
        for name in settings:
            if name not in SETTINGS:
                _refuse(unknown(name), name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        explicit = {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}
        object.__setattr__(self, "_explicit", _checked(explicit))
        for name, value in _filled(self.explicit).items():
            object.__setattr__(self, name, value)

    @property
    def explicit(self) -> dict[str, Any]:
        """The settings that are set explicitly, by name; other settings have their defaults."""
        return dict(self.__dict__["_explicit"])

    def rate(self, iteration: int) -> float:
        """Return the learning rate of the update after ``iteration`` updates (``sgd_solver.cpp: GetLearningRate``)."""
        with np.errstate(over="ignore"):
            return float(self.base_lr * _factor(self, iteration))


# the signature for notebooks and help: by default Python shows that of ``__new__``, which only refuses
Solver.__signature__ = inspect.Signature([*inspect.signature(Solver.__init__).parameters.values()][1:])  # type: ignore[attr-defined]


def _factor(solver: Solver, iteration: int) -> Any:
    """Return the factor by which the policy multiplies ``base_lr`` at an iteration."""
    gamma, power = np.float64(solver.gamma or 0), np.float64(solver.power or 0)
    match solver.lr_policy:
        case "step":
            return gamma ** (iteration // (solver.stepsize or 1))
        case "exp":
            return gamma**iteration
        case "inv":
            return (1 + gamma * iteration) ** -power
        case "multistep":
            return gamma ** sum(at <= iteration for at in solver.stepvalue or ())
        case "poly":
            return np.float64(max(0.0, 1 - iteration / solver.max_iter)) ** power
        case "sigmoid":
            return 1 / (1 + np.exp(-gamma * (iteration - (solver.stepsize or 0))))
    return 1.0


SETTINGS: Mapping[str, Setting] = {item.name: item.metadata["setting"] for item in fields(Solver)}


def _refuse(message: str, name: str | None = None) -> NoReturn:
    loc = here("lstmc.runs.solver")
    raise SolverError(f"solver: {message}", loc=argument_location(loc, None, name) if name else loc)


def _checked(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return explicit settings, each converted to its stored type."""
    values = {}
    for name, value in explicit.items():
        try:
            values[name] = SETTINGS[name].kind.take(value)
        except WrongValue as wrong:
            _refuse(f"{name} {wrong}", name)
    return values


def _filled(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings, with the defaults, and None for unused ones. Raise SolverError for a setting that is given
    and not used by the type or the policy, or needed by the policy and not given."""
    chosen = {"type": explicit.get("type", TYPES[0]), "lr_policy": explicit.get("lr_policy", POLICIES[0])}
    values = {}
    for name, setting in SETTINGS.items():
        for key, users in (("type", setting.types), ("lr_policy", setting.policies)):
            if users and chosen[key] not in users and name in explicit:
                _refuse(f"{name} is for {key} {' or '.join(users)}, found {key} {chosen[key]}", name)
        if chosen["lr_policy"] in setting.policies and name not in explicit:
            _refuse(f"lr_policy {chosen['lr_policy']} needs {name}: {setting.meaning}", "lr_policy")
        default = setting.default
        if isinstance(default, Mapping):
            default = default.get(chosen["type"])
        elif setting.types and chosen["type"] not in setting.types:
            default = None
        values[name] = explicit.get(name, default)
    gamma, policy = values["gamma"], chosen["lr_policy"]
    if gamma is not None and gamma < 0 and policy != "sigmoid":
        _refuse(f"gamma must be a number above 0 for lr_policy {policy}, found {gamma!r}", "gamma")
    return values


def unknown(name: str) -> str:
    """Return the message for an unknown setting: that lstmc fills it in, or the closest name, or all names."""
    if name in FILLED_IN:
        return f"{name} is no setting: lstmc fills it in"
    return f"there is no setting {name}{nearest_or_all(name, SETTINGS, 'it has')}"


def parse_overrides(texts: Sequence[str], solver: Solver | None = None) -> Solver:
    """Return ``solver``, or the default solver, with settings replaced by texts ``key=value``; ``key=default`` removes
    a setting. Lists are written ``stepvalue=100,200``, flags ``true`` and ``false``. Raises SolverError."""
    explicit, seen = (solver or Solver()).explicit, set()
    for text in texts:
        argument = Argument("solver", text)
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise SolverError(f"{argument}: expected key=value, found {text!r}")
        if name not in SETTINGS:
            raise SolverError(f"{argument}: {unknown(name)}")
        if name in seen:
            raise SolverError(f"{argument}: {name} is given twice")
        seen.add(name)
        explicit.pop(name, None)
        if value != "default":
            try:
                explicit[name] = SETTINGS[name].kind.read(value)
            except WrongValue as wrong:
                raise SolverError(f"{argument}: {name} {wrong}") from None
    try:
        return Solver(**explicit)
    except SolverError as error:
        after = " ".join(str(Argument("solver", text)) for text in texts)
        raise SolverError(f"{error.marked} (after {after})") from None


def resolve_solver(own: object, overrides: Sequence[str] = ()) -> Solver:
    """Return a model's own solver, or the default one, with overrides ``key=value``. Raises :class:`SolverError`."""
    if own is not None and not isinstance(own, Solver):
        raise SolverError(f"@model(solver=...) takes a lstmc.Solver, found {type(own).__name__} {own!r}")
    return parse_overrides(overrides, own)
