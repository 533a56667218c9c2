"""The kit for a board: mistakes that are put into a device are found, at their layer, and called what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc.api.low_precision import StreamedModel
from lstmc.backend import Compiled
from lstmc.errors import DataError
from lstmc.ir import Graph, Node
from lstmc.numerics.compare import Off, compare, read
from lstmc.numerics.sequences import StepRunner

STEPS, N, D, H = 8, 3, 5, 6
CELLS = {"gru": "rknn", "lstm": "flat", "gru_reset_after": "noslice", "ugrnn": "flat", "lstm_peephole": "tpu-mlir"}
Array = np.ndarray
Results = tuple[Array, ...]


@cache
def streamed(cell: str) -> StreamedModel:
    rng = np.random.default_rng(7)
    shapes = {name: array.shape for name, array in lstmc.compile(cell, T=1, N=1, D=D, H=H).weights.items()}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    net = lstmc.compile(cell, T=1, N=1, D=D, H=H, weights=weights, target=CELLS[cell])
    x = rng.standard_normal((STEPS, N, D)).astype(np.float32)
    options = replace(net.options, target=net.target)
    return StreamedModel.from_data(net.source, net.backend, options, weights, {"x": x})


@cache
def compiled(cell: str) -> Compiled:
    return streamed(cell).compiled(N)


@cache
def kit(cell: str, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    for name, content in streamed(cell).golden(STEPS, N).items():
        (folder / name).write_bytes(content)
    return json.loads((folder / "net.json").read_text()), read(folder / "golden.npz")


class Fault:
    """A device with a mistake in one layer: what it computes is changed as soon as it is computed."""

    def __init__(self, layer: str, change: Callable[[Array, Sequence[Array]], Array]) -> None:
        self.layer, self.change = layer, change

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        return args

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Results) -> Results:
        if node.name != self.layer:
            return results
        return (np.asarray(self.change(results[0], args), results[0].dtype), *results[1:])


def device(
    cell: str, golden: Mapping[str, Array], fault: Fault | None = None, carried: str = "carried"
) -> dict[str, Array]:
    """What a device gives that has a mistake."""
    model = streamed(cell)
    runner = StepRunner(compiled(cell), model.weights, fault)
    names: dict[str, Any] = {}
    rows: dict[str, list[Array]] = {name: [] for name in golden}
    arrays = model.sequences.read(slice(0, N), 0, STEPS)
    first: dict[str, Array] = {}
    before: dict[str, Array] = {}
    for t in range(STEPS):
        if t == 0:
            runner.start()
            first = before = runner.current
        elif carried == "dropped":
            runner.resume(first)
        elif carried == "late":
            before, now = runner.current, before
            runner.resume(now)
        values = runner.step(model.sequences.step(arrays, t))
        names = names or {runner.graph.value_name(ref): ref for ref in values}
        for name in golden:
            rows[name].append(values[names[name]])
    return {name: np.stack(values) for name, values in rows.items()}


def halves(y: Array, args: Sequence[Array]) -> Array:
    return np.roll(y, y.shape[-1] // 2, axis=-1)


MISTAKES: dict[str, tuple[Callable[[Array, Sequence[Array]], Array], str]] = {
    "scale": (lambda y, args: 0.5 * y, "a missing or wrong scale: 0.5 times"),
    "sign": (lambda y, args: -y, "a sign"),
    "offset": (lambda y, args: y + np.linspace(0.1, 0.4, y.shape[-1]), "an offset"),
    "zero": (lambda y, args: 0 * y, "a blob that is never written"),
    "overflow": (lambda y, args: np.where(y == y.max(), np.inf, y), "an overflow"),
    "channels": (lambda y, args: np.flip(y, axis=-1), "a reversed axis"),
    "gates": (halves, "an order of gates"),
    "sequences": (lambda y, args: np.roll(y, 1, axis=0), "an order of sequences"),
    "scales": (lambda y, args: y * np.linspace(0.5, 2, y.shape[-1]), "a missing or wrong scale for each channel"),
    "rounding": (lambda y, args: np.rint(8 * y) / 8, "a rounding"),
}
OF_CHANNELS = ("an offset", "a missing or wrong scale for each channel", "a rounding")  # the same where h is zero
FUNCTIONS: dict[str, tuple[Callable[[Array, Sequence[Array]], Array], str]] = {
    "Sigmoid": (lambda y, args: np.clip(0.2 * args[0] + 0.5, 0, 1), "another function: a hard sigmoid of slope 0.2"),
    "TanH": (lambda y, args: np.clip(args[0], -1, 1), "another function: a hard tanh"),
}


def test_a_hundred_mistakes_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    count, missed = 0, []
    for cell in CELLS:
        folder = tmp_path / cell
        folder.mkdir()
        net, golden = kit(cell, folder)
        layers = {layer["name"]: layer for layer in net["layers"] if layer["reads"]}
        cases = [(str(rng.choice(list(layers))), *mistake) for mistake in list(MISTAKES.values()) * 2]
        cases += [(name, *FUNCTIONS[layer["type"]]) for name, layer in layers.items() if layer["type"] in FUNCTIONS]
        for name, change, told in cases:
            found = compare(net, golden, device(cell, golden, Fault(name, change)))
            count += 1
            told = (told, "an offset, or a scale or a rounding") if told in OF_CHANNELS else (told,)
            if found is None or found.layer != name or not found.mistake.startswith(told) or found.unseen:
                missed.append((cell, name, layers[name]["type"], told, str(found)))
    assert count >= 100
    assert missed == []


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("carried", ["dropped", "late"])
def test_a_state_that_is_not_carried_is_named(tmp_path: Path, cell: str, carried: str) -> None:
    net, golden = kit(cell, tmp_path)
    given = device(cell, golden, carried=carried)
    found = compare(net, golden, given)
    assert isinstance(found, Off)
    assert found.type == "Input"
    assert found.step == 1
    told = "a state that is not carried: " if carried == "dropped" else "a state that is a step late: "
    assert found.mistake.startswith(told)
    hidden = {name: array for name, array in given.items() if not name.endswith("_in")}
    found = compare(net, golden, hidden)
    assert isinstance(found, Off)
    assert found.step == 1
    assert any(name.endswith("_in") for name in found.unseen)


def test_axes_and_sizes_that_differ(tmp_path: Path) -> None:
    net, golden = kit("gru", tmp_path)
    name = "gru/t000/h"
    for array, told in (
        (np.swapaxes(golden[name], 1, 2), "an axis order: the axes are [1, 0] of the golden ones"),
        (golden[name].reshape(STEPS, N * H), "another shape of the same elements: expected [3, 6], found [18]"),
        (golden[name][:, :, 1:], "another size: expected [3, 6], found [3, 5]"),
    ):
        found = compare(net, golden, {**golden, name: array})
        assert isinstance(found, Off)
        assert (found.blob, found.mistake) == (name, told)


def test_other_weights_are_no_simple_mistake(tmp_path: Path) -> None:
    net, golden = kit("gru", tmp_path)
    other = np.random.default_rng(0).standard_normal((12, H))
    found = compare(net, golden, device("gru", golden, Fault("gru/t000/linear_W_h", lambda y, args: args[0] @ other.T)))
    assert isinstance(found, Off)
    assert found.layer == "gru/t000/linear_W_h"
    assert found.mistake.startswith("other weights")


def test_the_comparer_needs_numpy_alone(tmp_path: Path) -> None:
    _, golden = kit("lstm", tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(tmp_path / "compare.py"), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    fine = run(str(tmp_path / "golden.npz"))
    assert (fine.returncode, fine.stdout) == (0, f"all {len(golden)} blobs that were compared agree (0 are missing)\n")
    wrong = device("lstm", golden, Fault("lstm/t000/c", lambda y, args: 2 * y))
    for name, array in wrong.items():
        (tmp_path / "board" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "board" / f"{name}.npy", array)
    ended = run(str(tmp_path / "board"))
    assert ended.returncode == 1
    assert ended.stdout.startswith("first layer off: lstm/t000/c (Eltwise), blob lstm/t000/c, from step 0 on\n")
    assert "a missing or wrong scale: 2 times the golden values" in ended.stdout
    imported = [line for line in (tmp_path / "compare.py").read_text().splitlines() if line.startswith("from lstmc")]
    assert not imported


def test_golden_values_are_those_of_the_net(tmp_path: Path) -> None:
    _, golden = kit("gru", tmp_path)
    model = streamed("gru")
    whole = lstmc.compile("gru", T=STEPS, N=N, D=D, H=H, weights=model.weights)
    y = whole.run(x=read(tmp_path / "inputs.npz")["x"].reshape(STEPS, N, D), on="interpreter")["y"]
    assert np.abs(golden["gru/t000/h"] - y).max() < 1e-5
    assert (golden["gru/h_in"][1:] == golden["gru/t000/h"][:-1]).all()


def test_more_steps_than_the_data_have() -> None:
    with pytest.raises(DataError, match="expected 1 to 8 steps, as the data have, found 9"):
        streamed("gru").golden(9)


def test_the_command(lstmc: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((6, 2, 3)))
    ended = lstmc(
        *[
            "numbers",
            "golden",
            "--cell",
            "gru",
            "-D",
            "H=4",
            "-D",
            "N=2",
            "--data",
            "x.npz",
            "--steps",
            "4",
            "-o",
            "kit",
        ]
    )
    assert ended.code == 0, ended.err
    assert read(tmp_path / "kit" / "golden.npz")["gru/t000/h"].shape == (4, 2, 4)
    assert (tmp_path / "kit" / "gru.prototxt").exists()
