"""Training in PyTorch: the updates of Caffe's solvers as an optimiser, and the engine of a run, with its snapshots."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lstmc.backend import Compiled
from lstmc.backend.compiled import Trained, TrainingRequest
from lstmc.errors import LstmcError, TrainingError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.files.json_file import Count, Number
from lstmc.ir import Ref, graph_work
from lstmc.ops import Array, Input
from lstmc.prepare import LOSS, needed_by_training, trained_loss
from lstmc.runs.folder import RunIdentity, newest, read_about, write_snapshot
from lstmc.runs.solver import Solver
from lstmc.runs.updates import SavedState, Update, not_finite_in, train_by
from lstmc_torch.modules import Module, spec_of

# The fewest FLOPs of a forward pass for several threads. With two on two busy cores an update of a GRU took 29 times
# as long as with one at 4e7, 3.6 times at 1.5e9, 1.5 at 1.2e10: only products outside of native loops gain by threads.
ENOUGH = 2e10
WEIGHTS, HISTORY, CARRIED = "weights.npz", "solver.npz", "carried.npz"


class SolverOptimizer(torch.optim.Optimizer):
    """Updates parameters as a solver of Caffe does (``src/caffe/solvers/*.cpp``), by the solver's settings. PyTorch's
    optimisers differ: their momentum is of gradients, not of updates, which matters when the rate changes; they have no
    L1, and Adam's ``eps`` is in another place. ``groups`` come from :meth:`Module.groups` at ``lr=1``: their rates are
    factors of the solver's rate. Gradients are sums over ``iter_size`` batches."""

    def __init__(self, groups: Iterable[dict[str, Any]], solver: Solver) -> None:
        self.solver, self.iteration = solver, 0
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Make one update. All gradients are clipped together, then divided by ``iter_size``, then regularised."""
        solver = self.solver
        params = [(p, group) for group in self.param_groups for p in group["params"]]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p, _ in params]
        if solver.clip_gradients is not None:
            norm = float(torch.sqrt(sum((g.square().sum() for g in gradients), torch.zeros(()))))
            if norm > solver.clip_gradients:
                gradients = [g * (solver.clip_gradients / norm) for g in gradients]
        rate = solver.rate(self.iteration)
        self.iteration += 1
        for (p, group), gradient in zip(params, gradients, strict=True):
            g = gradient / solver.iter_size if solver.iter_size > 1 else gradient
            if group["weight_decay"]:
                g = g + group["weight_decay"] * (p if solver.regularization_type == "L2" else p.sign())
            p.sub_(self._change(rate * group["lr"], g, *self.history(p)))

    def history(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two moving averages or sums of a parameter, which an update changes in place."""
        state = self.state[p]
        if not state:
            state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
        return state["first"], state["second"]

    def _change(self, rate: float, g: Tensor, m: Tensor, v: Tensor) -> Tensor:
        """Return the change that the solver subtracts from a parameter; ``m`` and ``v`` are the parameter's history."""
        solver = self.solver
        mu, delta = solver.momentum or 0.0, solver.delta or 0.0
        match solver.type:
            case "SGD":
                return m.mul_(mu).add_(g, alpha=rate)
            case "Nesterov":
                before = m.clone()
                return (1 + mu) * m.mul_(mu).add_(g, alpha=rate) - mu * before
            case "AdaGrad":
                return rate * g / (m.addcmul_(g, g).sqrt() + delta)
            case "RMSProp":
                decay = solver.rms_decay or 0.0
                return rate * g / (m.mul_(decay).addcmul_(g, g, value=1 - decay).sqrt() + delta)
            case "AdaDelta":
                m.mul_(mu).addcmul_(g, g, value=1 - mu)
                change = g * ((v + delta) / (m + delta)).sqrt()
                v.mul_(mu).addcmul_(change, change, value=1 - mu)
                return rate * change
        beta, t = solver.momentum2 or 0.0, self.iteration
        m.mul_(mu).add_(g, alpha=1 - mu)
        v.mul_(beta).addcmul_(g, g, value=1 - beta)
        return rate * (1 - beta**t) ** 0.5 / (1 - mu**t) * m / (v.sqrt() + delta)


@dataclass(frozen=True)
class TorchState(SavedState):
    """A saved state, with the solver's moving averages and sums of each parameter."""

    history: dict[str, Array]

    def solver_arrays(self) -> Iterable[Array]:
        return self.history.values()


@dataclass(frozen=True)
class About:
    """The content of ``snapshot.json``: facts about a state besides its arrays."""

    iteration: Count
    first_losses: tuple[Number, ...]
    run: RunIdentity


def read_state(path: Path) -> TorchState:
    """Return the state of a snapshot. Raises :class:`TrainingError` for an incomplete snapshot."""
    about = read_about(path, About)
    parts = (read_npz(path / file, TrainingError) for file in (WEIGHTS, CARRIED, HISTORY))
    blobs, carried, history = ({name: np.asarray(array) for name, array in part.items()} for part in parts)
    return TorchState(about.iteration, blobs, carried, about.first_losses, about.run, history)


class TorchEngine:
    """A module and its optimiser, in this process. See :class:`~lstmc.runs.updates.Engine` for the methods."""

    failures: ClassVar[tuple[type[LstmcError], ...]] = ()

    def __init__(self, compiled: Compiled, weights: Mapping[str, Array], solver: Solver) -> None:
        graph = compiled.expanded
        trained_loss(graph)
        self.name, self.solver = compiled.name, solver
        self.net = Module(spec_of(compiled.model, graph), weights).float()
        self.carried = self.net.spec.carried  # input -> the output that is its value in the next batch
        shapes = {node.name: graph.type(Ref(node.name)).shape for node in graph if isinstance(node.op, Input)}
        self.states = {name: torch.zeros(shapes[name]) for name in self.carried}  # carried input -> its next value
        self.fed = {n: s for n, s in shapes.items() if n not in self.carried and n not in self.net.spec.fills}
        needed = needed_by_training(graph)
        learned = {p for name, p in self.net.named_parameters() if name in needed}
        groups = self.net.groups(1.0, solver.weight_decay)
        groups = [{**group, "params": [p for p in group["params"] if p in learned]} for group in groups]
        self.optimizer = SolverOptimizer(groups, solver)
        self.last: tuple[dict[str, Array], dict[str, Array]] = ({}, {})  # parameters, states before the last update

    def computation(self) -> bytes:
        spec = self.net.spec
        return repr((spec.program.text, spec.inputs, spec.fills, spec.params, spec.constants, self.carried)).encode()

    def start(self, state: TorchState | None) -> None:
        if state is None:
            return
        self.optimizer.iteration = state.iteration
        self.net.load_lstmc({name: state.blobs[name] for name in self.net.spec.params})
        self.states = {name: torch.from_numpy(array.copy()) for name, array in state.carried.items()}
        for name, p in self.learned():
            for part, kept in enumerate(self.optimizer.history(p)):
                kept.copy_(torch.from_numpy(state.history[f"{name}:{part}"].copy()))

    def learned(self) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters that are updated, with their names."""
        updated = {p for group in self.optimizer.param_groups for p in group["params"]}
        return [(name, p) for name, p in self.net.named_parameters() if p in updated]

    def update(self, batches: Sequence[Mapping[str, Array]]) -> Update:
        """Make one update, and return it. Its random numbers depend only on the seed and the iteration."""
        self.last = self.net.lstmc_weights(), self.arrays()
        self.net.train()
        self.optimizer.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{self.solver.random_seed} {self.optimizer.iteration}".encode()))
            loss = self.gradients(batches)
        self.optimizer.step()
        faulty = (name for name, p in self.learned() if not bool(torch.isfinite(p).all()))
        return Update(self.optimizer.iteration, loss, next(faulty, None))

    def gradients(self, batches: Sequence[Mapping[str, Array]]) -> float:
        """Add up the gradients of some batches, and return the mean loss."""
        loss = 0.0
        for batch in batches:
            outputs = self.outputs(batch, self.states)
            outputs[LOSS].backward()
            self.states = self.next_states(outputs)
            loss += float(outputs[LOSS].detach()) / len(batches)
        return loss

    def test(self, batch: Mapping[str, Array], first: bool) -> Mapping[str, float]:
        if first:
            self.test_states = {name: torch.zeros_like(state) for name, state in self.states.items()}
        self.net.eval()
        with torch.no_grad():
            outputs = self.outputs(batch, self.test_states)
        self.test_states = self.next_states(outputs)
        of_states = set(self.carried.values())
        return {name: float(value.mean()) for name, value in outputs.items() if name not in of_states}

    def outputs(self, batch: Mapping[str, Array], states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the module for a batch, from these carried states."""
        fed = {name: torch.from_numpy(np.asarray(array, order="C")) for name, array in batch.items()}
        outputs: dict[str, Tensor] = self.net(**fed, **states)
        return outputs

    def next_states(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: outputs[output].detach() for name, output in self.carried.items()}

    def arrays(self) -> dict[str, Array]:
        return {name: state.numpy().copy() for name, state in self.states.items()}

    def before(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        return self.last

    def state(self, first_losses: tuple[float, ...], run: RunIdentity) -> TorchState:
        parts = [(name, part) for name, p in self.learned() for part in enumerate(self.optimizer.history(p))]
        history = {f"{name}:{number}": kept.numpy().copy() for name, (number, kept) in parts}
        blobs = self.net.lstmc_weights()
        return TorchState(self.optimizer.iteration, blobs, self.arrays(), first_losses, run, history)

    def save(self, folder: Path, state: TorchState) -> Path:
        parts = {WEIGHTS: state.blobs, HISTORY: state.history, CARRIED: state.carried}
        files = {name: npz_bytes(arrays) for name, arrays in parts.items()}
        about = asdict(About(state.iteration, state.first_losses, state.run))
        return write_snapshot(folder, state.iteration, files, about, read_state)

    def saved(self, folder: Path) -> tuple[Path, TorchState] | None:
        return newest(folder, read_state)

    def end(self) -> None:
        """Do nothing: there is nothing to release."""


def train(
    compiled: Compiled, weights: Mapping[str, Array], solver: Solver, run: TrainingRequest,
    engine: Callable[[Compiled, Mapping[str, Array], Solver], TorchEngine] = TorchEngine,
) -> Trained:  # fmt: skip
    """Train a compiled training graph on the CPU, by the engine that ``engine`` makes. A parameter that the loss does
    not need keeps its value. Raises :class:`TrainingError` for a GPU."""
    if run.gpu:
        raise TrainingError(f"cannot train {compiled.name} on a GPU: backend torch trains on the CPU")
    with _threads_for(graph_work(compiled.model).flops):
        last = train_by(
            engine(compiled, weights, solver),
            solver,
            run,
            lambda blobs, batch: not_finite_in(compiled.model, batch, {**weights, **blobs}),
        )
    return Trained(last.iteration, last.ended, {**weights, **last.blobs}, last.snapshot)


@contextmanager
def _threads_for(work: int) -> Iterator[None]:
    """Use a single thread inside if a forward pass has so little ``work``, in FLOPs, that more threads would only wait
    for each other. OMP_NUM_THREADS, which PyTorch and native loops obey, takes precedence."""
    before = torch.get_num_threads()
    if work < ENOUGH and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
