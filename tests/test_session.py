"""Sessions of one-step nets and checked inputs, with a net that NumPy runs: nothing of them is a backend's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lstmc.errors import BackendError, DataError
from lstmc.ir import Builder
from lstmc.manifest import FORMAT, InputPlace, Manifest, Place, State
from lstmc.nets.session import LoadedOnce, NetFiles, RunsFiles, Stream, find_files
from lstmc.ops import Array, Constant, IntegerRange


@dataclass
class Adding:
    """y = h + x; rows of x are apart."""

    opened: int = 0
    closed: int = 0

    @contextmanager
    def load(self) -> Iterator[Adding]:
        self.opened += 1
        yield self
        self.closed += 1

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        assert list(wanted) == ["sum"]
        return {"sum": blobs["h"] + np.stack([blobs["x/0"], blobs["x/1"]]) + blobs["bias"]}


def files(states: bool = True, initial: float | str = 0.5) -> NetFiles:
    manifest = Manifest(
        format=FORMAT,
        lstmc="0",
        name="net",
        source="net.py",
        backend="numpy",
        target="numbers",
        inputs={
            "x": InputPlace(Place((2, 3), ("x/0", "x/1"), (3,)), values=IntegerRange(0, 9)),
            "bias": InputPlace(Place((1,), ("bias",)), fill=Constant(2.0)),
            "h_in": InputPlace(Place((2, 3), ("h",))),
            "mask": InputPlace(Place((2,), ("mask",)), filled=True),
        },
        outputs={"y": Place((6,), ("sum",)), "h_out": Place((2, 3), ("sum",))},
        states={"h": State("h_in", "h_out", initial)} if states else None,
        parameters={},
        blobs={},
        weights=Builder("net").finish([]),
        scans={},
    )
    return NetFiles(Path("net.txt"), Path("net.bin"), manifest)


def run_once(files: NetFiles, net: Adding, inputs: Mapping[str, Array]) -> dict[str, Array]:
    with closing(LoadedOnce(files, net.load)) as opened:
        return opened.run(inputs)


X = np.arange(6.0).reshape(2, 3)


def test_one_pass_feeds_by_blobs_and_reads_by_names() -> None:
    net = Adding()
    found = run_once(files(), net, {"x": X, "h_in": np.ones((2, 3))})
    assert np.array_equal(found["y"], X.ravel() + 3)  # the bias is drawn from its fill
    assert np.array_equal(found["h_out"], X + 3)
    assert (net.opened, net.closed) == (1, 1)


def test_an_input_that_no_output_depends_on_may_be_given() -> None:
    net = files()
    inputs = {**net.manifest.inputs, "spare": InputPlace(Place((4,), ()))}
    net = replace(net, manifest=replace(net.manifest, inputs=inputs))
    given = {"x": X, "h_in": np.ones((2, 3))}
    found = [run_once(net, Adding(), {**given, **spare})["y"] for spare in ({}, {"spare": np.ones(4)})]
    assert np.array_equal(*found)
    with pytest.raises(DataError, match=r"wrong shape: spare must be \[4\], found \[2, 3\]"):
        run_once(net, Adding(), {**given, "spare": X})


def test_every_problem_of_the_inputs_is_named_before_the_net_is_loaded() -> None:
    net = Adding()
    given = {"x": X + 8, "H_in": X, "mask": np.ones(2), "bias": np.ones(2)}
    with pytest.raises(DataError) as caught:
        run_once(files(), net, given)
    assert str(caught.value) == (
        "DataError: the inputs do not fit net.txt\n"
        "  missing: h_in [2, 3]\n"
        "  outside: x must be integers from 0 to 9, has 4 of 6 elements that are not, the first at [0, 2]: 10\n"
        "  extra: H_in [2, 3]: did you mean h_in?\n"
        "  extra: mask [2]: the net fills it\n"
        "  wrong shape: bias must be [1], found [2]"
    )
    assert net.opened == 0


def test_states_go_from_step_to_step_and_the_net_is_loaded_once() -> None:
    net = Adding()
    with Stream(LoadedOnce(files(), net.load)) as steps:
        assert (steps.inputs, steps.outputs, steps.states) == (
            {"x": (2, 3), "bias": (1,)}, {"y": (6,)}, {"h": (2, 3)},
        )  # fmt: skip
        assert net.opened == 0
        for count in (1, 2):
            assert np.array_equal(steps({"x": X})["y"], count * X.ravel() + 0.5 + 2 * count)
        steps.start({"h": np.full((2, 3), 7.0)})
        assert np.array_equal(steps({"x": X, "bias": np.zeros(1)})["y"], X.ravel() + 7)
        assert (net.opened, net.closed) == (1, 0)
    assert net.closed == 1


def test_states_that_do_not_fit() -> None:
    steps = Stream(LoadedOnce(files(initial="the input h0"), Adding().load))
    with pytest.raises(DataError) as caught:
        steps.start({"c": np.ones(1)})
    assert str(caught.value) == (
        "DataError: the first states do not fit net.txt\n  extra: c [1]\n  missing: h [2, 3]: it starts at the input h0"
    )
    with pytest.raises(DataError) as caught:
        steps.start({"h": np.full((2, 3), np.nan)})
    assert caught.value.notes == ("not finite: h has 6 of 6 elements NaN or infinite, the first at [0, 0]",)


def test_a_net_of_all_steps_is_no_session() -> None:
    with pytest.raises(BackendError) as caught:
        Stream(LoadedOnce(files(states=False), Adding().load))
    assert str(caught.value) == (
        "BackendError: net.txt: expected a net of one step, found one of all steps\n"
        "  compile the model as a net of one step"
    )


class Numpy(RunsFiles):
    name, net_suffix, weights_suffix = "numpy", ".txt", ".bin"
    passes = emit = RunsFiles.loaded  # not called here


def test_files_are_found_beside_the_net(tmp_path: Path) -> None:
    net = tmp_path / "net.txt"
    with pytest.raises(BackendError) as caught:
        find_files(net, None, Numpy())
    assert caught.value.message == f"{net}: no such file"
    with pytest.raises(BackendError) as caught:
        find_files(tmp_path, None, Numpy())
    assert caught.value.message == f"{tmp_path}: is a folder: expected a file"
    net.touch()
    (tmp_path / "net.manifest.json").write_text(files().manifest.text())
    with pytest.raises(BackendError) as caught:
        find_files(net, None, Numpy())
    assert caught.value.message == f"{tmp_path}/net.bin: no such file: expected it beside the net"
    (tmp_path / "net.bin").touch()
    assert find_files(net, None, Numpy()).weights == tmp_path / "net.bin"
    assert find_files(net, net, Numpy()).weights == net


def test_a_file_of_another_kind_or_writer_is_not_found(tmp_path: Path) -> None:
    for name in ("net.txt", "net.prototxt", "net.bin"):
        (tmp_path / name).touch()
    (tmp_path / "net.manifest.json").write_text(files().manifest.text())
    with pytest.raises(BackendError) as caught:
        find_files(tmp_path / "net.prototxt", None, Numpy())
    assert caught.value.message == (
        f"{tmp_path}/net.prototxt: backend numpy runs a file NAME.txt that it wrote, found net.prototxt and a manifest"
        " of backend numpy"
    )
    (tmp_path / "net.manifest.json").write_text(replace(files().manifest, backend="torch").text())
    with pytest.raises(BackendError, match=r"found net\.txt and a manifest of backend torch"):
        find_files(tmp_path / "net.txt", None, Numpy())


def test_a_backend_without_a_suffix_of_nets_runs_files_of_any_name(tmp_path: Path) -> None:
    class Older(RunsFiles):
        name, weights_suffix = "numpy", ".bin"
        passes = emit = RunsFiles.loaded  # not called here

    for name in ("net.txt", "net.bin"):
        (tmp_path / name).touch()
    (tmp_path / "net.manifest.json").write_text(files().manifest.text())
    assert find_files(tmp_path / "net.txt", None, Older()).net == tmp_path / "net.txt"


def test_a_fill_that_takes_all_memory_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.process.memory.free_memory", lambda: 2**30)
    net = files()
    huge = InputPlace(Place((46340, 46340), ()), fill=Constant(1.0))
    net = replace(net, manifest=replace(net.manifest, inputs={**net.manifest.inputs, "huge": huge}))
    with pytest.raises(DataError) as caught:
        run_once(net, Adding(), {"x": X, "h_in": np.ones((2, 3))})
    assert caught.value.message == (
        "net.txt: input huge [46340, 46340], drawn from its fill, takes 16 GiB: expected at most 341 MiB, a third of"
        " the memory that is free"
    )
