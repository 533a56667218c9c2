"""Real Caffe from lstmc: a Runner owns one worker process, starts it when needed and anew when it has ended. A Net is
loaded in the worker: it has layers, blobs and parameters, and runs."""

from __future__ import annotations

import functools
import os
import re
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstmc.loops.code import Source
from lstmc_caffe.install.layer_compiler import library
from lstmc_caffe.processes import process
from lstmc_caffe.processes.process import Array, CaffeError, CaffeLocation, CaffeRequestError, Groups, Reply, gpu_state
from lstmc_caffe.runtime.locate import locate, locate_for_gpu
from lstmc_caffe.worker import WORKER

Floats = NDArray[np.float32]
Shape = tuple[int, ...]
# (the action, in words; the request; its arrays) -> the reply
Ask = Callable[[str, Mapping[str, Any], Groups], Reply]
REQUEST_SECONDS = 120.0
START_SECONDS = 60.0
Phase = Literal["TEST", "TRAIN"]
Mode = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class RunResult:
    """Arrays of one run, by name: values of blobs, gradients of blobs, gradients of parameters."""

    blobs: dict[str, Floats]
    diffs: dict[str, Floats] = field(default_factory=dict)
    param_diffs: dict[str, Floats] = field(default_factory=dict)


class Net(AbstractContextManager["Net"]):
    """A loaded net, which is lost when the worker ends (a timeout, an abort): then load the net again. ``blobs`` and
    ``params`` map names to shapes. A parameter that the prototxt names (``param { name: }``) has this name, once for
    all layers that share it; others are ``LAYER/INDEX``. ``outputs`` are the blobs that no layer of the net reads."""

    def __init__(self, title: str, ask: Ask, reply: Mapping[str, Any]) -> None:
        """Take the description of a loaded net from the worker's ``reply``; ``ask`` sends requests about it."""
        self.title = title
        self.blobs: dict[str, Shape] = {name: tuple(shape) for name, shape in reply["blobs"]}
        self.params: dict[str, Shape] = {name: tuple(shape) for name, shape in reply["params"]}
        self.inputs: tuple[str, ...] = tuple(reply["inputs"])
        self.outputs: tuple[str, ...] = tuple(reply["outputs"])
        self._number: int = reply["net"]
        self._ask = ask

    def __exit__(self, *exception: object) -> None:
        self.unload()

    def run(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        want: Iterable[str] | None = None,
        backward: Mapping[str, ArrayLike] | None = None,
        want_diffs: Iterable[str] = (),
        want_param_diffs: bool = False,
    ) -> RunResult:
        """Run one forward pass, and with ``backward`` (``{}`` will do) one backward pass.
        ``inputs`` has every input of the net, in its exact shape; all is converted to float32. ``want`` names the blobs
        to return, by default the outputs. ``backward`` has gradients of probed blobs, zero for missing ones; the net's
        own losses count with their weights. ``want_diffs`` names blobs whose gradients to return; inputs must be among
        the ``gradients`` that the net was loaded with. For a blob that a layer overwrites in place, the gradient is the
        one before that layer; a gradient that Caffe does not compute is zero. Gradients of parameters are of this run
        alone; with ``lr_mult: 0`` they need a net that was loaded with ``gradients``."""
        action = f"run {self.title} {'forward' if backward is None else 'forward and backward'}"
        _picked(action, "input", self.inputs, inputs)
        if missing := [name for name in self.inputs if name not in inputs]:
            raise CaffeRequestError(action, f"no array was given for input {', '.join(missing)}")
        request = {
            "request": "run",
            "net": self._number,
            "backward": backward is not None,
            "blobs": _picked(action, "blob", self.blobs, self.outputs if want is None else want),
            "diffs": [*want_diffs],
            "param_diffs": want_param_diffs,
        }
        _, groups = self._ask(action, request, {"inputs": _floats(inputs), "backward": _floats(backward or {})})
        return RunResult(*(groups.get(name, {}) for name in ("blobs", "diffs", "param_diffs")))

    def forward(self, blobs: Mapping[str, Array], outputs: Iterable[str]) -> Mapping[str, Array]:
        return self.run(blobs, want=outputs).blobs

    def unload(self) -> None:
        """Free the net's memory in the worker. Leaving a ``with`` block does it too."""
        self._ask(f"unload {self.title}", {"request": "unload", "net": self._number}, {})


def _picked(action: str, kind: str, available: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the names as a list. Raise CaffeRequestError if names are not ``available``."""
    picked, valid = list(names), sorted(available)
    if unknown := sorted(set(picked).difference(valid)):
        listed = ", ".join(valid[:20]) + (f" ... ({len(valid)} in all)" if len(valid) > 20 else "")
        raise CaffeRequestError(action, f"no {kind} is called {', '.join(unknown)}; it has {listed or 'none'}")
    return picked


def _floats(arrays: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


@dataclass(frozen=True)
class CallResult:
    """The result of a function in the worker: JSON data, and arrays by name."""

    value: Any
    arrays: dict[str, Array]


class Runner(AbstractContextManager["Runner"]):
    """Runs nets in real Caffe, in a process of its own that is started by the first request.
    Every request has a deadline: ``timeout`` seconds, or the call's own (``math.inf`` for none). Past the deadline the
    worker is ended (CaffeTimeout); an abort of Caffe ends it too (CaffeAborted). The next request then starts a new
    worker, and nets of the old worker raise until they are loaded again. If no Caffe is found, the first request raises
    CaffeNotFound. Threads may share a Runner; their requests wait for each other. ``close()``, or the end of a ``with``
    block, ends the worker; so does the end of this process. ``start`` replaces the usual worker, for example by several
    ranks. ``for_gpu`` asks for the Caffe that was built with CUDA, which is slower to import and larger in memory."""

    def __init__(
        self,
        location: CaffeLocation | None = None,
        *,
        timeout: float = REQUEST_SECONDS,
        for_gpu: bool = False,
        start: Callable[[CaffeLocation], process.WorkerProcess] | None = None,
    ) -> None:
        """Make a runner. The first request starts its worker, in ``location`` or in the Caffe that is found."""
        self.timeout = timeout
        self._fixed_location = location
        self._for_gpu = for_gpu
        self._start = start or self._start_default
        self._lock = threading.RLock()
        self._worker: process.WorkerProcess | None = None  # None: not started, or ended
        self._end_worker: weakref.finalize[[], Runner] | None = None  # runs also when this Runner is collected
        self._libraries: dict[Path, None] = {}  # that every worker has open
        self._closed = False

    def __exit__(self, *exception: object) -> None:
        self.close()

    @functools.cached_property
    def location(self) -> CaffeLocation:
        return self._fixed_location or (locate_for_gpu() if self._for_gpu else locate())

    @functools.cached_property
    def gpu(self) -> process.GpuState:
        """The state of Caffe on a GPU, probed once."""
        return gpu_state(self.location)

    @property
    def pid(self) -> int:
        with self._lock:
            return self._running().pid

    def open_layers(self, source: Source | None) -> None:
        """Register the layers of a source in Caffe, compiled unless they are cached. With None it does nothing. Raises
        BackendError where they cannot be compiled here."""
        if source is None:
            return
        path = library(source, self.location)
        with self._lock:
            if path not in self._libraries:
                self._ask(None, "open generated layers", _opening(path))
                self._libraries[path] = None

    def load(
        self,
        prototxt: str | Path,
        *,
        weights: Path | bytes | None = None,
        phase: Phase = "TEST",
        gradients: Iterable[str] | None = None,
        probes: Iterable[str] = (),
        mode: Mode = "cpu",
    ) -> Net:
        """Load a net from a prototxt, given as a Path or as text, and weights if given: a caffemodel (or .h5), or the
        content of a caffemodel.
        A ``probe`` is a blob into which ``Net.run`` can inject a gradient, also when layers read it. ``gradients``
        names the inputs whose gradients to compute, besides those of all parameters. A net's own ``force_backward``
        computes all gradients; then Caffe aborts in layers without a gradient of their input, such as Embed and
        Accuracy. Raises CaffeAborted with Caffe's message if Caffe rejects the net."""
        title = _title(prototxt)
        action = f"load {title} ({phase}, {mode})"
        if mode == "gpu" and not self.gpu.usable:
            raise CaffeRequestError(action, f"no GPU can be used: {self.gpu.reason}")
        for path in (prototxt, weights):
            if isinstance(path, Path) and not path.is_file():
                raise CaffeRequestError(action, f"there is no file {path}")
        request = {
            "request": "load",
            "prototxt": None if isinstance(prototxt, Path) else prototxt,
            "path": os.path.abspath(prototxt) if isinstance(prototxt, Path) else None,
            "phase": phase,
            "mode": mode,
            "probes": tuple(dict.fromkeys(probes)),
            "gradients": None if gradients is None else tuple(dict.fromkeys(gradients)),
        }
        with self._lock, ExitStack() as stack:
            if isinstance(weights, bytes):
                file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".caffemodel"))
                file.write(weights)
                file.flush()
                weights = Path(file.name)
            request["weights"] = None if weights is None else os.path.abspath(weights)
            reply, _ = self._ask(None, action, request)
            return Net(title, functools.partial(self._ask, self._worker), reply)

    def call(
        self,
        path: Path,
        function: str,
        args: Any = None,
        arrays: Mapping[str, Array] | None = None,
        *,
        timeout: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> CallResult:
        """Call ``function(args, arrays)`` of a Python file in the worker, by the worker's Python. ``args`` is JSON
        data; arrays may be of float32, float64, int32, int64, uint8 and bool. The function must return (JSON data,
        {name: array}). Each worker runs the file once, so its globals live as long as the worker. A worker that is
        stopped, as by SIGSTOP, is ended if ``stop`` returns True (CaffeStopped)."""
        request = {"request": "call", "path": os.path.abspath(path), "function": function, "args": args}
        action = f"call {function} of {path.name}"
        reply, groups = self._ask(None, action, request, {"arrays": arrays or {}}, timeout, stop)
        return CallResult(reply["value"], groups.get("arrays", {}))

    def close(self) -> None:
        """End the worker. Requests after that are refused."""
        with self._lock:
            self._closed = True
            self._stop()

    def _ask(
        self,
        owner: process.WorkerProcess | None,
        action: str,
        request: Mapping[str, Any],
        arrays: Groups = MappingProxyType({}),
        timeout: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Send a request and return its reply. Raise CaffeRequestError if the net's worker, ``owner``, has ended."""
        with self._lock:
            if owner is not None and owner is not self._worker:
                if request["request"] == "unload":
                    return {}, {}
                raise CaffeRequestError(action, "the worker that it was loaded in has ended; load it again")
            worker = self._running()
            with self._whole_messages():
                return worker.ask(action, request, arrays, self.timeout if timeout is None else timeout, stop)

    @contextmanager
    def _whole_messages(self) -> Iterator[None]:
        """End the worker if a message may be left in the pipe in part, as after Ctrl-C: not if a request is refused."""
        try:
            yield
        except CaffeRequestError:
            raise
        except BaseException:
            self._stop()
            raise

    def _running(self) -> process.WorkerProcess:
        """Return the worker; start one if there is none."""
        if self._closed:
            raise CaffeError("this Runner is closed")
        if self._worker is None:
            self._worker = worker = self._start(self.location)
            self._end_worker = weakref.finalize(self, worker.end)
            try:
                worker.ask("start", {"request": "hello"}, {}, START_SECONDS)
            except BaseException:
                self._stop()
                raise
            with self._whole_messages():
                for path in self._libraries:
                    worker.ask("open generated layers", _opening(path), {}, START_SECONDS)
            return worker
        return self._worker

    def _start_default(self, location: CaffeLocation) -> process.WorkerProcess:
        # Linux ends the worker with the *thread* that started it: only the main thread lasts as long as the process.
        tied = threading.current_thread() is threading.main_thread()
        command = [str(location.python), "-u", str(WORKER), *([str(os.getpid())] if tied else [])]
        return process.WorkerProcess(command, location.environment())

    def _stop(self) -> None:
        if self._end_worker is not None:
            self._end_worker()
        self._worker = self._end_worker = None


def _opening(path: Path) -> dict[str, str]:
    return {"request": "open", "library": str(path)}


def _title(prototxt: str | Path) -> str:
    if isinstance(prototxt, Path):
        return f"net {prototxt.name}"
    match = re.search(r'^name:\s*"([^"]*)"', prototxt, re.MULTILINE)
    return f"net '{match[1]}'" if match else "a net without a name"
