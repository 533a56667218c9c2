"""The settings of a backend's solver, as people give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.backend import Settings, Trains

# The backend's own type, as lstmc_caffe.Solver; some settings by name; or texts, as ("base_lr=0.1",).
Solver = object | Mapping[str, object] | Sequence[str]


def solver_settings(backend: Trains, of_model: object | None, given: Solver | None) -> Settings:
    """A model's settings with those given put over them; settings of the backend's own type take their place."""
    if given is None:
        return backend.settings(of_model, ())
    if isinstance(given, Mapping):
        return backend.settings(of_model, [f"{name}={_text(value)}" for name, value in given.items()])
    if isinstance(given, list | tuple):
        return backend.settings(of_model, given)
    return backend.settings(given, ())


def _text(value: object) -> str:
    """A setting's value as settings are written in text: ``true``, ``100,200``, ``default``."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
