"""Run a net: the choice of the runtime, verification in every runtime, and the results as HTML for notebooks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lstmc.backend import Artifact, Backend, Compiled, Executor, Layer, find_backends
from lstmc.errors import Argument, BackendError
from lstmc.ops import Array, Dropout
from lstmc.text import did_you_mean
from lstmc.types import shape_text
from lstmc.verification.differential import InterpreterExecutor, check_scales, check_training
from lstmc.verification.native import NATIVE, NativeExecutor
from lstmc.verification.proof import Proof, prove
from lstmc.verification.report import Report

ROWS = 60  # of a table; longer ones have their middle left out


def table_html(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table with a title. A long table shows its first and last rows, and the number of rows between."""
    listed = [list(map(escape, row)) for row in rows]
    if len(listed) > ROWS:
        left_out = len(listed) - ROWS
        listed[ROWS // 2 : ROWS // 2 + left_out] = [[f"&hellip; {left_out} more", *[""] * (len(columns) - 1)]]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in listed)
    caption = escape(title).replace("\n", "<br>")
    return f"<div><b>{caption}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def layers_html(title: str, layers: Iterable[Layer]) -> str:
    rows = []
    for layer in layers:
        shapes = ", ".join("?" if shape is None else shape_text(shape) for shape in layer.shapes)
        rows.append((layer.name, layer.type, ", ".join(layer.bottoms), ", ".join(layer.tops), shapes))
    return table_html(title, ("layer", "type", "bottoms", "tops", "shapes"), rows)


def png_html(title: str, png: bytes | None) -> str:
    """Return a title, and a picture, if there is one, as HTML."""
    picture = f'<img alt="loss curve" src="data:image/png;base64,{b64encode(png).decode()}">' if png else ""
    caption = escape(title).replace("\n", "<br>")
    return f"<div><b>{caption}</b><br>{picture}</div>"


@dataclass(frozen=True)
class Verification:
    """The result of :meth:`lstmc.Net.verify`: a report for each runtime, and the reasons why others were not run. It is
    true if everything agrees: ``assert net.verify()``. ``no_hardware`` are the entries of ``not_run`` whose hardware
    this machine lacks. ``proof`` is None unless it was requested."""

    reports: tuple[Report, ...]
    not_run: Mapping[str, str]
    no_hardware: frozenset[str] = frozenset()
    proof: Proof | None = None

    @property
    def passed(self) -> bool:
        """Whether all differences are within their tolerances."""
        return all(report.passed for report in self.reports)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"<lstmc.Verification: {'; '.join(f'{report.executor}: {report.verdict()}' for report in self.reports)}>"

    def __str__(self) -> str:
        """Return the verdict of each runtime, with the reasons for those not run, except for missing hardware."""
        missing = {name: reason for name, reason in self.not_run.items() if name not in self.no_hardware}
        not_run = [f"{name}: not run: {reason.splitlines()[0]}" for name, reason in missing.items()]
        verdicts = [f"{report.place}: {report.verdict()}" for report in self.reports]
        return "\n".join([*not_run, *verdicts, *self.remarks, *(self.proof.lines() if self.proof else ())])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Limits of the comparison, and reasons why a difference may not be an error of the net."""
        return tuple(dict.fromkeys(remark for report in self.reports for remark in report.remarks))

    def _repr_html_(self) -> str:
        rows = [
            (report.place, d.kind, d.name, f"{d.relative:.1e}", f"{d.tolerance:.0e}", "ok" if d.passed else "PAST")
            for report in self.reports
            for d in report.differences
        ]
        gaps = [(report.place, gap) for report in self.reports for gap in report.not_compared]
        rows += [(place, gap.kind, gap.name, "", "", f"not compared: {gap.reason}") for place, gap in gaps]
        return table_html(str(self), ("on", "what", "name", "relative", "allowed", ""), rows)


def verification(
    backend: Backend,
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    on: Sequence[str] | None,
    seed: int,
    inputs: Mapping[str, Array] | None = None,
    proof: bool = False,
) -> Verification:
    """Compare a net with its model in the runtimes ``on``, by default all available ones, for :meth:`lstmc.Net.verify`.
    ``artifact`` was written with ``weights``. With ``proof`` also prove what can be proved of the compiled graph."""
    readers = backend.readers
    executors: list[Executor] = [InterpreterExecutor(), *([NativeExecutor()] if on else ()), *backend.executors()]
    executors += [backend.reader(name) for name in dict.fromkeys(on or ()) if name in readers]
    try:
        chosen, not_run = _chosen(executors, on, readers)
        drops = any(isinstance(node.op, Dropout) for node in compiled.expanded)
        reports = []
        for executor in chosen:
            reports.append(check_scales(compiled, artifact, weights, executor, seed, inputs))
            if drops and executor.trains:
                reports.append(check_training(compiled, artifact, weights, executor, seed, inputs))
    finally:
        for executor in executors:
            executor.close()
    special = {executor.name for executor in executors if executor.hardware}
    hardware = frozenset(special & not_run.keys())
    proved = prove(compiled.model, compiled.expanded) if proof else None
    return Verification(tuple(reports), not_run, hardware, proved)


def _chosen(
    executors: Sequence[Executor], names: Sequence[str] | None, readers: Iterable[str]
) -> tuple[list[Executor], dict[str, str]]:
    """Return the executors with these names, by default all that are available without emulation, and for each other
    one why it is not run. Raises BackendError if a named executor is unknown or unavailable."""
    by_name = {executor.name: executor for executor in executors}
    for name in names or ():
        if name not in by_name:
            places = list(dict.fromkeys((*by_name, *readers)))
            argument, near = Argument("on"), did_you_mean(name, places)
            other = Argument("backend", next((b for b in find_backends() if name.partition("-")[0] == b), ""))
            hint = f": a runtime of another backend, give {other} too" if other.value and not near else near
            raise BackendError(f"{argument} takes one of {', '.join(places)}, found {name!r}{hint}")
    chosen, not_run = [], {}
    for executor in [by_name[name] for name in dict.fromkeys(names)] if names else executors:
        reason = executor.unavailable()
        if reason is None and not names:
            reason = executor.emulation()
        if reason is None:
            chosen.append(executor)
        elif names:
            raise BackendError(f"{executor.name} cannot be used here", notes=reason.splitlines())
        else:
            not_run[executor.name] = reason
    return chosen, not_run


INTERPRETER = InterpreterExecutor.name
IN_PROCESS = (INTERPRETER, NATIVE)
On = str | Sequence[str]  # where a net runs: one place, or several


def place(backend: str, gpu: bool) -> str:
    return f"{backend}-gpu" if gpu else f"{backend}-cpu"


def places(backend: Backend, on: On | None) -> list[str] | None:
    """Return the named places, each once; the backend's own name stands for the CPU. None if none is named."""
    named = [on] if isinstance(on, str) else on or ()
    return [*dict.fromkeys(place(name, False) if name == backend.name else name for name in named)] or None


def one_place(backend: Backend, on: On | None) -> str:
    """Return the place for a single run: this process, or the backend's program on the CPU (the default) or a GPU.
    Raises :class:`BackendError` for several places, and for an unknown place."""
    cpu, gpu = (place(backend.name, of_gpu) for of_gpu in (False, True))
    named = places(backend, on) or [cpu]
    if len(named) > 1 or named[0] not in (*IN_PROCESS, cpu, gpu):
        raise BackendError(f"{Argument('on', repr(on))}: expected one of {', '.join(IN_PROCESS)}, {cpu}, {gpu}")
    return named[0]


def is_gpu(backend: Backend, on: On | None) -> bool:
    """Return whether ``on`` is a GPU. Raises :class:`BackendError` for other places than the backend's CPU or GPU."""
    runtime = one_place(backend, on)
    if runtime in IN_PROCESS:
        cpu, gpu = (place(backend.name, of_gpu) for of_gpu in (False, True))
        raise BackendError(f"{Argument('on', repr(on))}: a written net runs on {cpu} or {gpu}")
    return runtime == place(backend.name, True)
