"""The files that `caffe train` takes: the training net, the solver's settings, and data in the form Caffe reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstmc.backend import Trains
from lstmc.data import Dataset, batch_axes, write_batches_hdf5
from lstmc.data.run_data import read_data
from lstmc.errors import Argument, DataError
from lstmc.ir import Graph
from lstmc.model_file import ModelSource
from lstmc.pipeline import compile_graph
from lstmc.prepare import training_graph
from lstmc.training import Source


@dataclass(frozen=True)
class TrainingOptions:
    """What was said of the training net: settings as ``key=value``, data for its two phases, the batch dimension."""

    solver: Sequence[str] = ()
    data: Path | None = None
    test_data: Path | None = None
    batch: str | None = None

    @property
    def given(self) -> bool:
        return bool(self.solver or self.data or self.test_data or self.batch)


def training_files(
    source: ModelSource, graph: Graph, backend: Trains, target: str, options: TrainingOptions, seed: int, to: Path
) -> dict[str, bytes]:
    """The contents of the text files by name. HDF5 files, which may be large, are written to folder ``to`` at once."""
    settings = backend.settings(source.model.solver, options.solver)
    trained = training_graph(graph)
    sources: dict[str, Source] = {}
    lists: dict[str, bytes] = {}
    if options.data is not None:
        axes = batch_axes(source.model, options.batch)
        given = read_data(trained, axes, options.data, options.test_data, None, seed, shuffle=True)
        trained = given.graph
        datasets: dict[str, Dataset] = {"TRAIN": given.train, "TEST": given.test or given.train}
        for phase, dataset in datasets.items():
            if phase == "TEST" and given.test is None:
                sources[phase] = sources["TRAIN"]
                continue
            name = f"{graph.name}.{phase.lower()}"
            batches = dataset.for_scoring() if phase == "TEST" else dataset.for_training(seed, given.shuffle)
            write_batches_hdf5(batches, to / f"{name}.h5")
            sources[phase], lists[f"{name}.txt"] = Source(f"{name}.txt", batches.per_epoch), f"{name}.h5\n".encode()
    elif options.test_data is not None:
        test, train = Argument("test_data"), Argument("data")
        raise DataError(
            f"{test} is for phase TEST of a net that has {train} for phase TRAIN: expected both",
            arguments=(test, train),
        )
    compiled = compile_graph(trained, backend, target, source.name)  # type: ignore[arg-type]
    return {**backend.emit_training(compiled, settings, sources).files, **lists}
