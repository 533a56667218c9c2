"""``lstmc compile``: from a model to files. ``lstmc verify``: a net against its model, or against a target's rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import SOURCE_SUFFIXES
from pathlib import Path
from typing import Annotated, cast

import typer

from lstmc.api import Net, SavedNet, Verification, compile_model, load, training_files, why_not_trained, widest_phase
from lstmc.api.models import ModelSource
from lstmc.backend import Backend, LintReport
from lstmc.cli import options as opts
from lstmc.cli.commands import advanced, option
from lstmc.cli.console import PLAIN, Rows, out, output, print_files, table
from lstmc.cli.streams import NumbersArguments, verify_numbers
from lstmc.errors import BackendError
from lstmc.files.output import Content, write_files
from lstmc.ir import Graph, Ref, node_count
from lstmc.manifest import manifest_path
from lstmc.nets.tune import Tuning
from lstmc.numerics.device import device_names
from lstmc.runs.folder import WEIGHTS
from lstmc.types import shape_text
from lstmc.verification.proof import Proof, prove
from lstmc.verification.report import NOT_FINITE, Report


@dataclass(frozen=True)
class ExportArguments:
    """The solver and the data of a training net."""

    solver: opts.SolverOption = None
    data: Annotated[Path | None, advanced("--data DATA", "Write the training net for these arrays, as HDF5.")] = None
    test_data: Annotated[
        Path | None, advanced("--test-data DATA", "Write test data for the training net, as HDF5.")
    ] = None
    batch: opts.BatchOption = None


@dataclass(frozen=True)
class PassArguments:
    """The device whose precision passes optimise for, a folder for the graphs between passes, and whether to prove."""

    numbers: Annotated[
        str | None,
        option(
            "--numbers NAME|FILE.toml",
            "Optimise the net for a device's low precision, as rknn-int8, without changing its meaning."
            " Its target is the default.",
            autocompletion=opts.completion(device_names),
        ),
    ] = None
    dump_dir: Annotated[
        Path | None, advanced("--dump-dir DIR", "Write the graph after each pass into this folder, as text.")
    ] = None
    prove: opts.ProveOption = False


def compile_command(
    *,
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    variant: opts.VariantArguments,
    folder: Annotated[Path, option("-o --output DIR", "Write the files into this folder.")] = Path(),
    training: ExportArguments,
    example: opts.ExampleOption = None,
    passes: PassArguments,
) -> None:
    """Compile a model, and write its net, its weights and its manifest.

    For a model that returns a loss it also writes a net to train and the solver's settings, for `caffe train`.
    `lstmc verify` tests the compiled net against its model, and --prove proves that they are equal.

    Examples:

    ```console
    lstmc compile model.py -D T=20 -D N=8 -o net
    lstmc compile --cell gru -D T=20 -D N=1 -D D=32 -D H=64 --target flat -o net
    lstmc compile model.py -D T=20 -D N=1 --step -o step
    lstmc compile model.py -D N=1 --step --target opencv --example python
    lstmc compile model.py:tagger -D T=20 -D N=8 --weights w.npz --tune -v
    lstmc compile model.py --step --numbers rknn-int8 -o step
    lstmc compile model.py -D T=2 -D N=1 --prove -o net
    ```
    """
    source = model.source()
    options = opts.compile_options(
        target, model.sizes, weights, variant, numbers=passes.numbers, dump_dir=passes.dump_dir
    )
    net = compile_model(source, options)
    if net.tuning is not None:
        print_tuning(net.tuning)
    print_passes(net)
    files: dict[str, Content] = dict(net.files)
    if why_not_trained(net) is None or any(vars(training).values()):
        files |= training_files(net, seed=weights.seed, **vars(training))
    for language in example or ():
        files |= net.example(language)
    lacking = _add_built(net, files)
    print_files(write_files(folder, files))
    if lacking is not None:
        out.print("\n".join([f"not built: {lacking.message}", *lacking.notes]))
    more = _unused_weights(source, weights, net) if model.file is not None else []
    _print_summary(net, [*more, *net.compiled.delay_notes(), *_pass_notes(net)])
    if passes.prove:
        print_proof(prove(net.compiled.model, net.compiled.expanded))


def _pass_notes(net: Net) -> list[str]:
    """Return notes: on the rewrites for a device's numbers, and on each scan whose steps the model has written out."""
    count = sum(net.numbers_changes.values())
    changed = f"updates of states as h + u (n - h): {count}" if count else "nothing is written otherwise"
    rolled = [
        f"{steps} steps that were written out became scan {name}; to see it as Python:"
        " lstmc show --after roll_up --python"
        for name, steps in net.rolled_up.items()
    ]
    return [*([] if net.options.numbers is None else [f"for {net.options.numbers}: {changed}"]), *rolled]


def _add_built(net: Net, files: dict[str, Content]) -> BackendError | None:
    """Add the files that are built for this machine to ``files``. Return the error if they cannot be built, or None."""
    try:
        files |= net.built({name: content for name, content in files.items() if isinstance(content, bytes)})
    except BackendError as error:
        return error
    return None


def print_passes(net: Net) -> None:
    """Print, with ``-v``, each pass with the number of nodes after it, the uses of its rules, and its time."""
    rows = table("passes", "pass", "nodes", "ms", "rules used", key="passes", texts={"ms": ".1f"})
    for name, snapshot in zip(net.passes, net.compiled.history[1:], strict=True):
        rules = [rule if times == 1 else f"{rule} x {times}" for rule, times in snapshot.counts.items()]
        rows.add_row(name, node_count(snapshot.graph), snapshot.seconds * 1e3, rules)
    if output.verbose:
        out.print(rows)


def print_tuning(tuning: Tuning) -> None:
    """Print the measured time of each form."""
    out.print("forms, as measured before" if tuning.remembered else "forms, measured now")
    rows = [(form, seconds * 1e3) for form, seconds in tuning.seconds.items()]
    out.print(table("", "form", "ms", key="forms", rows=rows, texts={"ms": ".3f"}))


def _unused_weights(source: ModelSource, weights: opts.WeightArguments, net: Net) -> list[str]:
    """Return a note if the net does not use the file of weights beside the model's file, which imports write."""
    path = Path(source.name.rpartition(":")[0]).parent / WEIGHTS
    if weights.weights is not None or not net.weights or not path.is_file():
        return []
    return [f"parameters start from their fills: {path} is not used. To use it: --weights {path}"]


def _print_summary(net: Net, more: Sequence[str]) -> None:
    """Print the numbers of layers and parameters, the blobs to feed and read, the net's notes, and ``more``."""
    notes = [*net.artifact.notes, *more]
    count = sum(array.size for array in net.weights.values())
    output.fact("layers", net.artifact.layers)
    output.fact("parameters", len(net.weights))
    output.fact("weights", count)
    out.print(f"\n{net.artifact.layers} layers, {len(net.weights)} parameters, {count:,} weights\n")
    out.print(_blobs("feed", net.artifact.inputs, net.compiled.expanded))
    out.print(_blobs("read", net.artifact.outputs, net.compiled.expanded))
    output.fact("notes", notes)
    for note in notes:
        out.print(note)


def _blobs(title: str, names: dict[str, str], graph: Graph) -> object:
    """Return a table of values with their blobs and the first blob's shape; ``names`` maps values to blobs."""
    first_blobs = {blob: blob.partition(" ... ")[0] for blob in names.values()}
    refs = {output.name: output.ref for output in graph.outputs}  # in some nets a blob has an output's name
    blobs = set(first_blobs.values())  # a graph may have millions of names
    refs |= {name: Ref(node.name, i) for node in graph for i, name in enumerate(node.names) if name in blobs}
    rows = table(title, "name", "blob", "shape", key=title)
    for name, blob in names.items():
        first = refs.get(first_blobs[blob])
        rows.add_row(name, blob, "" if first is None else shape_text(graph.type(first).shape))
    return rows


def verify_command(
    *,
    context: typer.Context,
    model: opts.ModelArguments,
    weights: opts.ComparisonWeights,
    target: opts.TargetArguments,
    variant: opts.VariantArguments,
    check: opts.CheckArguments,
    numbers: NumbersArguments,
    every: Annotated[bool, option("--all", "Check a net file for every target, and list why some refuse it.")] = False,
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
    if check.net is not None:
        target = target.of_net(check.net)
    backend = target.chosen_backend()
    name = target.target or _target_of(backend, check.on or [])
    phase = "deploy" if check.net is not None else widest_phase(backend, name, variant.step)
    source = model.source()
    options = opts.compile_options(target, model.sizes, weights, variant, backend=backend, target=name, phase=phase)
    net = compile_model(source, options)
    if net.tuning is not None:
        print_tuning(net.tuning)
    verification = net.verify(seed=weights.seed, **vars(check))
    print_verification(verification)
    if not verification.passed:
        if check.net is not None and model.file is not None:
            for note in _unused_weights(source, weights, net):
                out.print(note)
        raise typer.Exit(1)


def _target_of(backend: Backend, runtimes: list[str]) -> str | None:
    """Return the default target of these runtimes, None if they have none. Raises BackendError if they differ."""
    targets = {name: backend.reader(name).target for name in runtimes if name in backend.readers}
    if len(set(targets.values())) > 1:
        each = ", ".join(f"{target} for {name}" for name, target in targets.items())
        raise BackendError(f"these runtimes have targets of their own ({each}): choose one with --target")
    return next(iter(targets.values()), None)


def print_verification(verification: Verification) -> None:
    """Print the comparison in each runtime, and the reasons why other runtimes were not run."""
    output.fact("not_run", dict(verification.not_run))
    for name, reason in verification.not_run.items():
        if name in verification.no_hardware and not output.verbose:
            continue
        out.print(f"{name}: not run: {reason.splitlines()[0]}")
    for report in verification.reports:
        print_report(report)
    output.fact("remarks", list(verification.remarks))
    for remark in verification.remarks:
        out.print(remark)
    if verification.proof is not None:
        print_proof(verification.proof)


def print_proof(proof: Proof, of: str = "", key: str = "proof") -> None:
    """Print the proved and unproved claims, with reasons: on the compiled graph, unless ``of`` names something else."""
    output.fact(key, asdict(proof) | {"proved": proof.proved})
    for line in proof.lines():
        out.print(f"{of}: {line}" if of else line)


def print_report(report: Report, against: str | None = None) -> None:
    """Print a line for a runtime; with ``-v``, or if a difference is too large, a table of all differences first."""
    title, columns = f"on {report.executor}, against {against or report.against}", ("what", "name", "blobs")
    texts = {"largest absolute": ".1e", "relative": ".1e", "allowed": ".0e"}
    rows = table(title, *columns, *texts, "", key=report.executor, texts=texts, styles={"PAST TOLERANCE": "bold red"})
    for row in report.differences:
        verdict = "ok" if row.passed else "PAST TOLERANCE"
        rows.add_row(row.kind, row.name, row.count, row.absolute, row.relative, row.tolerance, verdict)
    absent = [(gap.kind, gap.name, gap.count, gap.reason) for gap in report.not_compared]
    gaps = table("not compared", *columns, "why", key=f"{report.executor}_not_compared", rows=absent)
    if report.files:
        output.fact(f"{report.executor}_files", list(report.files))
    if report.device:
        output.fact(f"{report.executor}_device", report.device)
    not_finite = any(remark.startswith(NOT_FINITE) for remark in report.remarks)  # which says more than the rows
    if output.verbose or not (report.passed or not_finite or report.found):  # remarks tell how files differ
        out.print(rows)
        if report.not_compared:
            out.print(gaps)
    out.print(f"{report.place}: {report.verdict()}")


def _net_file(file: str | None) -> Path | None:
    """Return the path of a net; None for a model, which is a Python file."""
    path = Path(file or "")
    return None if path.suffix.partition(":")[0] in ("", *SOURCE_SUFFIXES) else path


def _check_net(context: typer.Context, file: Path, chosen: opts.TargetArguments, every: bool) -> None:
    """Check a net against a target's rules and print the findings. Exit with 1 if there is one."""
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
    out.print(report_text(file.name, name, report), end="")
    if manifest_path(file).is_file():
        out.print(RULES_ONLY.format(file))
    if report.violations:
        raise typer.Exit(1)


RULES_ONLY = (
    "checked against the target's rules only; weights were not compared: `lstmc verify MODEL --net {}` does, with the"
    " options that the net was compiled with"
)


def _lint_all(net: SavedNet) -> None:
    """Print for each target how many findings a net has, and in which layers. Exit with 1 if no target accepts it."""
    title = f"{net.path.name} against every target"
    rows = table(title, "target", "findings", "what stops it", key="targets")  # for JSON
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
            out.print(f"{row['target']}: {row['findings']}")
            for reason in cast(list[str], row["what_stops_it"]):
                out.print(f"    {reason}")
    else:
        out.print(shown)
        out.print("-v prints the reasons; `lstmc verify FILE --target NAME` every layer", style="dim")
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
