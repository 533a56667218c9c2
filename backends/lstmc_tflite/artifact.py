"""The files of a compiled net: the graph as a .tflite file with its weights, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.backend import Artifact, Compiled
from lstmc.errors import BackendError
from lstmc.ir import Ref
from lstmc.manifest import Place, describe
from lstmc.ops import Array
from lstmc.types import TensorType
from lstmc_tflite.net import Tensor, file_bytes
from lstmc_tflite.numbers import FLOAT32, Numbers, Quantiser, halve_weights
from lstmc_tflite.targets import check_net, targets
from lstmc_tflite.written import write_net

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
    live = {id(tensor) for tensor in net.tensors}

    def place(ref: Ref, tensor: Tensor) -> Place:
        return Place.from_types(graph.type(ref), ((tensor.name, TensorType(tensor.shape)),))

    inputs = {name: (place(Ref(name), tensor), False) for name, tensor in net.inputs.items() if id(tensor) in live}
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
