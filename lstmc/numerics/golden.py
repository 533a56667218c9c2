"""A kit for a board: inputs, every blob and state of some steps, and a program that compares a device with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstmc.backend import Layer
from lstmc.files.arrays import npz_bytes
from lstmc.numerics import compare
from lstmc.numerics.sequences import Sequences, StepRunner
from lstmc.ops import Array

COMPARER, VALUES, DESCRIPTION, INPUTS = "compare.py", "golden.npz", "net.json", "inputs.npz"


def golden_kit(
    runner: StepRunner, layers: Sequence[Layer], sequences: Sequences, width: int, steps: int
) -> dict[str, bytes]:
    """Return the files of a kit: the first ``steps`` steps of the first ``width`` sequences, in float32.

    ``layers`` are the layers of the written net. Each blob is an array [steps, ...] under its name in the net.
    """
    graph = runner.graph
    named = graph.named()
    tops = dict.fromkeys(top for layer in layers for top in layer.tops)
    fed = dict.fromkeys(runner.inputs)
    blobs = {name: named[name] for name in (*fed, *tops) if name in named}
    rows: dict[str, list[Array]] = {name: [] for name in blobs}
    for t, inputs in sequences.stream(slice(0, width), stop=steps):
        if t == 0:
            runner.start(inputs)
        values = runner.step(inputs)
        for name, ref in blobs.items():
            rows[name].append(values[ref])
    golden = {name: np.stack(values) for name, values in rows.items()}
    listed = [{"name": name, "type": "Input", "reads": [], "writes": [name]} for name in fed if name not in tops]
    listed += [
        {"name": layer.name, "type": layer.type, "reads": list(layer.bottoms), "writes": list(layer.tops)}
        for layer in layers
    ]
    states = [
        {"name": pair.name, "before": pair.before, "after": graph.value_name(runner.after[pair.after])}
        for pair in runner.states
    ]
    outputs = {name: graph.value_name(ref) for name, ref in runner.after.items()}
    description = {"net": graph.name, "steps": steps, "layers": listed, "states": states, "outputs": outputs}
    before: Mapping[str, Array] = {name: golden[name] for name in fed}
    return {
        DESCRIPTION: json.dumps(description, indent=1).encode(),
        INPUTS: npz_bytes(before),
        VALUES: npz_bytes(golden),
        COMPARER: Path(compare.__file__).read_bytes(),
    }
