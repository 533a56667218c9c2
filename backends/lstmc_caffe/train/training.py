"""Training by the Caffe backend: files for ``caffe train``, and its solver in one process or in several ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lstmc.backend import Compiled, RankPart, Settings
from lstmc.data.request import Trained, TrainingData, TrainingRequest
from lstmc.errors import Argument, TrainingError
from lstmc.files.output import Content
from lstmc.ops import Array
from lstmc.process.status import launched
from lstmc_caffe.processes.location import CaffeLocation
from lstmc_caffe.processes.ranks import LaunchedRank, RanksProcess
from lstmc_caffe.processes.worker import WorkerProcess
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.load import Summaries
from lstmc_caffe.train.net import train, training_files
from lstmc_caffe.train.solver import Solver, solver_of


class CaffeRanks:
    """See :class:`~lstmc.backend.Ranks`. Processes are started when they are needed; those of a launcher at once."""

    def __init__(self, count: int | None, gpu: bool) -> None:
        there = launched()
        if count is not None and there > 1:
            argument = Argument("ranks", str(count))
            raise TrainingError(
                f"{argument} starts processes, but this one was started by an MPI launcher as one of {there}, which are"
                " the ranks: leave it out",
                arguments=(argument,),
            )
        self._runner = Runner(for_gpu=gpu, start=self._start)
        self._own: LaunchedRank | None = None
        if count is None and there > 1:
            self._own = LaunchedRank(self._runner.location)
            if self._own.rank:
                self._own.work()
        self.count = self._own.size if self._own else count or 1

    def _start(self, location: CaffeLocation) -> WorkerProcess:
        return self._own or RanksProcess(location, self.count)

    def train(
        self,
        compiled: Compiled,
        parts: Sequence[RankPart],
        weights: Mapping[str, Array],
        settings: Settings,
        run: TrainingRequest,
    ) -> Trained:
        assert isinstance(settings, Solver)
        return train(self._runner, compiled, weights, settings, run, parts)

    def close(self) -> None:
        self._runner.close()
        if self._own:
            self._own.end()


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
