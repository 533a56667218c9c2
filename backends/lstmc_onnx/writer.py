"""An ONNX graph under construction: nodes, constants and unique names; and imports of the optional packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np
from numpy.typing import ArrayLike

from lstmc.errors import BackendError
from lstmc.ir import OpT_co
from lstmc.plugins import need
from lstmc.text import Names
from lstmc.types import OpenSize, TensorType, UnknownSize, known


def onnx() -> Any:
    """Return the package that writes, checks and reads ONNX. Raises :class:`BackendError` if it is not installed."""
    return need("onnx", "The onnx package", "onnx", BackendError)


def onnxruntime() -> Any:
    """Return the package that runs ONNX. Raises :class:`BackendError` if it is not installed."""
    return need("onnxruntime", "ONNX Runtime", "onnx", BackendError)


OLDEST = 13  # from this opset on axes and sizes are operands, and softmax is along one axis


@dataclass(frozen=True)
class Call(Generic[OpT_co]):
    """An op to lower: the names and types of its operands and results. Sizes may be open."""

    op: OpT_co
    args: tuple[str, ...]
    types: tuple[TensorType, ...]
    results: tuple[str, ...]
    result_types: tuple[TensorType, ...]


@dataclass
class Shared:
    """The state that the main graph and its bodies share; names are unique among all of them."""

    opset: int
    names: Names = field(default_factory=Names)
    tensors: list[Any] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    dims: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # open dimension -> an input, and its axis
    sizes: dict[str, str] = field(default_factory=dict)  # values that hold a dimension's size or an input's shape
    main: Writer = field(init=False)

    def __post_init__(self) -> None:
        self.main = Writer(self)


class Writer:
    """Writes the nodes of one graph; constants are in the main graph, which bodies read too."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.nodes: list[Any] = []

    def name(self, base: str) -> str:
        """Return a unique name: ``base``, or with a number appended."""
        return self.shared.names.unique(base)

    def add(
        self, kind: str, inputs: Sequence[str], results: Sequence[str] | str, title: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node; its results have names that were taken by :meth:`name`, or one new name like ``results``.

        The node has the name of its first result, or a name like ``title``. Raises :class:`BackendError` if the opset
        has no operator of this kind.
        """
        names = (self.name(results),) if isinstance(results, str) else tuple(results)
        check_operator(kind, self.shared.opset)
        node_name = self.name(title) if title else next(filter(None, names))
        node = onnx().helper.make_node(kind, list(inputs), list(names), name=node_name, **attributes)
        self.nodes.append(node)
        return names

    def constant(self, values: ArrayLike, name: str) -> str:
        """Return the name of a small array that is the same in every run; a new array gets a name like ``name``."""
        array = np.asarray(values)
        return self._once((array.dtype.str, array.shape, array.tobytes()), lambda: self.tensor(array, name))

    def scalar(self, value: float) -> str:
        """Return the name of a scalar constant in the main graph; it is no initialiser."""
        array = np.asarray(value, np.float32)

        def write() -> str:
            tensor = onnx().numpy_helper.from_array(array)
            return self.shared.main.add("Constant", (), f"number_{value:g}", value=tensor)[0]

        return self._once(("scalar", (), array.tobytes()), write)

    def _once(self, key: tuple[str, tuple[int, ...], bytes], write: Callable[[], str]) -> str:
        """Return the name of a constant, written at its first use."""
        if key not in self.shared.constants:
            self.shared.constants[key] = write()
        return self.shared.constants[key]

    def tensor(self, array: Any, name: str) -> str:
        """Return a new initialiser."""
        tensor_name = self.name(name)
        self.shared.tensors.append(onnx().numpy_helper.from_array(np.asarray(array, order="C"), tensor_name))
        return tensor_name

    def numbers(self, values: Sequence[int], name: str) -> str:
        """Integers, such as axes and sizes."""
        return self.constant(np.asarray(values, np.int64), name)

    def shape(self, shape: Sequence[int]) -> str:
        """Return the name of a shape for a Reshape. One open or computed size is -1; other open sizes are read from
        inputs."""
        if sum(isinstance(size, UnknownSize) for size in shape) <= 1:
            return self.numbers([-1 if isinstance(size, UnknownSize) else size for size in shape], _title(shape))
        known(tuple(size for size in shape if not isinstance(size, OpenSize) and isinstance(size, UnknownSize))[1:])
        return self.add("Concat", [self._size(size) for size in shape], _title(shape), axis=0)[0]

    def filled(self, shape: Sequence[int]) -> str:
        """Return the name of the shape of an array to be filled; open sizes are read from inputs."""
        if not any(isinstance(size, UnknownSize) for size in shape):
            return self.numbers(shape, _title(shape))
        known(tuple(size for size in shape if not isinstance(size, OpenSize)))
        return self.add("Concat", [self._size(size) for size in shape], _title(shape), axis=0)[0]

    def _size(self, of: int) -> str:
        """Return a size as [1]; an open size is read from an input."""
        if not isinstance(of, OpenSize):
            left = isinstance(of, UnknownSize)
            return self.numbers([-1 if left else of], f"size_{'left' if left else of}")
        main, sizes, size = self.shared.main, self.shared.sizes, of.name
        if size not in sizes:
            source, axis = self.shared.dims[size]
            whole = f"{source}/shape"
            if whole not in sizes:
                (sizes[whole],) = main.add("Shape", (source,), whole)
            axes = self.numbers([axis], f"axis_{axis}")
            (sizes[size],) = main.add("Gather", (sizes[whole], axes), f"size/{size}", axis=0)
        return sizes[size]


def _title(shape: Sequence[int]) -> str:
    names = ("_" if isinstance(size, UnknownSize) and not isinstance(size, OpenSize) else str(size) for size in shape)
    return f"shape_{'x'.join(names) or 'of_one'}"


def newest() -> int:
    """Return the newest version of ONNX's operators that the package knows."""
    return int(onnx().defs.onnx_opset_version())


def check_opset(opset: int) -> None:
    """Raise :class:`BackendError` for a version of ONNX's operators that is too old or unknown."""
    if not OLDEST <= opset <= newest():
        raise BackendError(
            f"opset {opset}: expected {OLDEST} to {newest()}, the newest that onnx {onnx().__version__} knows"
        )


def check_operator(kind: str, opset: int) -> None:
    """Raise :class:`BackendError` unless ONNX has this operator in that opset."""
    defs = onnx().defs
    if defs.has(kind, opset):
        return
    versions = [schema for schema in defs.get_all_schemas_with_history() if (schema.name, schema.domain) == (kind, "")]
    if not versions:
        raise BackendError(f"ONNX has no operator {kind}")
    since = min(schema.since_version for schema in versions)
    raise BackendError(f"opset {opset} has no operator {kind}: expected opset {since} or newer")
