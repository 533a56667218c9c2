"""Several processes that train a net together, each with a Caffe of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.backend import Compiled, RankPart, Settings
from lstmc.errors import Argument, TrainingError
from lstmc.mpi_launcher import launched
from lstmc.ops import Array
from lstmc.data.request import Trained, TrainingRequest
from lstmc_caffe.place.place import CaffeLocation
from lstmc_caffe.place.process import WorkerProcess
from lstmc_caffe.place.ranks import LaunchedRank, RanksProcess
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.train.net import train
from lstmc_caffe.train.solver import Solver


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
