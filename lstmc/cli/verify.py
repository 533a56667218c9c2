"""``lstmc verify``: a written net against the meaning of its model, and against a target's rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from importlib.machinery import SOURCE_SUFFIXES
from pathlib import Path
from typing import Annotated, cast

import typer

from lstmc.api import SavedNet, Verification, compile_model, load, widest_phase
from lstmc.backend import Backend, HasReaders, LintReport, require
from lstmc.cli.arguments import ModelArguments, TargetArguments, VariantArguments, WeightArguments, compile_options
from lstmc.cli.compile import print_tuning
from lstmc.cli.console import PLAIN, Rows, out, output, table
from lstmc.cli.options import ADVANCED, PlacesOption, ProveOption
from lstmc.cli.streams import NumbersArguments, verify_numbers
from lstmc.errors import BackendError
from lstmc.verification.report import NOT_FINITE, Report

InputsOption = Annotated[
    Path | None,
    typer.Option(
        "--inputs", metavar="FILE", help="Feed these arrays (.npz or HDF5), by the inputs' names; draw the others."
    ),
]
FillersOption = Annotated[
    bool,
    typer.Option(
        "--fillers", help="Take parameters that are drawn by their own initializers.", rich_help_panel=ADVANCED
    ),
]


@dataclass(frozen=True)
class CheckArguments:
    """A comparison: its runtimes, its inputs from a file, parameters by their fillers, and the proof."""

    on: PlacesOption = None
    inputs: InputsOption = None
    fillers: FillersOption = False
    prove: ProveOption = False


def verify_command(
    *,
    context: typer.Context,
    model: ModelArguments,
    weights: WeightArguments,
    target: TargetArguments,
    variant: VariantArguments,
    check: CheckArguments,
    numbers: NumbersArguments,
    every: Annotated[
        bool, typer.Option("--all", help="Check a net file for every target, and list why some refuse it.")
    ] = False,
) -> None:
    """Run a compiled net forward and backward, and compare everything with the float64 interpreter.

    FILE may also be a net, written by lstmc or not: NAME.prototxt or NAME.onnx. Its layers are then checked by the
    rules of --target. Each finding has the layer, the rule, its reason and where that is documented; a warning
    describes a mistake that some version of a reader makes without an error. Exits with 1 if there is a finding, with
    --all if no target accepts the net.

    Parameters are random and not zero, unless --weights or --fillers is given. Exits with 1 if a difference is larger
    than its tolerance. What --prove does not prove is listed with the reason, and changes no exit code.

    With --numbers it streams data through the net of one step in lower precision, and prints the errors against
    float32, which values they come from, which states stall, and what to change; it exits with 1 if a sum of integers
    may overflow.

    Examples:

    ```console
    lstmc verify model.py -D T=5 -D N=2
    lstmc verify model.py -D T=5 -D N=2 --on opencv
    lstmc verify --cell lstm -D T=5 -D N=2 -D D=8 -D H=8 --target flat -v
    lstmc verify model.py -D T=5 -D N=2 --on interpreter --json
    lstmc verify model.py -D T=2 -D N=1 --on interpreter --prove
    lstmc verify model.py --weights w.npz --numbers rknn-int8 --data x.npz
    lstmc verify deploy.prototxt --target flat
    lstmc verify deploy.prototxt --all
    ```
    """
    if (file := _net_file(model.file)) is not None:
        _check_net(context, file, target, every)
        return
    if every:
        raise BackendError("--all checks a net file for every target: expected NAME.prototxt or NAME.onnx")
    if any(value is not None for value in vars(numbers).values()):
        verify_numbers(numbers, model, weights, target, variant)
        return
    backend = target.chosen_backend()
    name = target.target or _target_of(backend, check.on or [])
    phase = widest_phase(backend, name, variant.step)
    source = model.source()
    options = compile_options(target, model.sizes, weights, variant, backend=backend, target=name, phase=phase)
    net = compile_model(source, options)
    if net.tuning is not None:
        print_tuning(net.tuning)
    verification = net.verify(seed=weights.seed, **vars(check))
    print_verification(verification)
    if not verification.passed:
        raise typer.Exit(1)


def _target_of(backend: Backend, runtimes: list[str]) -> str | None:
    """Return the target that nets for these runtimes are compiled for; None if they have none of their own."""
    readers = backend.readers if isinstance(backend, HasReaders) else ()
    targets = {name: require(backend, HasReaders).reader(name).target for name in runtimes if name in readers}
    if len(set(targets.values())) > 1:
        each = ", ".join(f"{target} for {name}" for name, target in targets.items())
        raise BackendError(f"these runtimes have targets of their own ({each}): choose one with --target")
    return next(iter(targets.values()), None)


def print_verification(verification: Verification) -> None:
    """Print the comparison in each runtime, and the reasons why others were not run."""
    output.fact("not_run", dict(verification.not_run))
    for name, reason in verification.not_run.items():
        if name in verification.no_hardware and not output.verbose:
            continue
        out.print(f"{name}: not run: {reason.splitlines()[0]}", markup=False, soft_wrap=True)
    for report in verification.reports:
        print_report(report)
    output.fact("remarks", list(verification.remarks))
    for remark in verification.remarks:
        out.print(remark, markup=False, soft_wrap=True)
    if verification.proof is not None:
        output.fact("proof", asdict(verification.proof) | {"proved": verification.proof.proved})
        for line in verification.proof.lines():
            out.print(line, markup=False, soft_wrap=True)


def print_report(report: Report, against: str = "the float64 interpreter") -> None:
    """Print one line for a runtime that agrees; every difference with ``-v``, or if one is too large."""
    rows = table(
        f"on {report.place}, against {against}",
        *("what", "name", "blobs", "largest absolute", "relative", "allowed", ""),
        key=report.executor,
        texts={"largest absolute": ".1e", "relative": ".1e", "allowed": ".0e"},
        styles={"PAST TOLERANCE": "bold red"},
    )
    for row in report.differences:
        rows.add_row(
            *(row.kind, row.name, row.count, row.absolute, row.relative, row.tolerance),
            "ok" if row.passed else "PAST TOLERANCE",
        )
    gaps = table("not compared", "what", "name", "blobs", "why", key=f"{report.executor}_not_compared")
    for gap in report.not_compared:
        gaps.add_row(gap.kind, gap.name, gap.count, gap.reason)
    if report.device:
        output.fact(f"{report.executor}_device", report.device)
    not_finite = any(remark.startswith(NOT_FINITE) for remark in report.remarks)  # which all rows then are
    if output.verbose or not (report.passed or not_finite):
        out.print(rows)
        if report.not_compared:
            out.print(gaps)
    out.print(f"{report.place}: {report.verdict()}", markup=False, soft_wrap=True)


def _net_file(file: str | None) -> Path | None:
    """Return the path of a net; None for a model, whose file is Python's."""
    path = Path(file or "")
    return None if path.suffix.partition(":")[0] in ("", *SOURCE_SUFFIXES) else path


def _check_net(context: typer.Context, file: Path, chosen: TargetArguments, every: bool) -> None:
    """Check a net against a target's rules and print the findings. Exits with 1 if there are any."""
    allowed = ("file", "target", "backend", "every", "quiet", "verbose", "json")
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise BackendError(
                f"{file} is a net, which is checked by a target's rules: expected --target, --all and --backend with"
                f" it, found {parameter.opts[0]}; to run it on arrays: `lstmc run {file} --inputs FILE`"
            )
    target = chosen.target
    net = load(file, backend=chosen.backend)
    if every:
        if target is not None:
            raise BackendError("--all is for every target: found --target too")
        _lint_all(net)
        return
    name, report = net.lint(target)
    output.fact("target", name)
    output.fact("layers", report.layers)
    output.fact("findings", [asdict(violation) for violation in report.violations])
    output.fact("not_checked", list(report.unknown))
    output.fact("warnings", [asdict(warning) for warning in report.warnings])
    out.print(report_text(file.name, name, report), markup=False, soft_wrap=True, end="")
    if report.violations:
        raise typer.Exit(1)


def _lint_all(net: SavedNet) -> None:
    """Print a line for each target: its findings and the types of their layers; the reasons with ``-v``."""
    title = f"{net.path.name} against every target"
    rows = table(title, "target", "findings", "what stops it", key="targets")  # as JSON
    shown = Rows("", title, ("target", "findings", "in layers of type"), PLAIN, PLAIN)
    accepted = False
    for name in net.backend.targets:
        _, report = net.lint(name)
        reasons = Counter(f"{violation.type}: {violation.reason}" for violation in report.violations)
        accepted = accepted or not reasons
        unknown = [f"not checked, as shapes could not be found: {len(report.unknown)} layers"] if report.unknown else []
        listed = [reason for reason, _ in reasons.most_common()]
        rows.add_row(name, len(report.violations), [*listed, *unknown, *map(str, report.warnings)])
        more = ["shapes unknown"] if unknown else []
        more += ["a warning"] if report.warnings else []
        shown.add_row(name, len(report.violations), [*sorted({v.type for v in report.violations}), *more])
    if output.verbose:
        for row in rows.objects():
            out.print(f"{row['target']}: {row['findings']}", markup=False)
            for reason in cast(list[str], row["what_stops_it"]):
                out.print(f"    {reason}", markup=False, soft_wrap=True)
    else:
        out.print(shown)
        out.print("-v prints the reasons; `lstmc verify FILE --target NAME` every layer", style="dim", markup=False)
    if not accepted:
        raise typer.Exit(1)


def report_text(file: str, target: str, report: LintReport) -> str:
    """Return a report as text: findings grouped by their reason."""
    lines = []
    for reason in dict.fromkeys((v.reason, v.source) for v in report.violations):
        lines += [reason[0], f"    documented in: {reason[1]}"]
        lines += [
            f"    {v.layer} ({v.type}): found {v.found}; expected {v.expected}"
            for v in report.violations
            if (v.reason, v.source) == reason
        ]
    if report.unknown:
        lines.append("not checked, as shapes could not be found:")
        lines += [f"    {unknown}" for unknown in report.unknown]
    for warning in report.warnings:
        more = f", and {len(warning.layers) - 1} more" if len(warning.layers) > 1 else ""
        lines += [str(warning), f"    documented in: {warning.source}", f"    {warning.layers[0]}{more}"]
    counts = [(len(report.violations), "finding"), (len(report.warnings), "warning")]
    summary = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count) or "clean"
    lines.append(f"{file}: {report.layers} layer{'s' if report.layers != 1 else ''}, target {target}: {summary}")
    return "\n".join(lines) + "\n"
