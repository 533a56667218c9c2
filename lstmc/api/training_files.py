"""Write the files that train a net without lstmc, as ``caffe train`` takes them: net, solver settings and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lstmc.api.net import Net
from lstmc.api.options import Solver
from lstmc.backend import Settings, Trains, require, training_targets
from lstmc.data import batch_axes
from lstmc.data.request import TrainingData
from lstmc.data.run_data import Data, run_data
from lstmc.errors import Argument, DataError, ModelFileError
from lstmc.files.output import Content, write_files
from lstmc.pipeline import compile_graph
from lstmc.prepare import has_loss, training_graph


def solver_settings(backend: Trains, of_model: object | None, given: Solver | None) -> Settings:
    """A model's settings with those given put over them; settings of the backend's own type take their place."""
    if given is None:
        return backend.settings(of_model, ())
    if isinstance(given, Mapping):
        return backend.settings(of_model, [f"{name}={_text(value)}" for name, value in given.items()])
    if isinstance(given, list | tuple):
        return backend.settings(of_model, given)
    return backend.settings(given, ())


def _text(value: object) -> str:
    """A setting's value as settings are written in text: ``true``, ``100,200``, ``default``."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def why_not_trained(net: Net) -> tuple[str, tuple[Argument, ...]] | None:
    """Why there is no net to be trained beside a compiled one, and the arguments that this speaks of; or None."""
    if not has_loss(net.graph):
        return f"{net.name} returns no loss", ()
    if net.compiled.states is not None:
        argument = Argument("step", "True")
        return f"{argument} makes a net that is not trained", (argument,)
    if net.only:
        argument = Argument("outputs")
        return f"{argument} makes a net that is not trained", (argument,)
    known = training_targets(net.backend)
    if net.target in known:
        return None
    return f"nets for target {net.target} are not trained: those for {', '.join(known) or 'none'} are", ()


def training_files(
    net: Net,
    data: Data | None = None,
    test_data: Data | None = None,
    solver: Solver | None = None,
    batch: str | None = None,
    seed: int = 0,
) -> Mapping[str, Content]:
    """The contents of the files by name.

    Raises :class:`ModelFileError` for a net that is not trained.
    """
    if found := why_not_trained(net):
        raise ModelFileError(f"there is no training net: {found[0]}", arguments=found[1])
    backend, model = require(net.backend, Trains), net.source.model
    settings = solver_settings(backend, model.solver, solver)
    trained = training_graph(net.graph)
    read: TrainingData | None = None
    if data is not None:
        given = run_data(trained, batch_axes(model, batch), data, test_data, None, seed, shuffle=True)
        trained = given.graph
        test = None if given.test is None else given.test.for_scoring()
        read = TrainingData(given.train.for_training(seed, given.shuffle), test)
    elif test_data is not None:
        test_argument, train_argument = Argument("test_data"), Argument("data")
        raise DataError(
            f"{test_argument} is to score a net on that is trained on {train_argument}: expected both",
            arguments=(test_argument, train_argument),
        )
    compiled = compile_graph(trained, net.backend, net.target, net.source.name)
    return backend.emit_training(compiled, settings, read)


def export_training(
    net: Net,
    folder: str | Path = ".",
    *,
    data: Data | None = None,
    test_data: Data | None = None,
    solver: Solver | None = None,
    batch: str | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write a net with what `caffe train` takes besides: the net to be trained, the solver's settings, the data.

    ``data`` and ``test_data`` are arrays by the names of the inputs, or a file of them; the other arguments are those
    of :func:`lstmc.train`. Raises :class:`~lstmc.errors.ModelFileError` for a model without a loss, and for a net of
    one step, of some outputs, or of a target that is not trained.

    >>> import lstmc, tempfile
    >>> @lstmc.model
    ... def fits(X=lstmc.Input(4, 3), y=lstmc.Input(4, 1), W=lstmc.Param(1, 3)):
    ...     found = lstmc.linear(X, W)
    ...     return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.name for path in lstmc.export_training(lstmc.compile(fits), folder))[-3:]
    ['fits.solver.prototxt', 'fits.train.manifest.json', 'fits.train.prototxt']
    """
    files = training_files(net, data, test_data, solver, batch, seed)
    return write_files(Path(folder), {**net.files, **files})
