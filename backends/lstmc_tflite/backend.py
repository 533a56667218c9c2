"""The TFLite backend: its targets, its files, and running them in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from lstmc.backend import Artifact, Compiled, Layer
from lstmc.errors import BackendError
from lstmc.ir import Ref
from lstmc.manifest import Place, describe
from lstmc.nets.session import RunsFiles
from lstmc.ops import Array, Full, Input, Op
from lstmc.passes import Pass
from lstmc.process.status import gc_paused
from lstmc.types import TensorType
from lstmc_tflite import examples
from lstmc_tflite.lowerings import lowerings, write_net
from lstmc_tflite.net import Tensor, file_bytes, read_net
from lstmc_tflite.numbers import FLOAT32, Numbers, Quantiser, halve_weights
from lstmc_tflite.passes import INTEGERS, PASSES, WIDER_STATES
from lstmc_tflite.runtime import MicroExecutor, ReferenceExecutor, TfliteExecutor, VelaExecutor, findings, loaded_net
from lstmc_tflite.targets import check_net, lint_file, targets

SUFFIX = ".tflite"
FLOATS = "in float32 this target's compiler leaves the whole net to the CPU: give it numbers=a8w8 and ranges=FILE"


def artifact(compiled: Compiled, weights: Mapping[str, Array], numbers: Numbers = FLOAT32) -> Artifact:
    """``NAME.tflite`` and ``NAME.manifest.json``. Same input, same bytes."""
    graph, written = compiled.expanded, write_net(compiled, weights)
    net, target = written.net, targets()[compiled.target]
    if numbers.integers:
        Quantiser(written, compiled, weights, numbers).run()
    elif numbers.device is not None:
        if compiled.target != "tflite":
            raise BackendError(
                f"target {compiled.target} has no weights in float16: expected target tflite, or numbers of integers"
            )
        halve_weights(net)
    check_net(net, compiled.target, graph)
    live = {*net.tensors}

    def place(ref: Ref, tensor: Tensor) -> Place:
        return Place.from_types(graph.type(ref), ((tensor.name, TensorType(tensor.shape)),))

    inputs = {name: (place(Ref(name), tensor), False) for name, tensor in net.inputs.items() if tensor in live}
    outputs = {output.name: place(output.ref, net.outputs[output.name]) for output in graph.outputs}
    manifest = describe(compiled, weights, inputs=inputs, outputs=outputs, weights=written.weights)
    needs_integers = target.numbers == "integers" and not numbers.integers
    counts = f"{len(net.operators)} operators of {len({o.code for o in net.operators})} kinds"
    content = file_bytes(net)
    return Artifact(
        files={f"{compiled.name}{SUFFIX}": content, f"{compiled.name}.manifest.json": manifest.text().encode()},
        layers=len(net.operators),
        inputs={name: entry.place.label for name, entry in manifest.inputs.items()},
        outputs={name: each.label for name, each in manifest.outputs.items()},
        notes=(
            *manifest.first_values(),
            f"{counts}, {len(content)} bytes",
            *([FLOATS] if needs_integers else []),
        ),
    )


@dataclass(frozen=True)
class TfliteBackend(RunsFiles):
    """Writes one step of a net as a .tflite file, states as inputs and outputs, and runs it in LiteRT.

    ``numbers`` is the number format of the net.
    """

    numbers: Numbers = FLOAT32
    name: ClassVar[str] = "tflite"
    summary: ClassVar[str] = "TFLite: one step as NAME.tflite, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {name: target.summary for name, target in targets().items()}
    options: ClassVar[Mapping[str, str]] = {
        "numbers": "float32, fp16 (weights), a8w8, a16w8, a8w8-s16 (states in 16 bits), a device as tflm-a8w8, or"
        " FILE.toml; float32",
        "ranges": "for integers: the range of each value, a file that lstmc numbers ranges wrote",
    }
    one_step: ClassVar[bool] = True
    net_suffix: ClassVar[str] = SUFFIX
    weights_suffix: ClassVar[str] = SUFFIX

    @property
    def ops(self) -> tuple[type[Op], ...]:  # type: ignore[override]  # packages that are installed have some
        """The ops with a lowering, inputs and constants."""
        return (Input, Full, *lowerings)

    def with_options(self, values: Mapping[str, str]) -> TfliteBackend:
        """Return the backend with another number format."""
        return replace(self, numbers=self.numbers.with_options(values))

    def for_integers(self, wide_states: bool) -> TfliteBackend:
        """Return the backend with the passes of integers."""
        return replace(self, numbers=Numbers.of("a8w8-s16" if wide_states else "a8w8", {}))

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the list of passes."""
        if not self.numbers.integers:
            return PASSES
        return WIDER_STATES if self.numbers.widens_states else INTEGERS

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """``NAME.tflite`` and ``NAME.manifest.json``."""
        with gc_paused():
            return artifact(compiled, weights, self.numbers)

    lint = staticmethod(lint_file)
    loaded = staticmethod(loaded_net)
    example = staticmethod(examples.example)
    doctor = staticmethod(findings)

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        """Return every operator of a net, with the shapes of its results."""
        return tuple(
            Layer(
                operator.outputs[0].name,
                operator.code,
                tuple(tensor.name for tensor in operator.inputs),
                tuple(tensor.name for tensor in operator.outputs),
                tuple(tensor.shape for tensor in operator.outputs),
            )
            for operator in read_net(net).operators
        )

    def executors(self) -> Sequence[TfliteExecutor]:
        """Return LiteRT with two sets of kernels, TFLite Micro, and for integers Vela."""
        kinds = (TfliteExecutor, ReferenceExecutor, MicroExecutor, VelaExecutor)
        return tuple(each(self.numbers) for each in kinds)
