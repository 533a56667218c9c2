"""``lstmc show``: a model's graph after any pass, as text or diagram. ``lstmc report``: a page on a net, or curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from lstmc.api import compile_model, costs_by_op, explanation, model_graph, pass_names, scan_lines, widest_phase
from lstmc.backend import target_of
from lstmc.cli import options as opts
from lstmc.cli.commands import advanced, argument, option
from lstmc.cli.console import out, table
from lstmc.drawing.drawing import Drawing
from lstmc.drawing.picture import STEPS
from lstmc.dsl.printer import print_python
from lstmc.errors import DataError, DrawingError
from lstmc.files.output import write_files
from lstmc.ir import Stage, print_graph
from lstmc.ops import Price, Work
from lstmc.report import net_page, recipes_beside, run_facts, trained_model
from lstmc.runs.metrics import plot_runs
from lstmc.text import escaped


@dataclass(frozen=True)
class DrawingArguments:
    """The file of a diagram, and the steps that it shows."""

    to: Annotated[
        Path | None,
        option("-o --output FILE", "Draw the graph into this file, which ends in .svg, .png, .pdf or .dot."),
    ] = None
    rolled: Annotated[
        bool | None,
        option(
            "--rolled/--unrolled",
            "Show the step of a scan once, as it was written, or every step after all passes. Default: rolled.",
        ),
    ] = None
    steps: Annotated[
        int, option("--frames", "Draw this number of steps of a long scan: its first and its last.", min=1)
    ] = STEPS


@dataclass(frozen=True)
class ShownArguments:
    """The graph to show, its parts, the part of a model that is compiled for it, and the form of the net."""

    after: Annotated[
        str | None,
        option(
            "--after PASS",
            "Stop after this pass: its name, cse:2 for its second run, or its number.",
            autocompletion=opts.complete_passes,
        ),
    ] = None
    stage: Annotated[Stage | None, option("--stage", "Show the graph at the end of this stage.")] = None
    passes: Annotated[bool, option("--passes", "List the passes instead, by the names that --after takes.")] = False
    python: Annotated[
        bool, option("--python", "Print a Python file with the graph's cells and model, of these sizes.")
    ] = False
    costs: Annotated[bool, option("--costs", "Print what a pass of the net computes and moves, by operation.")] = False
    step: opts.StepOption = False
    form: opts.FormOption = None
    time: opts.TimeOption = None
    phase: Annotated[
        Literal["deploy", "train", "all"] | None,
        advanced(
            "--phase",
            "Take the model without its losses (deploy), what they need (train), or all. Default: all as written,"
            " deploy after a pass.",
        ),
    ] = None


def show_command(
    *, model: opts.ModelArguments, target: opts.TargetArguments, drawing: DrawingArguments, shown: ShownArguments
) -> None:
    """Print a model's graph as text, or draw it: as it was written, after a pass, or at the end of a stage.

    Later passes are not run. Below the text stands for each state of a scan whether its recurrence is linear, which
    --time can compute for all steps at once, or why it is not. For --target caffe-fused the plan of the generated code
    follows too: the products for all steps, the operations of each step, and the buffers.

    A diagram shows parameters once, with an arrow to each step that shares them. It needs
    `pip install 'lstmc[draw]'`.

    Examples:

    ```console
    lstmc show model.py -D T=3 -D N=2
    lstmc show model.py -D T=3 -D N=2 --after hoist
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --stage legal
    lstmc show model.py -D T=3 -D N=2 -o cell.svg
    lstmc show --cell gru -D T=50 -D N=1 -D D=4 -D H=4 --unrolled -o gru.pdf
    lstmc show --passes --target flat
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --python
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --costs --target opencv
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --target caffe-fused
    ```
    """
    if drawing.rolled and shown.after is not None:
        raise DrawingError("expected --rolled or --after PASS, found both")
    lists = [name for name in ("passes", "python", "costs") if getattr(shown, name)]
    if drawing.to is not None and lists:
        raise DrawingError(f"-o writes a diagram: found --{lists[0]} too")
    if shown.passes:
        for number, name in enumerate(pass_names(target.target, target.chosen_backend(), shown.form), 1):
            out.print(f"{number:3} {name}")
    else:
        _show_graph(model, target, drawing, shown)


def _show_graph(
    model: opts.ModelArguments, target: opts.TargetArguments, drawing: DrawingArguments, shown: ShownArguments
) -> None:
    """Draw the graph after a pass or stage, or print it: as text, as Python, or as its costs by operation."""
    backend, after, stage = target.chosen_backend(), shown.after, shown.stage
    if (drawing.rolled is False or shown.costs) and after is None and stage is None:
        # the last pass, not a stage: a target's layers may compute all steps, and then no stage is `expanded`
        after = pass_names(target.target, backend, shown.form)[-1]
    as_written, phase = after is None and stage is None, shown.phase
    own = {"step": shown.step, "form": shown.form, "time": shown.time}
    options = opts.compile_options(target, model.sizes, backend=backend, phase=phase or "deploy", **own)
    first = replace(options, phase="all") if as_written and phase is None else options
    source = model.source()
    result = model_graph(source, first, after, stage)
    if drawing.to is not None:
        drawn = Drawing.from_graph(result, drawing.steps)
        boxes, arrows = len(drawn.picture.boxes), len(drawn.picture.arrows)
        out.print(f"{drawn.save(drawing.to)}: {boxes} boxes, {arrows} arrows")
        return
    if shown.costs:
        _print_costs(costs_by_op(result), backend.price(target_of(backend, target.target)))
        return
    if shown.python:
        typer.echo(print_python(result), nl=False)
        return
    typer.echo(escaped(print_graph(result)), nl=False)
    states = scan_lines(result)
    if as_written and target.target is not None:
        result = model_graph(source, options, pass_names(target.target, backend, shown.form)[-1])
    lines = explanation(result, backend).splitlines()
    lines += [f"state {state} of %{scan}: {text}" for scan, state, text in states]
    typer.echo("".join(f"# {line}".rstrip() + "\n" for line in lines), nl=False)


def _print_costs(costs: Mapping[str, Work], price: Price | None) -> None:
    """Print the work of each op, the largest first, the sum, and the time if the target's ``price`` is known."""
    columns = ["operation", "launches", "multiply-adds", "other operations", "bytes"]
    rows = table("", *columns, *(["microseconds"] if price else []), key="costs", texts={"microseconds": ".3g"})

    def row(name: str, work: Work) -> None:
        seconds = [1e6 * price.seconds(work)] if price else []
        rows.add_row(name, work.launches, work.multiply_adds, work.operations, work.bytes, *seconds)

    for name, work in sorted(costs.items(), key=lambda item: (-item[1].flops, -item[1].bytes, item[0])):
        row(name, work)
    row("in all", sum(costs.values(), Work()))
    out.print(rows)


PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class ReportArguments:
    """The model or the runs of a report, and its file."""

    files: Annotated[
        list[str] | None,
        argument("[FILE[:MODEL]|RUN...]", "A Python file with a @model, or folders that `lstmc train` wrote."),
    ] = None
    cell: opts.CellOption = None
    sizes: opts.SizesOption = None
    to: Annotated[
        Path | None, option("-o --output FILE", "Write this file. Default: report.html, for several runs curves.png.")
    ] = None
    run: Annotated[
        Path | None, option("--run RUN", "Show the weights and curves of this folder too, which `lstmc train` wrote.")
    ] = None
    data: Annotated[
        Path | None,
        option("--data FILE", "Show the ranges of all values over these arrays, as `lstmc numbers ranges`."),
    ] = None


def report_command(
    *,
    subject: ReportArguments,
    weights: opts.ComparisonWeights,
    target: opts.TargetArguments,
    step: opts.StepOption = False,
    form: opts.FormOption = None,
    on: opts.PlacesOption = None,
    prove: opts.ProveOption = False,
) -> None:
    """Write a page about a net: diagrams, source, passes, layers, text and the result of verify, with links.

    For several runs, or a file that ends in .png, .svg or .pdf, it draws their losses and test scores as a diagram.

    For the folder of a run, the model is read from the file that was trained, which is executed. The page needs no
    network. Needs `pip install 'lstmc[draw]'`. Exits with 1 if verify finds a difference.

    Examples:

    ```console
    lstmc report model.py -D T=5 -D N=2 -o net.html
    lstmc report run -o run.html
    lstmc report model.py -D T=5 -D N=2 --data x.npz
    lstmc report run1 run2 -o curves.png
    lstmc report --cell gru -D T=20 -D N=1 -D D=8 -D H=8 --target flat
    ```
    """
    files, to = subject.files or [], subject.to
    runs = [Path(name) for name in files if os.path.isdir(name)]
    if len(files) > 1 or (runs and to is not None and to.suffix in PICTURES):
        path = plot_runs([Path(name) for name in files], to or Path("curves.png"))
        out.print(f"wrote {path}")
        return
    to, file, run = to or Path("report.html"), files[0] if files else None, subject.run
    if file is not None and runs:
        if run is not None:
            raise DataError(f"expected the folder of one run, found {file} and {run}")
        run, file = Path(file), None
    facts = run_facts(run) if run is not None else None
    source = opts.named_model(file, subject.cell) if facts is None or file or subject.cell else trained_model(facts)
    backend, name = target.chosen_backend(), target.target
    options = opts.compile_options(target, subject.sizes, weights, backend=backend, step=step, form=form)
    if facts is not None:
        if facts.backend == backend.name:
            name = name or facts.target
        sizes = {**facts.sizes, **options.sizes}
        options = replace(options, target=name, weights=options.weights or facts.weights, sizes=sizes)
    net = compile_model(source, replace(options, phase=widest_phase(backend, name, step)))
    verification = net.verify(on, weights.seed, prove=prove)
    ranges = None if subject.data is None else net.ranges(subject.data)
    page = net_page(net, verification, facts, recipes_beside(source), ranges)
    write_files(to.parent, {to.name: page.encode()})
    out.print(f"wrote {to}")
    if not verification.passed:
        raise typer.Exit(1)
