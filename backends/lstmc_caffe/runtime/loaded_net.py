"""A net loaded in the worker: its layers and blobs, running it, and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstmc_caffe.processes.worker import CaffeRequestError, Groups, Reply

Floats = NDArray[np.float32]
Shape = tuple[int, ...]
Names = Iterable[str] | Literal["all"]
# (the action, in words; the request; its arrays; seconds or None for the default) -> the reply
Ask = Callable[[str, Mapping[str, Any], Groups, float | None], Reply]


@dataclass(frozen=True)
class Layer:
    """A layer as Caffe has it, inserted Splits included. ``params`` are names in ``Net.params``."""

    name: str
    type: str
    params: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """Arrays of one run, by name: values of blobs, gradients of blobs, gradients of parameters."""

    blobs: dict[str, Floats]
    diffs: dict[str, Floats] = field(default_factory=dict)
    param_diffs: dict[str, Floats] = field(default_factory=dict)


class Net:
    """A loaded net. It is gone when the worker ends (a timeout, an abort): then load it again.

    ``blobs`` and ``params`` map names to shapes. A parameter that the prototxt names (``param { name: }``) goes
    by that name, once, however many layers share it; another one is ``LAYER/INDEX``. ``outputs`` are the blobs
    that no layer of the given net reads.
    """

    def __init__(
        self,
        title: str,
        ask: Ask,
        reply: Mapping[str, Any],
        *,
        probes: tuple[str, ...],
        force_backward: bool,
        gradients: tuple[str, ...] = (),
    ) -> None:
        self.title = title
        self.blobs: dict[str, Shape] = {name: tuple(shape) for name, shape in reply["blobs"]}
        self.params: dict[str, Shape] = {name: tuple(shape) for name, shape in reply["params"]}
        self.inputs: tuple[str, ...] = tuple(reply["inputs"])
        self.outputs: tuple[str, ...] = tuple(reply["outputs"])
        self.layers = tuple(Layer(name, kind, tuple(params)) for name, kind, params in reply["layers"])
        self.probes = probes
        self.force_backward = force_backward
        self.gradients = gradients  # the inputs whose gradients are computed
        self._differentiable = force_backward or bool(probes) or bool(reply["has_loss"])
        self._number: int = reply["net"]
        self._ask = ask

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()

    def run(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        want: Names | None = None,
        backward: Mapping[str, ArrayLike] | None = None,
        want_diffs: Names = (),
        want_param_diffs: bool = False,
        timeout: float | None = None,
    ) -> RunResult:
        """Run one forward pass, and with ``backward`` (``{}`` will do) one backward pass.

        ``inputs`` has every input of the net, in its exact shape; all is converted to float32. ``want`` names the
        blobs to return, by default the outputs. ``backward`` holds gradients of probed blobs, those left out being
        zero; losses of the net's own take part with their weight. ``want_diffs`` names blobs whose gradients to
        return: that of a blob that a layer overwrites in place is the one before that layer, and where Caffe
        computes none it is zero. Gradients of parameters are of this run alone. With ``lr_mult: 0`` they are
        computed only where the net was loaded with ``force_backward`` or ``gradients``.
        """
        passes = "forward" if backward is None else "forward and backward"
        action = f"run {self.title} {passes}"
        self._pick(action, "input", self.inputs, inputs)
        if missing := [name for name in self.inputs if name not in inputs]:
            raise CaffeRequestError(action, f"no array was given for input {', '.join(missing)}")
        diffs = self._pick(action, "blob", self.blobs, want_diffs)
        self._check_backward(action, backward, diffs, want_param_diffs)
        request = {
            "request": "run",
            "net": self._number,
            "backward": backward is not None,
            "blobs": self._pick(action, "blob", self.blobs, self.outputs if want is None else want),
            "diffs": diffs,
            "param_diffs": want_param_diffs,
        }
        arrays = {"inputs": _floats(inputs), "backward": _floats(backward or {})}
        _, groups = self._ask(action, request, arrays, timeout)
        return RunResult(*(groups.get(name, {}) for name in ("blobs", "diffs", "param_diffs")))

    def set_params(self, values: Mapping[str, ArrayLike], timeout: float | None = None) -> None:
        """Set parameters by name; each must have the parameter's own shape. Others keep their values."""
        action = f"set parameters of {self.title}"
        self._pick(action, "parameter", self.params, values)
        request = {"request": "params", "net": self._number, "names": []}
        self._ask(action, request, {"params": _floats(values)}, timeout)

    def get_params(self, names: Names = "all", timeout: float | None = None) -> dict[str, Floats]:
        """Return the values of parameters, by name."""
        action = f"get parameters of {self.title}"
        picked = self._pick(action, "parameter", self.params, names)
        request = {"request": "params", "net": self._number, "names": picked}
        return self._ask(action, request, {}, timeout)[1].get("params", {})

    def unload(self) -> None:
        """Free the net's memory in the worker. Leaving a ``with`` block does it too."""
        self._ask(f"unload {self.title}", {"request": "unload", "net": self._number}, {}, None)

    def _check_backward(
        self, action: str, backward: Mapping[str, ArrayLike] | None, diffs: list[str], param_diffs: bool
    ) -> None:
        if backward is None:
            if diffs or param_diffs:
                raise CaffeRequestError(action, "gradients need a backward pass: give backward={} or more")
            return
        self._pick(action, "probe", self.probes, backward)
        if not self._differentiable:
            raise CaffeRequestError(action, "it has no loss and was loaded without probes")
        unforced = sorted(set(diffs).intersection(self.inputs).difference(self.gradients))
        if unforced and not self.force_backward:
            listed = ", ".join(unforced)
            raise CaffeRequestError(action, f"the gradient of input {listed} must be asked for when loading: gradients")

    def _pick(self, action: str, kind: str, available: Iterable[str], names: Names | Iterable[str]) -> list[str]:
        """Return the names as a list. CaffeRequestError lists unknown ones."""
        if isinstance(names, str):
            names = available if names == "all" else [names]
        picked, valid = list(names), sorted(available)
        if unknown := sorted(set(picked).difference(valid)):
            listed = ", ".join(valid[:20]) + (f" ... ({len(valid)} in all)" if len(valid) > 20 else "")
            raise CaffeRequestError(action, f"no {kind} is called {', '.join(unknown)}; it has {listed or 'none'}")
        return picked


def _floats(arrays: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
