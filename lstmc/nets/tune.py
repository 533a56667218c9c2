"""Choose the fastest form of a net by measuring all forms, once for each model, shape and machine."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs

from lstmc.backend import Artifact, Backend, Compiled, offers
from lstmc.errors import BackendError, PassError
from lstmc.files.json_file import NotExpected, Number, read_json
from lstmc.files.output import private_folder, write_files
from lstmc.ir import Graph, print_graph
from lstmc.ops import Array
from lstmc.passes import TIMES, ParallelTime, Time, with_time
from lstmc.pipeline import compile_graph
from lstmc.process.status import report_activity

TUNED = "tuned.json"
RULE = "rule"  # the form without tuning: the target's documented rule
# forms of nets with linear recurrences; unrolled is among them if the rule takes another form
IN_TIME: dict[str, Time] = {time: time for time in TIMES if time != "auto"}


@dataclass(frozen=True)
class Tuning:
    """Measured or remembered times: seconds of a forward and backward pass by form, the fastest first."""

    form: str
    seconds: dict[str, float]
    remembered: bool

    @property
    def time(self) -> Time | None:
        return IN_TIME.get(self.form)


def tune(
    graph: Graph,
    backend: Backend,
    target: str,
    weights: Mapping[str, Array],
    step: bool = False,
    folder: Path | None = None,
    in_time: bool = True,
) -> Tuning:
    """Return the fastest form of a model for a target, of those that can express it, as this machine's Caffe or other
    runtime runs them. With ``in_time`` forms with linear recurrences of all steps at once are measured too. The result
    is remembered in ``folder`` (the user's cache) by the model's graph with its sizes, the target, and the build that
    measured it. Raises :class:`~lstmc.errors.BackendError` if nothing can be measured."""
    if not offers(backend, "seconds"):
        backend.seconds({})  # raises, before any form is compiled
    folder = folder or platformdirs.user_cache_path("lstmc")
    remembered = _read(folder / TUNED)
    text = re.sub(r"  # .*", "", print_graph(graph))  # the text has no places in source files
    made_of = [backend.name, backend.build(), target, str(step), str(in_time), text]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    forms = (RULE, *backend.forms(target), *(IN_TIME if in_time else ()))
    if set(forms) >= set(remembered.get(key, ())) > set():
        seconds = remembered[key]
        return Tuning(next(iter(seconds)), seconds, True)
    artifacts: dict[str, Artifact] = {}
    in_parallel: list[Mapping[str, int]] = []  # for each form: the groups of states computed in each way
    for form in forms:
        try:
            compiled = _compiled(graph, backend, target, step, form)
            counts = next((s.counts for s in compiled.history if s.pass_name == ParallelTime.name), {})
            if form in IN_TIME and counts in in_parallel:
                continue
            in_parallel.append(counts)
            artifacts[form] = backend.emit(compiled, weights)
        except (BackendError, PassError):  # the form does not take this model; if the rule does not, no form does
            if form == RULE:
                raise
    report_activity(f"measuring {len(artifacts)} forms")
    measured = backend.seconds(artifacts)
    seconds = dict(sorted(measured.items(), key=lambda item: item[1]))
    with suppress(OSError):  # write_files reports the problem
        private_folder(folder)
    write_files(folder, {TUNED: json.dumps({**_read(folder / TUNED), key: seconds}, indent=1).encode()})
    return Tuning(next(iter(seconds)), seconds, False)


def _compiled(graph: Graph, backend: Backend, target: str, step: bool, form: str) -> Compiled:
    """Compile a graph in a form: of IN_TIME, with all steps at once; RULE, as the target chooses; or of the backend."""
    if form in IN_TIME:
        edit = partial(with_time, time=IN_TIME[form], trained=target in backend.training_targets)
        return compile_graph(graph, backend, target, step=step, passes=edit)
    return compile_graph(graph, backend, target, step=step, form=None if form == RULE else form)


def processor() -> str:
    """Return the name of this machine's processor, or of its architecture if the processor is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        return read_json(path, dict[str, dict[str, Number]])
    except (OSError, NotExpected):
        return {}  # nothing measured yet, or an untrustworthy file: measure again
