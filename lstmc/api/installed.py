"""The installed library cells and their costs, the targets of all backends, and the findings of doctor."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from math import prod

from lstmc.api.models import backend_of, keep_outputs
from lstmc.backend import Backend, Finding, find_backends, load_backend, load_cell, plugin_faults
from lstmc.dsl import Cell, CellModel
from lstmc.dsl.dims import typical_size
from lstmc.errors import BackendError, DimError, PluginError
from lstmc.ir import Graph, Scan, graph_work, print_graph
from lstmc.pipeline import compile_graph
from lstmc.plugins import ELSEWHERE, cell_groups, group_of, installed_parts, recorded
from lstmc.text import nearest_or_all
from lstmc.version import __version__
from lstmc.weights import parameters


@dataclass(frozen=True)
class LibraryCell:
    """A library cell: ``parameters`` and ``flops`` are for one step at ``sizes``, where N is 1: one sequence. Fixed
    arrays do not count as parameters. ``flops``: a multiply-add is two, a function of an element is one, moving an
    element is none. ``targets`` support it over several steps from zero states, with its output and last states;
    ``not_for`` are the other targets."""

    name: str
    group: str
    cell: Cell
    sizes: Mapping[str, int]
    parameters: int
    flops: int
    targets: tuple[str, ...]
    not_for: tuple[str, ...]
    backend: Backend

    @property
    def summary(self) -> str:
        """The first line of the cell's documentation."""
        return cell_summary(self.cell)

    @property
    def paper(self) -> str:
        """The rest of its documentation: the paper, shapes, the order of rows."""
        return "\n".join((inspect.getdoc(self.cell) or "").split("\n")[1:]).strip()

    @property
    def options(self) -> tuple[str, ...]:
        """Its options with their defaults: ``activation=tanh``."""
        options = self.cell.signature.options.items()
        return tuple(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in options)

    @property
    def source(self) -> str:
        """The source of the cell's function."""
        return inspect.getsource(self.cell.function)

    @property
    def step(self) -> Graph:
        """The graph of one step."""
        return _body(CellModel(self.cell).graph(T=1, **self.sizes))

    @property
    def graph(self) -> str:
        """The graph of one step, as text."""
        return print_graph(self.step)

    @property
    def text(self) -> str:
        """The whole description of the cell as text."""
        sizes = " ".join(f"{dim}={size}" for dim, size in self.sizes.items())
        facts = f"{self.parameters:,} parameters, {self.flops:,} FLOPs a step at {sizes}; for {self.fits}"
        graph = CellModel(self.cell).graph(T=1, **self.sizes)
        kept = [output.name for output in graph.outputs if output.name.removesuffix("_T") not in self.cell.states]
        if alone := [name for name in self.not_for if refusal(self.cell, self.backend, name, kept) is None]:
            facts += f"; for {', '.join(alone)} where {' and '.join(kept)} alone is kept"
        return "\n\n".join([f"{self.name} ({self.group})", self.summary, self.paper, facts, self.source, self.graph])

    @property
    def fits(self) -> str:
        """The targets that support the cell, in a few words."""
        if len(self.not_for) < len(self.targets):
            return "all targets" + (" but " if self.not_for else "") + ", ".join(self.not_for)
        return ("targets " if len(self.targets) > 1 else "target ") + ", ".join(self.targets)

    @property
    def shapes(self) -> tuple[str, str, str]:
        """The inputs, the states and the parameters, each as a text with a line for each name and its dimensions."""
        kinds = (self.cell.inputs, self.cell.states, self.cell.params)
        inputs, states, params = ("\n".join(f"{n} {d.text}" for n, d in kind.items()) for kind in kinds)
        return inputs, states, params


def cell_summary(cell: Cell) -> str:
    return (inspect.getdoc(cell) or "").split("\n")[0]


def library_cell(
    name: str, sizes: Mapping[str, int] | None = None, backend: str | Backend | None = None
) -> LibraryCell:
    """Return a description of an installed cell. A dimension that ``sizes`` lacks has a typical size. Raises
    :class:`~lstmc.errors.PluginError` for an unknown name."""
    cell = load_cell(name)
    of_it = {dim: (sizes or {}).get(dim, typical_size(dim)) for dim in cell.dims}
    whole = CellModel(cell).graph(T=1, **of_it)
    count = sum(prod(op.shape) for op in parameters(whole).values() if not op.fixed)
    loaded = backend_of(backend)
    fits = tuple(target for target in loaded.targets if _takes(loaded, target, name, cell))
    others = tuple(target for target in loaded.targets if target not in fits)
    return LibraryCell(name, group_of(name), cell, of_it, count, graph_work(_body(whole)).flops, fits, others, loaded)


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Raise :class:`~lstmc.errors.DimError` for a dimension that no cell of lstmc has, and for a size below 1."""
    cells = [name for names in cell_groups().values() for name in names] if sizes else []
    dims = sorted({dim for name in cells for dim in load_cell(name).dims})
    for dim, size in sizes.items():
        if dim not in dims:
            raise DimError(f"no cell of lstmc has a dimension {dim}{nearest_or_all(dim, dims)}")
        if size < 1:
            raise DimError(f"dimension {dim} must be at least 1, found {size}")


def _body(model: Graph) -> Graph:
    """Return the step of a cell that is scanned alone; a counter of steps, if the cell has one, is another scan."""
    (body,) = (node.op.body for node in model if isinstance(node.op, Scan) and node.op.body.name == model.name)
    return body


def _takes(backend: Backend, target: str, name: str, cell: Cell) -> bool:
    """Return whether a target supports a cell. For cells of lstmc a record has the answer; others are compiled."""
    cells = targets_written().get(backend.name, {}).get(target)
    if cells is None or group_of(name) == ELSEWHERE:
        return refusal(cell, backend, target) is None
    return name in cells


@cache
def targets_written() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return the cells of lstmc that each target supports, as ``docs/generate_cells.py`` recorded them: compiling all
    takes seconds. A test compares the record with :func:`refusal`."""
    cells_by_target: Mapping[str, Mapping[str, Sequence[str]]] = recorded("cells")
    return cells_by_target


def refusal(cell: Cell, backend: Backend, target: str, outputs: Sequence[str] | None = None) -> BackendError | None:
    """Compile a cell with these outputs (by default all). Return the error if a target does not support it, or None."""
    small = dict.fromkeys(cell.dims, 3) | {"N": 2, "D": 3, "H": 4}
    graph = CellModel(cell).graph(T=2, **{dim: small[dim] for dim in cell.dims})
    try:
        compile_graph(keep_outputs(graph, outputs), backend, target)
    except BackendError as error:
        return error
    return None


@dataclass(frozen=True)
class ListedTarget:
    """A target of a backend; a backend that does not load has a single entry without a name, with its ``fault``."""

    backend: str
    name: str
    purpose: str
    fault: str = ""


def targets() -> Iterator[ListedTarget]:
    """Yield all targets of all installed backends.

    >>> import lstmc.api
    >>> [target.name for target in lstmc.api.targets() if target.backend == "caffe"][:2]
    ['caffe', 'flat']
    """
    for name in find_backends():
        try:
            purposes = load_backend(name).targets
        except PluginError as error:
            yield ListedTarget(name, "", "", error.message)
            continue
        yield from (ListedTarget(name, target, purpose) for target, purpose in purposes.items())


REQUIRED, OPTIONAL, ADDED = "packages", "optional packages", "packages that add to lstmc"
# a package that only some uses need, what for, and the extra that installs it
EXTRAS = (("h5py", "HDF5 files", "hdf5"), ("matplotlib", "curves", "plot"), ("distributed", "sweeps", "sweep"))


def findings() -> Iterator[Finding]:
    """Yield a finding for each component, installed or missing: Python, packages, backends, plug-ins."""
    yield Finding("lstmc", True, __version__)
    yield Finding("Python", True, f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    for package, use, extra in EXTRAS:
        try:
            yield Finding(package, True, version(package), group=OPTIONAL)
        except PackageNotFoundError:
            how = f"not installed, for {use}: python -m pip install 'lstmc[{extra}]'"
            yield Finding(package, False, how, group=OPTIONAL)
    for name in find_backends():
        try:
            backend = load_backend(name)
        except PluginError as error:
            yield Finding(f"backend {name}", False, error.message, faulty=True)
            continue
        yield from backend.doctor()
    for package, parts in installed_parts().items():
        yield Finding(package, True, f"adds {'; '.join(parts)}", group=ADDED)
    yield from plugin_faults()


def _packages() -> Iterator[Finding]:
    """Yield a finding for each package that lstmc requires, installed or missing."""
    for requirement in requires("lstmc") or []:
        if ";" in requirement:  # an extra's
            continue
        name = requirement.split("<")[0].split(">")[0].split("=")[0].strip()
        try:
            yield Finding(name, True, version(name), group=REQUIRED)
        except PackageNotFoundError:
            yield Finding(name, False, f"expected {requirement}", f"{sys.executable} -m pip install '{requirement}'")
