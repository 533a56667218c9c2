"""``lstmc sweep``: a training run for each point of a space, several at a time, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from lstmc.api.models import model_in
from lstmc.cli.commands import interruptible, option
from lstmc.cli.console import Plain, Rows, Styles, out, output, table
from lstmc.cli.options import (
    DeviceArguments,
    ExampleArguments,
    LossModelArgument,
    OverwriteOption,
    SettingsArguments,
    TensorboardOption,
    TestSplitOption,
    TrainingDataOption,
    WorkerArguments,
    parse_options,
    say_which_cells,
    training_options,
    whole_from_0,
)
from lstmc.errors import SweepError
from lstmc.files.output import PREVIOUS
from lstmc.sweeps import COSTS, Goal, OverSeeds, Range, Row, Search, Space, SweepRun, over_seeds, sweep_model

STYLES: Styles = {"finished": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "dropped": "dim"}
SHOWN = 20  # rows of the table that moves


@dataclass(frozen=True)
class SearchArguments:
    """The search space, and how its trials are chosen and compared."""

    grid: Annotated[
        list[str] | None,
        option(
            "--grid NAME=VALUE,VALUE", "Vary a dimension, an option of the model, solver.SETTING or seed. Repeatable."
        ),
    ] = None
    space: Annotated[
        Path | None,
        option("--space FILE.toml", "Read the search space from this file: lists and ranges, by the same names."),
    ] = None
    random: Annotated[
        int | None, option("--random INT", "Draw this number of trials. Default: all.", parser=whole_from_0)
    ] = None
    halving: Annotated[
        int | None,
        option(
            "--halving INT",
            "Compare trials early, and continue with one of this number (successive halving).",
            parser=whole_from_0,
        ),
    ] = None
    lowest: Annotated[str | None, option("--lowest METRIC", "Look for the lowest of this metric. Default: loss.")] = (
        None
    )
    highest: Annotated[str | None, option("--highest METRIC", "Look for the highest of this metric.")] = None


@dataclass(frozen=True, kw_only=True)
class TrialArguments:
    """The training of each trial."""

    settings: SettingsArguments
    examples: ExampleArguments
    tensorboard: TensorboardOption = False
    overwrite: OverwriteOption = False
    device: DeviceArguments


def sweep_command(
    *,
    file: LossModelArgument,
    data: TrainingDataOption,
    folder: Annotated[Path, option("-o --output SWEEP", "Write the sweep into this folder.")],
    search: SearchArguments,
    test_data: Annotated[Path | None, option("--test-data DATA", "Test the models on these arrays.")] = None,
    test_split: TestSplitOption = None,
    workers: WorkerArguments,
    trial: TrialArguments,
) -> None:
    """Train a model at every point of a search space, and find the best.

    Each trial is a run of `lstmc train` in SWEEP/points. After any interruption the same command continues the
    unfinished trials. Exits with 1 if a trial failed.

    Examples:

    ```console
    lstmc sweep model.py --data d.npz --test-split 0.2 --grid H=64,128 -o sweep
    lstmc sweep model.py --data d.npz --grid cell=mine,gru --grid seed=1,2 -o s
    lstmc sweep model.py --data d.npz --space space.toml --random 50 -o sweep
    ```
    """
    lowest, highest = search.lowest, search.highest
    if lowest is not None and highest is not None:
        raise SweepError(f"--lowest {lowest} and --highest {highest} both define the best point: expected one of them")
    space = Space({}) if search.space is None else Space.read(search.space)
    space = space.over(Space.parse(search.grid or []))
    model_options = parse_options(trial.settings.options or [])
    listed_values = (
        {name: value} for name, each in space.values.items() if not isinstance(each, Range) for value in each
    )
    say_which_cells(model_in(file), [model_options, *listed_values])
    with interruptible() as interruption, sweep_display(out) as watch:
        options = training_options(
            trial.settings, trial.examples, trial.device, test_data=test_data, test_split=test_split
        )
        goal = Goal(lowest or highest or "loss", highest is not None)
        run = SweepRun(
            out=folder,
            scheduler=workers.scheduler,
            workers=workers.workers,
            tensorboard=trial.tensorboard,
            overwrite=trial.overwrite,
            watch=watch,
            stop=interruption.requested,
        )
        result = sweep_model(
            file, data, Search(space, search.random, search.halving, goal), options, run, model_options
        )
    out.print(points_table(result.rows, final=True))
    if groups := over_seeds(result.rows):
        out.print(seeds_table(groups))
    if trial.overwrite and (folder / PREVIOUS).is_dir():
        out.print(f"earlier sweeps are in {folder / PREVIOUS}")
    for path in result.files:
        out.print(f"wrote {path}")
    if result.best is not None:
        output.fact("best", str(result.best))
        out.print(f"the best: {result.best}")
    if result.stopped:
        out.print("stopped: run the same command again to continue")
        raise typer.Exit(interruption.exit_code)
    if any(row.state in ("failed", "interrupted") for row in result.rows):
        raise typer.Exit(1)


def points_table(rows: Sequence[Row], final: bool = False) -> Rows:
    """Return the rows as a table; ``final``: the command prints it at the end."""
    varied = list(dict.fromkeys(name for row in rows for name in row.point))
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    columns = (*varied, "state", "iteration", *scores, *COSTS, "reason")
    rows_table = table("", *columns, key="points", styles=STYLES) if final else Rows("points", "", columns, {}, STYLES)
    for row in rows:
        values = [row.point.get(name, "") for name in varied]
        figures = [f"{row.scores[name]:.4g}" if name in row.scores else "" for name in scores]
        costs = [f"{row.costs[name]:,.4g}" if name == "seconds" else f"{row.costs[name]:,.0f}" for name in row.costs]
        rows_table.add_row(*values, row.state, row.iteration, *figures, *(costs or [""] * len(COSTS)), row.reason)
    return rows_table


def seeds_table(groups: Sequence[OverSeeds]) -> Rows:
    """Return the means and standard deviations over seeds as a table."""
    varied, scores = list(groups[0].point), list(dict.fromkeys(name for group in groups for name in group.scores))
    rows_table = table("means and standard deviations over seeds", *varied, "runs", *scores, *COSTS, key="over_seeds")
    for group in groups:
        figures = ["{:.4g} ± {:.2g}".format(*group.scores[name]) if name in group.scores else "" for name in scores]
        costs = [f"{group.costs[name]:,.4g}" if name == "seconds" else f"{group.costs[name]:,.0f}" for name in COSTS]
        rows_table.add_row(*group.point.values(), group.runs, *figures, *costs)
    return rows_table


@contextmanager
def sweep_display(console: Plain) -> Iterator[Callable[[Sequence[Row]], object]]:
    """Show a sweep while it runs: a moving table on a terminal, elsewhere a line for each point that ends."""
    if not console.is_terminal or console.quiet:
        yield _Lines(console)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield lambda rows: live.update(points_table(rows[:SHOWN]).__rich__(), refresh=True)


class _Lines:
    """A line for each point that has ended, printed once."""

    def __init__(self, console: Plain) -> None:
        self._console, self._states = console, dict[str, tuple[str, int]]()

    def __call__(self, rows: Sequence[Row]) -> None:
        for row in rows:
            progress = (row.state, row.iteration)
            if row.state in ("finished", "failed", "interrupted") and self._states.get(row.name) != progress:
                self._states[row.name] = progress
                scores = "".join(f", {name} {score:.4g}" for name, score in row.scores.items())
                why = f": {row.reason}" if row.reason else ""
                text = f"{row.name}: {row.state} after {row.iteration} iterations{scores}{why}"
                self._console.print(text)
