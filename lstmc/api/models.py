"""From what a user names to a model: a file, FILE or FILE:MODEL, or a cell of the library."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.machinery import SOURCE_SUFFIXES, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TypeVar

from lstmc.backend import find_backends, find_cells, load_backend, load_cell
from lstmc.dsl import Cell, CellModel, Model
from lstmc.dsl.value import instead_of
from lstmc.errors import LstmcError, ModelFileError, PluginError
from lstmc.ir import Graph
from lstmc.numerals import number, whole
from lstmc.similar_names import nearest_or_all
from lstmc.source import SrcLoc, display

Kind = TypeVar("Kind", Model, Cell)


@dataclass(frozen=True)
class ModelSource:
    """A model, and how a person would name it: ``demo.py:demo``.

    ``cells`` are those of its file by the names that they have there, ``options`` the texts that options were set by.
    """

    model: Model
    name: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model | Cell | str) -> ModelSource:
        """A model; a cell, which is scanned over T steps; or a cell of the library by its name."""
        if isinstance(model, str):
            model = load_cell(model)
        if isinstance(model, Cell):
            return cls(CellModel(model), f"cell {model.name}")
        if not isinstance(model, Model):
            raise ModelFileError(
                "expected a function made with @model or @cell, or the name of a library cell, found"
                f" {type(model).__name__} {model!r}"
            )
        return cls(model, f"{model.loc.file}:{model.name}" if model.loc else model.name)

    def with_options(self, texts: Mapping[str, str]) -> ModelSource:
        """Return the model with options set by texts, each of the kind of its default: a number, true or false, a word,
        or a cell by its name: one of the model's file, else one that is installed.

        Raises :class:`ModelFileError` for a text of another kind, and :class:`~lstmc.errors.DslError` for an option
        that the model does not have.
        """
        if not texts:
            return self
        defaults = self.model.signature.options
        given = {
            name: self._option(name, text, defaults[name]) if name in defaults else text for name, text in texts.items()
        }
        return replace(self, model=self.model.with_options(**given), options={**self.options, **texts})

    def shadowed(self, texts: Mapping[str, str]) -> list[str]:
        """Return the options' values that name a cell of the file and another one that is installed."""
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
        """Return the value that a text stands for, of the kind of an option's default."""
        if isinstance(default, Cell):
            return self._cell(name, text)
        if isinstance(default, str):
            return text
        found: object = None
        if isinstance(default, bool):
            kind, found = "true or false", {"true": True, "false": False}.get(text)
        elif isinstance(default, int):
            kind, found = "an integer", whole(text)
        elif isinstance(default, float):
            kind, found = "a number", number(text)
        else:
            kind = f"a model file that sets it, as its default is {default!r}"
        if found is None:
            raise ModelFileError(f"option {name}: expected {kind}, found {text!r}")
        return found

    def _cell(self, option: str, name: str) -> Cell:
        """Return a cell of the file or an installed one; the file's own comes first."""
        if name in self.cells:
            return self.cells[name]
        known = list(dict.fromkeys((*self.cells, *find_cells())))
        if name not in known:
            raise ModelFileError(f"option {option}: unknown cell {name!r}{nearest_or_all(name, known, 'available')}")
        return load_cell(name)

    def graph(self, sizes: Mapping[str, int]) -> Graph:
        """The model traced with these sizes. What the user's own code raises becomes a :class:`ModelFileError`."""
        try:
            return self.model.graph(**sizes)
        except LstmcError:
            raise
        except (Exception, SystemExit) as error:
            raise _from_user_code(
                f"{self.name} does not trace", error, self.model.written.__code__.co_filename
            ) from error


def model_in(file: str) -> ModelSource:
    """The model that FILE names, or FILE:MODEL where it has several. A file without models may have one cell.

    Raises :class:`ModelFileError` for a file that is not there, does not import, or has no such model.
    """
    path, name = _split(file)
    module = _import(path)
    model = _pick(module, path, name)
    return ModelSource(model, f"{display(str(path))}:{model.name}", _of_kind(module, Cell))


def _split(file: str) -> tuple[Path, str | None]:
    path, colon, name = file.rpartition(":")
    return (Path(path), name) if colon and name.isidentifier() else (Path(file), None)


class _AsItIsNow(SourceFileLoader):
    """Compiles the file each time: no compiled module is left beside it, nor one of an older text taken, which Python
    does where a file changes within a second and keeps its length."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        raise ModelFileError(f"no such model file: {path}")
    if path.suffix not in SOURCE_SUFFIXES:
        raise ModelFileError(f"{path} is not a Python file: expected a name ending in .py")
    name, file = f"model_file_{path.stem}", str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, file, loader=_AsItIsNow(name, file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    for backend in find_backends():  # before a neighbour of the file could stand for what one of them imports
        with suppress(PluginError):
            load_backend(backend)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as for a script: its neighbours can be imported
    try:
        spec.loader.exec_module(module)
    except LstmcError:
        raise
    except (Exception, SystemExit) as error:
        raise _from_user_code(f"{path} does not import", error, str(path.resolve())) from error
    finally:  # from here on no neighbour stands before what the compiler imports
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    return module


def _from_user_code(what: str, error: BaseException, filename: str) -> ModelFileError:
    """An error of the user's own code, at the last of its lines that was running."""
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


def _pick(module: ModuleType, path: Path, name: str | None) -> Model:
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
        found = f"the cells {', '.join(cells)}: name one, {path}:{next(iter(own_cells))}" if cells else "none"
        raise ModelFileError(f"{path} has no model: expected a function made with @model, found {found}")
    if len(models) > 1:
        raise ModelFileError(f"{path} has several models: expected {path}:NAME with one of {', '.join(models)}")
    return next(iter(models.values()))


def _of_kind(module: ModuleType, kind: type[Kind]) -> dict[str, Kind]:
    """Return the models or the cells of a file by their names in it, those that it imports among them."""
    return {name: value for name, value in vars(module).items() if isinstance(value, kind)}
