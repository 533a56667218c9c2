"""What the backend offers of training: files for Caffe's own program, and its solver in one process or in ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lstmc.backend import Compiled, Settings
from lstmc.ops import Array
from lstmc.files.output import Content
from lstmc.data.request import Trained, TrainingData, TrainingRequest
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.targets.load import Summaries
from lstmc_caffe.train.training import CaffeRanks
from lstmc_caffe.train.net import train, training_files
from lstmc_caffe.train.solver import Solver, solver_of


class CaffeTraining:
    """The part of :class:`~lstmc_caffe.CaffeBackend` that trains."""

    training_targets: Collection[str] = Summaries(trained=True)

    def settings(self, given: object, overrides: Sequence[str] = ()) -> Solver:
        """A model's own :class:`Solver`, or one of defaults, with texts ``key=value`` put over it."""
        return solver_of(given, overrides)

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """``NAME.train.prototxt``, ``NAME.solver.prototxt``, a manifest for the weights that they train, and HDF5."""
        assert isinstance(settings, Solver)
        return training_files(compiled, settings, data)

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Caffe's own solver, in a worker process; see ``trainer.py`` for what is saved and how a run goes on."""
        assert isinstance(settings, Solver)
        with Runner(for_gpu=run.gpu) as runner:
            return train(runner, compiled, weights, settings, run)

    def ranks(self, count: int | None, gpu: bool) -> CaffeRanks:
        """Processes with Caffe's own solver in each; gradients are added up by MPI before each update."""
        return CaffeRanks(count, gpu)
