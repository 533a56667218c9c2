"""``lstmc.load``: a net from the files that :meth:`lstmc.Net.save` or a training wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lstmc.api.models import CONVERTED, TRAINED, trained_weights, writer_of
from lstmc.api.running import On, is_gpu, layers_html
from lstmc.backend import Backend, Layer, LintReport, target_of
from lstmc.errors import BackendError, ModelFileError
from lstmc.files.arrays import AnyArray
from lstmc.files.reading import read_file, reading
from lstmc.manifest import manifest_path, read_manifest
from lstmc.nets.session import Stream, by_name
from lstmc.ops import Array
from lstmc.process.status import report_activity

NO_NETS = {
    ".py": "a model is compiled first, as by lstmc compile",
    **dict.fromkeys((suffix for suffix in TRAINED if suffix != ".onnx"), CONVERTED),
}


@dataclass(frozen=True)
class SavedNet:
    """A written net: its file ``path``, with manifest and weights beside it; ``trained`` is another file of weights."""

    path: Path
    backend: Backend
    trained: Path | None = None

    @property
    def name(self) -> str:
        """The name of its files, without suffixes."""
        return self.path.stem

    @property
    def prototxt(self) -> str:
        """The net's text. Raises :class:`~lstmc.errors.ModelFileError` if the file is not readable text."""
        try:
            return self._content().decode()
        except UnicodeDecodeError:
            raise ModelFileError(f"{self.path}: expected a net as text, found a file that is not UTF-8") from None

    def _content(self) -> bytes:
        with reading(self.path, ModelFileError):
            return read_file(self.path)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The net's layers in order: name, type, bottoms, tops, and the tops' shapes, if they are known."""
        try:
            return self.backend.layers(self._content())
        except BackendError as error:
            raise BackendError(f"{self.path}: {error.marked}", notes=error.marked_notes, mends=error.mends) from None

    @property
    def weights(self) -> dict[str, Array]:
        """The model's parameters by name, from the file of weights; packed ones are unpacked."""
        values, _ = self.read_weights()
        return values

    def read_weights(self) -> tuple[dict[str, Array], list[str]]:
        """Return the model's parameters by name, and the names of parameters that no step of the net uses."""
        suffix = self.backend.weights_suffix
        trained = self.trained or self.path.with_name(f"{self.name}{suffix}")
        return trained_weights(trained, manifest_path(self.path), self.backend)

    def run(
        self,
        inputs: Mapping[str, AnyArray] | NDArray[Any] | None = None,
        /,
        *,
        on: On | None = None,
        **named: NDArray[Any],
    ) -> dict[str, Array]:
        """Run one forward pass, and return the outputs by name, in the model's shapes. ``on`` is ``caffe-cpu``, or
        ``caffe-gpu``. Raises :class:`~lstmc.errors.DataError` that names everything that does not fit."""
        gpu = is_gpu(self.backend, on)
        arrays = by_name(inputs, named, self._inputs)
        report_activity(f"running {self.path.name}")
        return self.backend.run(self.path, arrays, self.trained, gpu)

    def _inputs(self) -> list[str]:
        manifest = read_manifest(manifest_path(self.path))
        return [name for name, entry in manifest.inputs.items() if not entry.filled]

    def __repr__(self) -> str:
        return f"<lstmc.SavedNet {self.path}, of backend {self.backend.name}>"

    @contextmanager
    def stream(self, on: On | None = None) -> Iterator[Stream]:
        """Run a net compiled with ``step=True`` step by step; see :meth:`lstmc.Net.stream`."""
        with Stream(self.backend.opened(self.path, self.trained, is_gpu(self.backend, on))) as step:
            yield step

    def lint(self, target: str | None = None) -> tuple[str, LintReport]:
        """Check the net against a target, by default the backend's first. Return the target's name and the report.
        Raises :class:`~lstmc.errors.BackendError` for a file that is not a net."""
        name = target_of(self.backend, target)
        report_activity(f"checking {self.path.name} against {name}")
        try:
            return name, self.backend.lint(self.path, name)
        except BackendError as error:
            raise BackendError(f"{self.path}: {error.marked}", notes=error.marked_notes, mends=error.mends) from None

    def __str__(self) -> str:
        return f"{self.path}: {len(self.layers)} layers"

    def _repr_html_(self) -> str:
        return layers_html(str(self), self.layers)


def load(path: str | Path, *, weights: str | Path | None = None, backend: str | Backend | None = None) -> SavedNet:
    """Load a net from its files: ``NAME.prototxt`` with ``NAME.manifest.json`` and ``NAME.caffemodel`` beside it, or
    those of another backend. ``weights`` is another caffemodel, such as a snapshot's. The backend is the one that wrote
    the net, by its manifest, if there is one, or else Caffe's. Raises :class:`~lstmc.errors.ModelFileError` for a
    missing file.

    >>> import lstmc, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = lstmc.compile("rnn", T=2, N=1, D=3, H=3).save(folder)
    ...     net = lstmc.load(f"{folder}/rnn.prototxt")
    ...     len(net.layers), sorted(net.weights)
    (10, ['rnn/W_h', 'rnn/W_x', 'rnn/b'])
    """
    if not os.path.exists(path):
        raise ModelFileError(f"no such file: {path}")
    net = Path(path)
    if net.suffix in NO_NETS and not os.path.exists(manifest_path(net)):
        raise ModelFileError(f"{path} is no net: expected a file that lstmc compiled; {NO_NETS[net.suffix]}")
    return SavedNet(net, writer_of(manifest_path(net), backend), None if weights is None else Path(weights))
