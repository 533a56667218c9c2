"""The training net with its TRAIN and TEST phases, and data in HDF5 as Caffe's HDF5Data layer reads them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lstmc.backend import Compiled, RankPart, Settings
from lstmc.backend.compiled import Batches, DividedBatch, Trained, TrainingData, TrainingRequest, example_axis, smallest
from lstmc.errors import Argument, TrainingError
from lstmc.files.output import Content
from lstmc.interp import forward
from lstmc.ir import Graph, Ref
from lstmc.ops import Array, Constant, Input, Op
from lstmc.plugins import need
from lstmc.prepare import LOSS, fixed_masks, mask_name, needed_by_training, trained_loss
from lstmc.process.status import launched_processes
from lstmc.runs.solver import Solver
from lstmc.runs.updates import not_finite_in
from lstmc.verification.conditioning import NotFinite
from lstmc.weights import initial_weights, parameters, unpack_weights
from lstmc_caffe.ops import CaffeOp, DropoutLayer, Eltwise, FilledInput, InputLayer
from lstmc_caffe.processes.ranks import LaunchedRank, RanksProcess
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import load_target
from lstmc_caffe.train.trainer import Mask, RankNets, TrainableNet, solver_text, train_net
from lstmc_caffe.write.artifact import layers_files, layers_source, manifest, overwritten, prototxt
from lstmc_caffe.write.net import Section, WrittenNet, caffemodel, write_net

TRAIN, TEST = "TRAIN", "TEST"  # Caffe's phases


@dataclass(frozen=True)
class Source:
    """The data of a phase's HDF5Data layer: the file that lists its HDF5 files, and their number of batches."""

    file: str
    batches: int


def batch_dataset(name: str) -> str:
    """Return the name of an input's dataset in an HDF5 file; the plain name is the input's own blob."""
    return f"{name}_batch"


def phase_data(data: TrainingData | None) -> dict[str, Batches]:
    """Return the batches of each phase. Without test data there are only those of TRAIN, which both phases read."""
    if data is None:
        return {}
    return {TRAIN: data.train} if data.test is None else {TRAIN: data.train, TEST: data.test}


def hdf5_sources(name: str, data: TrainingData | None) -> dict[str, Source]:
    """Return the data source of each phase: the list that :func:`hdf5_files` writes, and the number of batches."""
    sources = {
        phase: Source(f"{name}.{phase.lower()}.txt", batches.per_epoch) for phase, batches in phase_data(data).items()
    }
    return sources | {TEST: sources.get(TEST, sources[TRAIN])} if sources else {}


def hdf5_files(name: str, data: TrainingData | None) -> dict[str, Content]:
    """Return the contents of the HDF5 file of each phase, and of the text file that lists it, by file name."""
    files: dict[str, Content] = {}
    for phase, batches in phase_data(data).items():
        file = f"{name}.{phase.lower()}"
        files[f"{file}.h5"] = partial(write_batches_hdf5, batches)
        files[f"{file}.txt"] = f"{file}.h5\n".encode()
    return files


def write_batches_hdf5(batches: Batches, path: Path) -> None:
    """Write the batches of an epoch as the rows of an HDF5 file for HDF5Data: one float32 dataset ``[count, *shape]``
    for each input, named by ``batch_dataset``. Raises OSError, and TrainingError if the package h5py is missing."""
    h5py = need("h5py", "h5py", "hdf5", TrainingError)
    count, first = batches.per_epoch, batches.batch(0)
    # the bytes of all elements, and 4 KiB for HDF5's tables of each dataset
    most = count * sum(array.nbytes for array in first.values()) + 4096 * (1 + len(first))
    with path.open("wb") as file:
        # allocated first, because HDF5 fails badly on a full disk
        os.posix_fallocate(file.fileno(), 0, most)
    with h5py.File(path, "w") as hdf5:
        for row in range(count):
            for name, array in batches.batch(row).items():
                if row == 0:
                    hdf5.create_dataset(batch_dataset(name), (count, *array.shape), np.float32)
                hdf5[batch_dataset(name)][row] = array


def training_net(compiled: Compiled, sources: Mapping[str, Source]) -> WrittenNet:
    """Return the net of ``training_graph``. ``loss`` has loss weight 1; layers that only scores need are in phase TEST.
    ``sources`` name, by phase, the text file that lists the HDF5 files of HDF5Data layers, one row a batch (as
    ``hdf5_data_layer.cpp`` reads them). Without ``sources`` inputs are Input layers, for a program to fill."""
    graph = compiled.expanded
    target = load_target(compiled.target)
    net = write_net(graph, target, overwritten(graph) if target.in_place else {})
    layers = {layer.name: layer for layer in net.layers()}
    layers[trained_loss(graph).node].loss_weight[:] = [1.0]
    carried = carried_outputs(compiled)
    trained = needed_by_training(graph) | {node.name for node in graph if isinstance(node.op, Input)}
    for name, layer in layers.items():
        if name in graph and name not in trained:
            layer.include.add(phase=TEST)
    sections = [*_data_sections(graph, sources), *_without_inputs(net.sections, graph, sources)]
    used_sections = [section for section in sections if section.net.layer and section.net.layer[0].type != "Silence"]
    reported = {output.ref for output in graph.outputs if output.name not in carried}
    return WrittenNet(net.name, (*used_sections, *_silenced(graph, trained, reported)), net.owners, net.weights)


def _fed(graph: Graph) -> list[str]:
    """Return the inputs that a caller feeds."""
    return [node.name for node in graph if isinstance(node.op, Input) and not isinstance(node.op, FilledInput)]


def _data_sections(graph: Graph, sources: Mapping[str, Source]) -> Iterator[Section]:
    """Yield an HDF5Data layer for each phase, and the layers that remove the batch axis from its tops."""
    if not sources:
        return
    inputs = _fed(graph)
    section = Section("data, one row of its files a batch")
    for phase, source in sources.items():
        layer = section.net.layer.add(name=f"data/{phase.lower()}", type="HDF5Data", top=[*map(batch_dataset, inputs)])
        layer.include.add(phase=phase)
        layer.hdf5_data_param.source, layer.hdf5_data_param.batch_size = source.file, 1
    for name in inputs:
        layer = section.net.layer.add(name=name, type="Reshape", bottom=[batch_dataset(name)], top=[name])
        layer.reshape_param.shape.dim.extend(graph.type(Ref(name)).shape)
    yield section


def _without_inputs(sections: tuple[Section, ...], graph: Graph, sources: Mapping[str, Source]) -> Iterator[Section]:
    """Yield the sections without the Input layers that data layers replace."""
    replaced = set(_fed(graph)) if sources else set()
    for section in sections:
        remaining = Section(section.title)
        remaining.net.layer.extend(layer for layer in section.net.layer if layer.name not in replaced)
        yield remaining


def _silenced(graph: Graph, trained: Collection[str], reported: Collection[Ref]) -> Iterator[Section]:
    """Yield Silence layers for the values that nothing reads in a phase, except ``reported`` ones (loss and scores)."""
    section = Section("values that nothing reads")
    for phase in (TRAIN, TEST):
        present = {n.name for n in graph if isinstance(n.op, CaffeOp) and (phase == TEST or n.name in trained)}
        used = set(reported).union(*map(graph.args, present))
        unread = [graph.value_name(r) for node in graph if node.name in present for r in node.refs if r not in used]
        if unread:
            name = f"silence/{phase.lower()}"
            section.net.layer.add(name=name, type="Silence", bottom=unread).include.add(phase=phase)
    if section.net.layer:
        yield section


def carried_outputs(compiled: Compiled) -> dict[str, str]:
    """Return the outputs that become inputs of the next batch: output -> input. LSTM and RNN layers carry their own."""
    return {output.name: name for name, output in compiled.expanded.carried().items()}


def training_files(compiled: Compiled, solver: Solver, data: TrainingData | None) -> dict[str, Content]:
    """Return ``NAME.train.prototxt``, ``NAME.solver.prototxt``, and the manifest that reads trained weights back.
    ``caffe train --solver=NAME.solver.prototxt`` in their folder trains the net. With ``data`` there are also HDF5
    files, and the lists that name them. Fixed arrays of the model are in ``NAME.train.caffemodel``, with drawn
    parameters: give this file to Caffe as ``--weights``."""
    name = compiled.name
    sources = hdf5_sources(name, data)
    net = training_net(compiled, sources)
    lines = [f"data of phase {phase}: {source.file}" for phase, source in sources.items()] if sources else None
    started: dict[str, Content] = {}
    if any(op.fixed for op in parameters(compiled.model).values()):
        started[f"{name}.train.caffemodel"] = caffemodel(net, initial_weights(compiled.model))
    tests = sources[TEST].batches if sources else 0
    text = solver_text(solver, f"{name}.train.prototxt", name, "cpu", test_batches=tests)
    started.update(layers_files(f"{name}.train", compiled.expanded))
    return {
        f"{name}.train.prototxt": prototxt(compiled, net, lines).encode(),
        f"{name}.solver.prototxt": text.encode(),
        f"{name}.train.manifest.json": manifest(compiled, net, {}).text().encode(),
        **started,
        **hdf5_files(name, data),
    }


def train(
    runner: Runner, compiled: Compiled, weights: Mapping[str, Array], solver: Solver, run: TrainingRequest
) -> Trained:
    """Train a compiled ``training_graph`` in real Caffe. A parameter that no layer uses keeps its value. If the run has
    parts, the runner's workers train together, each on its part of every batch."""
    graph, net = compiled.expanded, training_net(compiled, {})
    runner.open_layers(layers_source(graph))
    carried = carried_outputs(compiled)
    places = {output.name: graph.value_name(output.ref) for output in graph.outputs}
    trainable = TrainableNet(
        name=compiled.name,
        prototxt=prototxt(compiled, net),
        inputs={name: graph.type(Ref(name)).shape for name in (*_fed(graph), *carried.values())},
        scores=tuple(blob for output, blob in places.items() if output not in carried),
        carried=tuple((places[output], target) for output, target in carried.items()),
        blobs=forward(net.weights, params=weights, dtype=np.float32).outputs,
        random=any(_is_random(node.op) for node in graph),
        ranks=rank_nets(compiled, run.parts) if run.parts else None,
    )

    def locate(blobs: Mapping[str, Array], batch: Mapping[str, Array]) -> NotFinite | None:
        return not_finite_in(compiled.model, batch, {**weights, **unpack_weights(net.weights, blobs)})

    last = train_net(runner, trainable, solver, run, locate)
    return Trained(last.iteration, last.ended, {**weights, **unpack_weights(net.weights, last.blobs)}, last.snapshot)


def rank_nets(compiled: Compiled, parts: Sequence[RankPart]) -> RankNets:
    """Return the net of each rank from its part of the batch. Ranks with parts of one size share a text."""
    whole, part = compiled.expanded, smallest(parts)
    texts: dict[int, str] = {}
    for each in parts:
        size = each.stop - each.start
        if size not in texts:
            masked = replace(each.compiled, expanded=fixed_masks(each.compiled.expanded, InputLayer, Eltwise("PROD")))
            texts[size] = prototxt(masked, training_net(masked, {}))
    own_texts = tuple(texts[each.stop - each.start] for each in parts)
    return RankNets(own_texts, DividedBatch.of(whole, parts), masks(whole, part))


def _is_random(op: Op) -> bool:
    """Return whether a layer draws new random numbers at each forward pass."""
    return isinstance(op, DropoutLayer) or (isinstance(op, FilledInput) and not isinstance(op.fill, Constant))


def masks(whole: Graph, part: Graph) -> tuple[Mask, ...]:
    """Return the dropouts that training runs in the whole batch's net, in the order of its layers: each dropout's mask
    name, ratio, shape and axis of examples. Raises TrainingError if a rank's net has other dropouts than these."""
    needed = whole.needed(output.ref for output in whole.outputs if output.name == LOSS or output.carried_to)
    drawn = [node for node in whole if isinstance(node.op, DropoutLayer) and node.name in needed]
    if {node.name for node in drawn} != {node.name for node in part if isinstance(node.op, DropoutLayer)}:
        raise TrainingError(
            f"{whole.name} cannot be trained by several ranks: the net of a part of a batch has other dropouts"
        )
    return tuple(
        (mask_name(node.name), node.op.ratio, shape, example_axis(shape, part.type(Ref(node.name)).shape))  # type: ignore[attr-defined]
        for node in drawn
        for shape in (whole.type(Ref(node.name)).shape,)
    )


class CaffeRanks:
    """See :class:`~lstmc.backend.Ranks`. Processes start when they are needed; processes of a launcher run already."""

    def __init__(self, count: int | None, gpu: bool) -> None:
        """Prepare ``count`` processes, or without a count join those of the launcher. In a process other than the first
        this call serves the first, and then raises SystemExit."""
        world = launched_processes()
        if count is not None and world > 1:
            raise TrainingError(
                f"{Argument('ranks', str(count))} starts processes, but this one was started by an MPI launcher as one"
                f" of {world}, which are the ranks: leave it out"
            )
        self._runner = Runner(for_gpu=gpu, start=lambda location: self._own or RanksProcess(location, self.count))
        self._own: LaunchedRank | None = None
        if count is None and world > 1:
            self._own = LaunchedRank(self._runner.location)
            if self._own.rank:
                self._own.work()
        self.count = self._own.size if self._own else count or 1

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        assert isinstance(settings, Solver)
        return train(self._runner, compiled, weights, settings, run)

    def close(self) -> None:
        self._runner.close()
        if self._own:
            self._own.end()
