"""``lstmc inspect``: nets told from their files; states that are lost are named, and whole nets are not accused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

import lstmc
from lstmc.importers import SourceError
from tests.cli.conftest import LSTMC
from tests.cli.conftest import lstmc as command  # noqa: F401
from tests.importers.dual_path_nets import NETS
from tests.importers.one_frame_nets import CASES, PLANTS, planted
from tests.quick_sample import one_in

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
PROVED = [name for name, case in CASES.items() if case.proved]
SAME = ("gru cell whose state is its output", "gru with reset before")  # output y has the next state too


class Sequence(nn.Module):
    """A recurrent layer over a sequence of any length, whose first states are inputs and last ones outputs."""

    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.layer, self.product = layer, nn.Linear(size, 4)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, last = self.layer(x, states[0] if len(states) == 1 else states or None)
        return self.product(y), *(() if not states else last if isinstance(last, tuple) else (last,))


def export(
    module: nn.Module, arrays: tuple[Tensor, ...], path: Path, names: list[str], outputs: list[str]
) -> ModelProto:
    """The module as ONNX; axis 1 of a sequence x [1, 9, 6] is open."""
    axes = {"x": {1: "T"}, "y": {1: "T"}} if arrays[0].ndim == 3 else None
    torch.onnx.export(
        module.eval(), arrays, path, input_names=names, output_names=outputs, dynamic_axes=axes, dynamo=False,
        opset_version=17,
    )  # fmt: skip
    return onnx.load(path)


def sequence(layer: Any, states: int, path: Path) -> ModelProto:
    torch.manual_seed(0)
    names = [f"{kind}_{i}" for kind in ("in", "out") for i in range(states)]
    arrays = (torch.rand(1, 9, 6), *(torch.rand(layer.num_layers, 1, 5) for _ in range(states)))
    return export(Sequence(layer, 5), arrays, path, ["x", *names[:states]], ["y", *names[states:]])


LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "a sequence of gru": (lambda: nn.GRU(6, 5, batch_first=True), 1),
    "a sequence of rnn": (lambda: nn.RNN(6, 5, batch_first=True), 1),
    "a sequence of lstm": (lambda: nn.LSTM(6, 5, batch_first=True), 2),
    "a sequence of two lstm": (lambda: nn.LSTM(6, 5, 2, batch_first=True), 2),
}


def whole(name: str, folder: Path) -> ModelProto:
    return CASES[name].model() if name in CASES else sequence(LAYERS[name][0](), LAYERS[name][1], folder / "net.onnx")


def constant(model: ModelProto, index: int) -> ModelProto:
    """An input made constant, as by an exporter whose example is kept."""
    info = next(info for info in model.graph.input if info.name == f"in_{index}")
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    model.graph.input.remove(info)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), info.name))
    return model


def dropped(model: ModelProto, index: int) -> ModelProto:
    model.graph.output.remove(next(info for info in model.graph.output if info.name == f"out_{index}"))
    return model


def swapped(model: ModelProto, index: int) -> ModelProto:
    """The outputs of two states that follow each other, with their names exchanged."""
    names = {f"out_{index}": f"out_{index + 1}", f"out_{index + 1}": f"out_{index}"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def breaks() -> Iterator[tuple[str, Callable[[ModelProto, int], ModelProto], int]]:
    shapes = {name: CASES[name].states for name in PROVED} | {n: [()] * count for n, (_, count) in LAYERS.items()}
    for name, states in shapes.items():
        for index, shape in enumerate(states):
            yield name, constant, index
            if name not in SAME:
                yield name, dropped, index
            if index + 1 < len(states) and states[index + 1] == shape:
                yield name, swapped, index


BREAKS = [*breaks()]


def inspected(model: ModelProto, folder: Path, **options: object) -> lstmc.Inspection:
    onnx.save(model, folder / "net.onnx")
    return lstmc.inspect(folder / "net.onnx", **options)


def test_a_hundred_nets_are_broken() -> None:
    assert len(BREAKS) >= 100


@pytest.mark.parametrize("broken", one_in(8, BREAKS, tested=4))
def test_a_state_that_is_lost_is_named(broken: tuple[str, Callable[..., ModelProto], int], tmp_path: Path) -> None:
    name, change, index = broken
    lost = [past for past in inspected(change(whole(name, tmp_path), index), tmp_path).pasts if past.lost]
    assert any(f"{side}_{index}" in (past.input, past.output) for past in lost for side in ("in", "out")), lost


@pytest.mark.parametrize("name", one_in(4, [*PROVED, *LAYERS], tested=2))
def test_a_whole_net_is_not_accused(name: str, tmp_path: Path) -> None:
    found = inspected(whole(name, tmp_path), tmp_path)
    count = len(CASES[name].states) if name in CASES else LAYERS[name][1]
    assert {past.input: past.output for past in found.pasts} == {f"in_{i}": f"out_{i}" for i in range(count)}
    assert not found.lost


@pytest.mark.parametrize("name", [name for name in CASES if name not in PROVED])
def test_a_net_whose_states_are_not_proved_is_not_accused(name: str, tmp_path: Path) -> None:
    assert not inspected(whole(name, tmp_path), tmp_path).lost


def test_a_state_that_is_not_proved_is_listed(tmp_path: Path) -> None:
    found = inspected(whole("a mean of the past", tmp_path), tmp_path)
    assert found.perhaps == (("in_0", "out_0"),)
    assert "not proved, but may be states\n  in_0 -> out_0\n" in f"{found}\n"


@pytest.mark.parametrize("planted_in", one_in(16, [(name, kind) for name in PROVED for kind in PLANTS], tested=8))
def test_what_looks_like_a_state_is_not_accused(planted_in: tuple[str, str], tmp_path: Path) -> None:
    name, kind = planted_in
    assert not inspected(planted(CASES[name], kind), tmp_path).lost


@pytest.mark.parametrize("name", NETS)
def test_a_net_over_bands_and_frames(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export(NETS[name](), (torch.rand(1, 2, 7, 8),), tmp_path / "net.onnx", ["x"], ["y"])
    found = lstmc.inspect(tmp_path / "net.onnx")
    assert found.inputs[0].axes == ("batch", "feature", "time", "band")
    assert {"over time"} < {part.over.partition(",")[0] for part in found.parts}
    assert not found.lost


def test_the_second_layer_of_a_sequence_starts_from_zeros(tmp_path: Path) -> None:
    """Its last state is an output; the batch of one is an axis of that output, and not of the loop's state."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRU(6, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
            y, h = self.a(x, h)
            return (*self.b(y), h)

    arrays = (torch.rand(1, 9, 6), torch.rand(1, 1, 5))
    export(Net(), arrays, tmp_path / "net.onnx", ["x", "h"], ["y", "g", "next"])
    torch.export.save(torch.export.export(Net(), arrays), tmp_path / "net.pt2")
    for file, output in (("net.onnx", "g"), ("net.pt2", "Y_1")):
        (lost,) = [past for past in lstmc.inspect(tmp_path / file).pasts if past.lost]
        assert lost.lost == f"it starts from zeros at every call: {output} has its next value, and no input takes it"
        assert (lost.input, lost.output) == ("", output)


@pytest.mark.parametrize("both", [True, False])
def test_loops_over_bands_start_from_zeros_at_each_step_and_lose_nothing(both: bool, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands = nn.GRU(6, 5, batch_first=True, bidirectional=both)
            self.time = nn.GRU(10 if both else 5, 5, batch_first=True)

        def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            n, t, b, d = x.shape
            y = self.bands(x.reshape(n * t, b, d))[0].reshape(n, t, b, -1)
            y, h = self.time(y.transpose(1, 2).reshape(n * b, t, -1), *state)
            return (y, h) if state else (y,)

    for arrays in ((torch.rand(1, 9, 7, 6), torch.rand(1, 7, 5)), (torch.rand(1, 9, 7, 6),)):
        torch.onnx.export(
            Net().eval(), arrays, tmp_path / "net.onnx", input_names=["x", "h"][: len(arrays)],
            output_names=["y", "next"][: len(arrays)], dynamic_axes={"x": {1: "T"}}, dynamo=False,
        )  # fmt: skip
        found = lstmc.inspect(tmp_path / "net.onnx")
        assert not found.lost
        assert [(past.input, past.output) for past in found.pasts] == [("h", "next")][: len(arrays) - 1]
        assert found.inputs[0].axes == ("batch", "time", "band", "feature")


def test_an_input_that_is_moved_on_is_no_state_where_nothing_else_comes_in(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(6, 5, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([x, nn.functional.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1]], -1)
            return self.layer(x.flatten(0, 1))[0]

    torch.export.save(torch.export.export(Net(), (torch.rand(1, 9, 7, 3),)), tmp_path / "net.pt2")
    assert not lstmc.inspect(tmp_path / "net.pt2").lost


def test_a_layer_that_sees_the_future_has_a_delay(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.layer = nn.Conv1d(6, 8, 5, padding=2), nn.GRU(8, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.conv(x.transpose(1, 2)).transpose(1, 2))[0]

    export(Net(), (torch.rand(1, 9, 6),), tmp_path / "net.onnx", ["x"], ["y"])
    found = lstmc.inspect(tmp_path / "net.onnx")
    assert found.inputs[0].shape == (1, "T", 6)
    assert found.inputs[0].axes == ("batch", "time", "feature")
    assert any("2 steps late" in note for note in found.notes)
    assert (
        found.parameters == sum(weight.numel() for weight in Net().parameters()) - 2 * 5
    )  # two biases of a gate are one
    assert found.multiply_adds == 8 * 6 * 5 + 3 * 5 * (8 + 5)
    assert str(found.parts[0]).startswith("GRU 1 x 5 over time")


def test_a_cell_that_is_written_out_is_found(tmp_path: Path) -> None:
    (part,) = inspected(CASES["gru cell"].model(), tmp_path).parts
    assert part.kind.startswith("GRU written out in")
    assert part.units == (5,)


def unread() -> ModelProto:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], "first"),
        helper.make_node("Det", ["x"], ["b"], "second"),
        helper.make_node("Hardmax", ["a"], ["c"], "behind"),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [4, 3, 3]), ("y", [4]))
    )
    return helper.make_model(helper.make_graph(nodes, "net", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])


def test_operators_that_are_not_read_are_told_all_at_once(tmp_path: Path) -> None:
    found = inspected(unread(), tmp_path)
    assert {(one.what, one.count) for one in found.unread} == {("Det", 2), ("Hardmax", 1)}
    assert found.lost
    assert found.inputs[0].name == "x"


def test_the_command_prints_one_screen_and_exits_with_1_where_a_state_is_lost(
    tmp_path: Path,
    command: LSTMC,  # noqa: F811
) -> None:
    onnx.save(CASES["lstm"].model(), tmp_path / "whole.onnx")
    onnx.save(constant(CASES["lstm"].model(), 0), tmp_path / "lost.onnx")
    done = command("inspect", "whole.onnx")
    assert done.code == 0
    assert "in_0 -> out_0" in done.out
    assert done.out.count("\n") < 24
    done = command("inspect", "lost.onnx", "--json")
    assert done.code == 1
    facts = json.loads(done.out)
    assert facts["lost"]
    assert [past["output"] for past in facts["pasts"] if past["lost"]] == ["out_0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lost.onnx", "whole.onnx"]


def test_a_notebook_shows_it(tmp_path: Path) -> None:
    found = inspected(CASES["gru"].model(), tmp_path)
    assert found._repr_html_().startswith("<pre>net.onnx (ONNX)")
    assert "in_0 -&gt; out_0" in found._repr_html_()


def test_a_file_of_another_format_is_inspected_and_its_lists_ask_for_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = torch.export.export(Sequence(nn.LSTM(6, 5, batch_first=True), 5).eval(), (torch.rand(1, 9, 6),))
    torch.export.save(program, tmp_path / "net.pt2")
    found = lstmc.inspect(tmp_path / "net.pt2")
    assert [str(part).partition(":")[0] for part in found.parts] == ["LSTM 1 x 5 over time"]
    assert not found.lost
    with pytest.raises(SourceError, match="convert the file for backend onnx, and inspect that net"):
        lstmc.inspect(tmp_path / "net.pt2", runtimes=["rknn"])


def test_the_layers_of_a_state_dict_lose_nothing(tmp_path: Path) -> None:
    torch.save(nn.LSTM(6, 5, 2).state_dict(), tmp_path / "net.pt")
    found = lstmc.inspect(tmp_path / "net.pt")
    assert [str(part).partition(":")[0] for part in found.parts] == ["LSTM 2 x 5 over time"]
    assert found.multiply_adds == 4 * 5 * (6 + 5) + 4 * 5 * (5 + 5)
    assert not found.lost


class Cells(nn.Module):
    """Two cells of one step, of which the second starts from zeros at each call."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.first, self.second = nn.GRUCell(6, 5), kind(5, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        following = self.first(x, h)
        last = self.second(following)
        return following, *(last if isinstance(last, tuple) else (last,))


@pytest.mark.parametrize(("kind", "lost"), [(nn.GRUCell, ["out_1"]), (nn.LSTMCell, ["out_1", "out_2"])])
def test_a_cell_of_one_step_without_a_state_starts_from_zeros(kind: Any, lost: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    outputs = ["out_0", *lost]
    export(Cells(kind), (torch.rand(1, 6), torch.rand(1, 5)), tmp_path / "net.onnx", ["x", "in_0"], outputs)
    found = lstmc.inspect(tmp_path / "net.onnx")
    assert [(past.input, past.output) for past in found.pasts if not past.lost] == [("in_0", "out_0")]
    assert [past.output for past in found.pasts if past.lost] == lost


@pytest.mark.parametrize("open_axes", [{}, {0: "N"}, {1: "T"}, {0: "N", 1: "T"}])
def test_multiply_adds_are_those_of_a_step(open_axes: dict[int, str], tmp_path: Path) -> None:
    net, axes = Sequence(nn.GRU(6, 5, batch_first=True), 5).eval(), {"x": open_axes, "y": open_axes}
    torch.onnx.export(
        net, (torch.rand(1, 9, 6),), tmp_path / "net.onnx", input_names=["x"], output_names=["y"], dynamic_axes=axes,
        dynamo=False, opset_version=17,
    )  # fmt: skip
    assert lstmc.inspect(tmp_path / "net.onnx").multiply_adds == 3 * 5 * (6 + 5) + 4 * 5


def test_weights_in_nodes_are_parameters(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32))
    nodes = [helper.make_node("Constant", [], ["W"], value=weight), helper.make_node("MatMul", ["x", "W"], ["y"])]
    puts = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])] for name, size in (("x", 4), ("y", 3))]
    model = helper.make_model(helper.make_graph(nodes, "net", *puts), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "net.onnx")
    assert lstmc.inspect(tmp_path / "net.onnx").parameters == 12


CAFFE = """name: "old"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 1 dim: 3 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 6 dim: 1 } } }
layer { name: "y" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param { num_output: 5 } }
"""


@pytest.mark.parametrize("constant", [{}, {"cont": 1.0}], ids=["cont is an input", "cont is 1"])
def test_caffes_own_recurrent_layers_are_recognised(constant: dict[str, float], tmp_path: Path) -> None:
    lstmc.compile("lstm", T=6, N=1, D=3, H=5, target="caffe-native", outputs=["y"]).save(tmp_path)
    (tmp_path / "old.prototxt").write_text(CAFFE)
    found = lstmc.inspect(tmp_path / "old.prototxt", weights=tmp_path / "lstm.caffemodel", values=constant)
    assert [str(part) for part in found.parts] == ["LSTM 1 x 5 over time: y (LSTM)"]
    assert [(value.name, value.shape, value.axes) for value in found.inputs] == [
        ("x", (6, 1, 3), ("time", "batch", "feature")),
        ("cont", (6, 1), ("time", "batch")),
    ][: 2 - len(constant)]
    assert not found.lost
    assert found.notes
