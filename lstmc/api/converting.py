"""``lstmc.convert``: from a trained model of another framework to a net, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lstmc.api.build import DimensionSize, all_sizes, backend_of, part
from lstmc.api.compiling import compile
from lstmc.api.net import Net
from lstmc.api.places import On
from lstmc.api.verification import Verification
from lstmc.backend import Backend, Violation
from lstmc.verify.differential import Difference
from lstmc.importers import ImportedModel, SourceCheck, check_source, import_file, prove
from lstmc.api.models import model_in
from lstmc.ops import Array
from lstmc.files.output import write_files


@dataclass(frozen=True)
class Conversion:
    """What one trained model became: the written model, its net, and how far each is from what it was made from.

    ``proof`` holds the written model's outputs, computed by the interpreter, against NumPy on the source's own
    description; ``source`` the same against what runs the source, where that is installed; ``verification`` the written
    net against the interpreter, wherever it can be run here. ``remarks`` are what a person should know of the files.
    """

    model: ImportedModel
    net: Net
    paths: tuple[Path, ...]
    proof: tuple[Difference, ...]
    verification: Verification
    source: SourceCheck | None = None
    remarks: tuple[str, ...] = ()
    findings: tuple[Violation, ...] = ()  # of layers copied from the source, that the target's reader cannot load

    def __repr__(self) -> str:
        outcome = (
            "everything agrees"
            if self.passed
            else "something differs: see .proof, .source, .verification and .findings"
        )
        return f"<lstmc.Conversion of {self.model!r} to {self.net!r}: {outcome}>"

    @property
    def passed(self) -> bool:
        """Whether every output and gradient is within its tolerance, and the target's reader can load every layer.

        Blobs inside the net are told and do not count: a trained net may be sensitive there and not at its outputs.
        """
        found = [*self.proof, *(self.source.differences if self.source else ())]
        found += [d for report in self.verification.reports for d in report.differences if d.kind != "blob"]
        return not self.findings and all(difference.passed for difference in found)


def convert(
    source: str | Path | ImportedModel,
    folder: str | Path,
    *,
    target: str | None = None,
    backend: str | Backend | None = None,
    sizes: Mapping[str, int] | None = None,
    activation: Literal["tanh", "relu"] | None = None,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] = {},
    values: Mapping[str, Array] = {},
    recurrent_only: bool = False,
    step: bool = False,
    on: On | None = None,
    seed: int = 0,
    whole: bool = False,
    **dims: DimensionSize,
) -> Conversion:
    """Import a trained model (:func:`lstmc.import_file`), compile it for a target, and compare each step with the last.

    ``folder`` gets ``model.py``, ``weights.npz`` and ``import.json``, and the net's files. Of a Caffe net
    with recurrent layers of Caffe's own these alone are replaced, and the whole net written, ``NAME.TARGET.prototxt``
    with its caffemodel; for another backend than Caffe's, and with ``whole``, all of its layers are imported.
    The sizes that the source leaves open are given as :func:`lstmc.compile` takes them, ``T=20`` or
    ``sizes={"T": 20}``. With ``step`` the net is one of one time step, to be streamed, and the model one that can be
    (:func:`lstmc.import_file`). ``on`` is a place where the net is run, or several; without it all that can be used
    here.
    Raises :class:`~lstmc.errors.LstmcError` of some kind for what cannot be read, expressed or compiled.
    """
    model = (
        source
        if isinstance(source, ImportedModel)
        else import_file(
            source,
            activation=activation,
            config=config,
            weights=weights,
            shapes=shapes,
            values=values,
            recurrent_only=recurrent_only,
            step=step,
        )
    )
    backend = backend_of(backend, target)
    if model.surroundings is not None and (whole or model.surroundings.backend != backend.name):
        model = model.whole()
    folder = Path(folder)
    paths = write_files(folder, model.files())
    written, sizes = model_in(str(folder / "model.py")).model, all_sizes(sizes, dims)
    net = compile(written, target=target, backend=backend, weights=folder / "weights.npz", sizes=sizes, step=step)
    remarks: tuple[str, ...] = ()
    findings: tuple[Violation, ...] = ()
    if model.surroundings is None:
        paths += net.save(folder)
    else:
        files = model.surroundings.files(net.artifact, net.compiled.target)
        paths += write_files(folder, files)
        remarks = tuple(model.surroundings.remarks(files, net.compiled.target))
        findings = tuple(model.surroundings.findings(files, net.compiled.target))
    # the whole model, at the sizes of the source, of which the net may have one step, or others
    whole_model = replace(net.compiled, model=part(written.graph(**{**sizes, **model.net.sizes}), "deploy"))
    proof = prove(model, whole_model, net.weights, seed)
    source_check = check_source(model, whole_model, net.weights, seed)
    return Conversion(model, net, tuple(paths), proof, net.verify(on, seed), source_check, remarks, findings)
