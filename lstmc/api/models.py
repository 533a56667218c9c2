"""Resolve the arguments of a user: a model by object, cell name, FILE or FILE:MODEL, with its sizes and weights."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.machinery import SOURCE_SUFFIXES, SourceFileLoader
from inspect import signature
from math import prod
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal, Protocol, TypeVar, cast

from numpy.typing import NDArray

from lstmc.backend import Backend, backend_for, find_backends, find_cells, load_backend, load_cell, target_of
from lstmc.dsl import Cell, CellModel, Dim, Model
from lstmc.dsl.dims import whole_number
from lstmc.dsl.value import instead_of
from lstmc.errors import Argument, BackendError, LstmcError, ModelFileError, PluginError, WeightsError
from lstmc.ir import Graph, Ref, values_over_time
from lstmc.manifest import manifest_path, read_manifest
from lstmc.ops import Array
from lstmc.prepare import deploy_graph, training_graph
from lstmc.source import SrcLoc, display
from lstmc.text import brief, did_you_mean, nearest_or_all, number, whole
from lstmc.weights import check_weights, initial_weights, parameters, read_weights

Kind = TypeVar("Kind", Model, Cell)
TRAINED = (".pt", ".pth", ".pt2", ".safetensors", ".keras", ".h5", ".onnx")
CONVERTED = "a trained model is converted first, as by lstmc convert"


@dataclass(frozen=True)
class ModelSource:
    """A model, and how a person would name it: ``demo.py:demo``. ``cells`` are the cells of its file by their names,
    ``options`` the texts that set its options."""

    model: Model
    name: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_model(cls, model: Model | Cell | str | Path) -> ModelSource:
        """Return the source of a model, of a cell, scanned over T steps, of a library cell by name, or of a file."""
        if isinstance(model, str | Path) and _split_name(str(model))[0].suffix in SOURCE_SUFFIXES:
            return model_in(str(model))
        if isinstance(model, str):
            model = load_cell(model)
        if isinstance(model, Cell):
            return cls(CellModel(model), f"cell {model.name}")
        if not isinstance(model, Model):
            raise ModelFileError(
                "expected a function made with @model or @cell, its file, or the name of a library cell, found"
                f" {type(model).__name__} {model!r}"
            )
        return cls(model, f"{model.loc.file}:{model.name}" if model.loc else model.name)

    def with_options(self, texts: Mapping[str, str]) -> ModelSource:
        """Return the model with options set by texts, each converted to the type of its default: a number, true or
        false, a word, or a cell by its name, from the model's file or else installed. Raises :class:`ModelFileError`
        for a text that cannot be converted, and :class:`~lstmc.errors.DslError` for an unknown option."""
        if not texts:
            return self
        defaults = self.model.signature.options
        options = {n: self._option(n, text, defaults[n]) if n in defaults else text for n, text in texts.items()}
        return replace(self, model=self.model.with_options(**options), options={**self.options, **texts})

    def shadowed(self, texts: Mapping[str, str]) -> list[str]:
        """Return the options' values that name both a cell of the file and an installed cell."""
        installed, defaults = find_cells(), self.model.signature.options
        return [
            text
            for name, text in texts.items()
            if isinstance(defaults.get(name), Cell)
            and text in self.cells
            and text in installed
            and self.cells[text] is not load_cell(text)
        ]

    def _option(self, name: str, text: str, default: object) -> object:
        """Return an option's text as a value of the type of its default. Raise ModelFileError if that is impossible."""
        if isinstance(default, Cell):
            return self._cell(name, text)
        if isinstance(default, str):
            return text
        value: object = None
        if isinstance(default, bool):
            kind, value = "true or false", {"true": True, "false": False}.get(text)
        elif isinstance(default, int):
            kind, value = "an integer", whole(text)
        elif isinstance(default, float):
            kind, value = "a number", number(text)
        else:
            kind = f"a model file that sets it, as its default is {default!r}"
        if value is None:
            raise ModelFileError(f"option {name}: expected {kind}, found {text!r}")
        return value

    def _cell(self, option: str, name: str) -> Cell:
        if name in self.cells:
            return self.cells[name]
        names = list(dict.fromkeys((*self.cells, *find_cells())))
        if name not in names:
            raise ModelFileError(f"option {option}: unknown cell {name!r}{nearest_or_all(name, names, 'available')}")
        return load_cell(name)

    def graph(self, sizes: Mapping[str, int]) -> Graph:
        """Return the model traced with these sizes. An exception of user code becomes a :class:`ModelFileError`."""
        try:
            return self.model.graph(**sizes)
        except LstmcError:
            raise
        except (Exception, SystemExit) as error:
            file = self.model.source_function.__code__.co_filename
            raise _from_user_code(f"{self.name} does not trace", error, file) from error


def model_in(file: str, neighbours: bool = True) -> ModelSource:
    """Return the model of ``FILE``, or of ``FILE:MODEL`` if the file has several. In a file without models a single
    cell is the model. A user's file may import its ``neighbours``, the modules in its folder, also later, in a
    function; a file that lstmc wrote imports none. Raises :class:`ModelFileError` for a file that is missing, cannot be
    imported, or lacks the model."""
    path, name = _split_name(file)
    module = _import_file(path, neighbours)
    model = _select_model(module, path, name)
    return ModelSource(model, f"{display(str(path))}:{model.name}", _of_kind(module, Cell))


def _split_name(file: str) -> tuple[Path, str | None]:
    path, colon, name = file.rpartition(":")
    return (Path(path), name) if colon and name.isidentifier() else (Path(file), None)


class _UncachedLoader(SourceFileLoader):
    """Compiles the file each time: bytecode is outdated if a file changes within a second and keeps its length."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path, neighbours: bool) -> ModuleType:
    """Import a model's file, which may import its ``neighbours`` in the folder, as a script does. Return the module."""
    if os.path.isdir(path):
        raise ModelFileError(f"{path} is a folder: expected a model file, FILE.py")
    if not os.path.isfile(path):
        raise ModelFileError(f"no such model file: {path}")
    if path.suffix not in SOURCE_SUFFIXES:
        trained = f"; {CONVERTED}" if path.suffix in TRAINED else ""
        raise ModelFileError(f"{path} is not a Python file: expected a name ending in .py{trained}")
    name, file = f"model_file_{path.stem}", str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, file, loader=_UncachedLoader(name, file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    for backend in find_backends():  # before a file of the folder can hide a module that a backend imports
        with suppress(PluginError):
            load_backend(backend)
    folder = str(path.resolve().parent)
    if neighbours:
        sys.path.insert(0, folder)  # as for a script
    try:
        spec.loader.exec_module(module)
    except LstmcError:
        raise
    except (Exception, SystemExit) as error:
        raise _from_user_code(f"{path} does not import", error, str(path.resolve())) from error
    finally:  # from here on no file of the folder hides a module that the compiler imports
        if neighbours:
            sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)
    return module


def _from_user_code(what: str, error: BaseException, filename: str) -> ModelFileError:
    """Return the error for an exception in user code, at the last user line that ran; ``what`` begins its text."""
    loc = None
    if isinstance(error, SyntaxError) and error.lineno:
        column = (error.offset or 1) - 1
        loc = SrcLoc(display(error.filename or filename), error.lineno, column, error.lineno, column + 1)
        text = error.msg
    else:
        text = str(error)
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == filename and frame.lineno is not None:
                end = frame.end_lineno or frame.lineno
                loc = SrcLoc(display(filename), frame.lineno, frame.colno or 0, end, frame.end_colno or 0)
    hint = instead_of(error.name) if isinstance(error, NameError) and error.name else ""
    return ModelFileError(f"{what}: {type(error).__name__}: {text}{hint}", loc=loc)


def _select_model(module: ModuleType, path: Path, name: str | None) -> Model:
    """Return the model or cell of this name, as a model; without a name the module's only one."""
    models, cells = _of_kind(module, Model), _of_kind(module, Cell)
    if name is not None:
        if name in cells:
            return CellModel(cells[name])
        if name not in models:
            raise ModelFileError(f"{path} has no model {name}{nearest_or_all(name, [*models, *cells])}")
        return models[name]
    own_cells = {key: cell for key, cell in cells.items() if cell.function.__module__ == module.__name__} or cells
    if not models and len(own_cells) == 1:
        return CellModel(next(iter(own_cells.values())))
    if not models:
        cells_text = f"the cells {', '.join(cells)}: name one, {path}:{next(iter(own_cells))}" if cells else "none"
        raise ModelFileError(f"{path} has no model: expected a function made with @model, found {cells_text}")
    if len(models) > 1:
        raise ModelFileError(f"{path} has several models: expected {path}:NAME with one of {', '.join(models)}")
    return next(iter(models.values()))


def _of_kind(module: ModuleType, kind: type[Kind]) -> dict[str, Kind]:
    return {name: value for name, value in vars(module).items() if isinstance(value, kind)}


# A model; a cell, scanned over T steps; the name of a library cell; a model's file; or what it holds.
AnyModel = Model | Cell | str | Path | ModelSource
# deploy: the model as it is used, without losses, scores and dropout. train: losses, scores, and what they need.
Phase = Literal["deploy", "train", "all"]
PHASES: Mapping[Phase, Callable[[Graph], Graph]] = {
    "deploy": deploy_graph,
    "train": training_graph,
    "all": lambda graph: graph,
}
Weights = Mapping[str, NDArray[Any]] | str | Path  # by the model's own names, an .npz file of them, or a net's file
LENGTHS = (2, 3, 5, 7, 11)  # sizes of time at which a net of one step is traced


class DimensionSize(Protocol):
    """The type of arguments that give dimensions their sizes: an integer, with a name that type checkers show."""

    def __index__(self) -> int: ...


def trace_model(model: AnyModel, sizes: Mapping[str, int], step: bool = False) -> tuple[ModelSource, Graph]:
    """Return a model's source and its whole graph. An exception of the user's code stays as it is, unless ``model`` is
    a :class:`ModelSource`. With ``step``, for a net of one step, the length of sequences needs no size."""
    source = model if isinstance(model, ModelSource) else ModelSource.from_model(model)

    def graph(sizes: Mapping[str, int]) -> Graph:
        return source.graph(sizes) if isinstance(model, ModelSource) else source.model.graph(**sizes)

    return source, _at_any_length(source, graph, sizes) if step else graph(sizes)


def _at_any_length(
    source: ModelSource, traced: Callable[[Mapping[str, int]], Graph], sizes: Mapping[str, int]
) -> Graph:
    """Return the graph at these sizes; dimensions of time without a size get ``LENGTHS``, others must have a size."""
    leading = {
        name: declared.sizes[0]
        for name, declared in source.model.inputs.items()
        if declared.sizes and isinstance(declared.sizes[0], Dim)
    }
    names = dict.fromkeys(d.name for d in leading.values() if d.default is None and d.name not in sizes)
    lengths = dict(zip(names, LENGTHS, strict=False))  # different, so that no axis is taken for another
    graph = traced({**sizes, **lengths})
    over_time = values_over_time(graph) if names else ()
    times = {dim.name for name, dim in leading.items() if Ref(name) in over_time}
    unknown = lengths.keys() - times
    return traced({**sizes, **{name: lengths[name] for name in times}}) if unknown else graph


def backend_of(backend: str | Backend | None, target: str | None = None) -> Backend:
    """Return a backend: the given object, an installed backend by name, or for None the target's backend."""
    if backend is None or isinstance(backend, str):
        return backend_for(backend, target)
    if not isinstance(backend, Backend):
        raise PluginError(f"expected a backend's name or a subclass of lstmc.backend.Backend, found {brief(backend)}")
    return backend


def writer_of(manifest: Path, backend: str | Backend | None = None) -> Backend:
    """Return the backend of a written net: ``backend``, or the one that the manifest names; Caffe's without a manifest.
    A damaged manifest counts as missing here: the function that reads it whole reports the error."""
    if backend is None:
        with suppress(WeightsError):
            backend = read_manifest(manifest).backend
    return backend_of(backend)


def all_sizes(
    sizes: Mapping[str, int] | None, dims: Mapping[str, DimensionSize], function: Callable[..., object]
) -> dict[str, int]:
    """Return one mapping of the sizes given as keywords and in ``sizes``. Raises :class:`ModelFileError` for a size
    that is given twice, and for a keyword that looks like a misspelt argument of ``function``."""
    for name, size in dims.items():
        near = did_you_mean(name, signature(function).parameters) if whole_number(size) is None else ""
        if near:
            raise ModelFileError(f"{function.__name__} has no argument {name}{near}")
    twice = sorted(set(sizes or {}) & set(dims))
    if twice:
        raise ModelFileError(f"the size of {', '.join(twice)} is given twice: as an argument and in sizes")
    return {**cast(Mapping[str, int], dims), **(sizes or {})}


def phase_graph(graph: Graph, phase: Phase) -> Graph:
    """Return the part of a model that a phase needs."""
    if phase not in [*PHASES]:  # a list, because a wrong phase may have no hash
        raise ModelFileError(f"phase is one of {', '.join(PHASES)}, found {phase!r}")
    return PHASES[phase](graph)


def widest_phase(backend: Backend, target: str | None, step: bool = False) -> Phase:
    """Return the largest phase of a model that a target supports: the whole model if the target is trained."""
    return "all" if not step and target_of(backend, target) in backend.training_targets else "deploy"


def keep_outputs(graph: Graph, names: Sequence[str] | None) -> Graph:
    """Return the graph with only the outputs ``names`` and those carried to the next batch; all if none are named."""
    names_of_outputs = [output.name for output in graph.outputs]
    for name in names or ():
        if name not in names_of_outputs:
            argument, hint = Argument("outputs", name), nearest_or_all(name, names_of_outputs)
            raise ModelFileError(f"{argument}: {graph.name} has no such output{hint}")
    carried = [output.name for output in graph.carried().values()]
    return graph.returning(list(dict.fromkeys((*names, *carried)))) if names else graph


def bound_weights(graph: Graph, weights: Weights | None, seed: int, backend: Backend) -> dict[str, Array]:
    """Return a value for every parameter of a whole model: from ``weights``, or drawn by its filler. Raises
    :class:`BackendError` for more weights than the backend can write, before anything is drawn."""
    count = sum(prod(op.shape) for op in parameters(graph).values())
    if count > backend.most_weights:
        raise BackendError(
            f"{graph.name} has {count:,} weights: backend {backend.name} can write at most {backend.most_weights:,}"
        )
    if weights is None:
        return initial_weights(graph, seed)
    if isinstance(weights, str | Path):
        path = Path(weights)
        if path.suffix != ".npz" and manifest_path(path).exists():
            return check_weights(trained_weights(path)[0], graph, str(path))
        return read_weights(path, graph)
    return check_weights(weights, graph, "weights")


def trained_weights(
    trained: str | Path, manifest: str | Path | None = None, backend: str | Backend | None = None
) -> tuple[dict[str, Array], list[str]]:
    """Return the model's parameters by name, and the names of those that no step of the net uses, from the file
    ``trained``, which lstmc wrote or Caffe trained. ``manifest``, by default the file beside it, names the backend."""
    path = Path(trained)
    described = manifest_path(path) if manifest is None else Path(manifest)
    return writer_of(described, backend).read_weights(path, described)
