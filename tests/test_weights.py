"""Parameter values: drawn, read from a file, and every way in which a file can be wrong."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lstmc.errors import WeightsError
from lstmc.interp import forward, named_rng
from lstmc.ir import Builder, Graph, Ref, parse_graph
from lstmc.ops import Affine, Array, Concat, Param, Reshape, Split
from lstmc.weights import check_weights, initial_weights, parameters, read_weights, unpack_weights

GRAPH = parse_graph("""\
graph net {
  %x: f32[2,3] = input()
  %W: f32[4,3] = param(fill=uniform(-0.05, 0.05))
  %b: f32[4] = param(fill=constant(0.1), lr_mult=2.0)
  %cell/U: f32[4,4] = param(fill=gaussian(0.0, 1.0))
  %z: f32[2,4] = linear(%x, %W, %b)
  %y: f32[2,4] = linear(%z, %cell/U)
  return y=%y
}
""")


def good() -> dict[str, Array]:
    return {"cell/U": np.ones((4, 4)), "W": np.zeros((4, 3)), "b": np.arange(4.0)}


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path, GRAPH)
    return str(caught.value)


def test_parameters_come_in_the_order_they_were_declared() -> None:
    assert list(parameters(GRAPH)) == ["W", "b", "cell/U"]
    assert parameters(GRAPH)["b"].lr_mult == 2.0


def test_initial_weights_are_drawn_by_the_fillers_in_float32() -> None:
    drawn = initial_weights(GRAPH, 3)
    assert list(drawn) == ["W", "b", "cell/U"]
    assert {array.dtype for array in drawn.values()} == {np.dtype(np.float32)}
    assert_array_equal(drawn["b"], np.full(4, np.float32(0.1)))
    assert_array_equal(drawn["W"], named_rng(3, "W").uniform(-0.05, 0.05, (4, 3)).astype(np.float32))


def test_initial_weights_depend_on_the_seed_and_on_the_name_but_not_on_other_parameters() -> None:
    first = initial_weights(GRAPH, 1)
    assert_array_equal(initial_weights(GRAPH, 1)["cell/U"], first["cell/U"])
    assert not np.array_equal(initial_weights(GRAPH, 2)["cell/U"], first["cell/U"])
    builder = Builder("other")
    builder.add(Param((4, 4), parameters(GRAPH)["cell/U"].fill), names=("V",))
    builder.add(Param((4, 4), parameters(GRAPH)["cell/U"].fill), names=("cell/U",))
    other = initial_weights(builder.finish([]), 1)
    assert_array_equal(other["cell/U"], first["cell/U"])
    assert not np.array_equal(other["V"], first["cell/U"])


def test_a_file_with_exactly_the_parameters_is_read(tmp_path: Path) -> None:
    found = read_weights(saved(tmp_path / "w.npz", **good()), GRAPH)
    assert list(found) == ["W", "b", "cell/U"]
    for name, array in good().items():
        assert found[name].dtype == np.float32
        assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64])
def test_numbers_of_any_kind_are_read(tmp_path: Path, dtype: type) -> None:
    arrays = {name: array.astype(dtype) for name, array in good().items()}
    found = read_weights(saved(tmp_path / "w.npz", **arrays), GRAPH)
    assert_array_equal(found["b"], [0, 1, 2, 3])


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    builder = Builder("net")
    for name in ("a", "b", "c", "d", "e", "f"):
        builder.add(Param((2, 3)), names=(name,))
    with pytest.raises(WeightsError) as caught:
        check_weights(
            {
                "b": np.zeros((3, 2)),
                "c": np.array([[1, np.nan, 2], [np.inf, 3, -np.inf]]),
                "d": np.array([["1", "2", "3"], ["4", "5", "6"]]),
                "e": np.zeros((2, 3), complex),
                "f": np.array([[1e300, 1, 1], [1, 1, 1]]),
                "g": np.zeros(7),
                "h": 1.0,
            },
            builder.finish([]),
            "here.npz",
        )
    assert str(caught.value) == (
        "WeightsError: here.npz does not fit net\n"
        "  missing: a f32[2,3]\n"
        "  extra: g f32[7]\n"
        "  extra: h f32[]\n"
        "  wrong shape: b must be f32[2,3], found f32[3,2]\n"
        "  not finite: c has 3 of 6 elements NaN or infinite, the first at [0, 1]\n"
        "  not numbers: d has dtype <U1\n"
        "  not numbers: e has dtype complex128\n"
        "  too large for float32: f has 1 of 6 elements that are, the first at [0, 0]"
    )


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.npz", W=np.zeros((4, 3)), b=np.zeros(4))
    assert refused(path) == f"WeightsError: {path} does not fit net\n  missing: cell/U f32[4,4]"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    assert refused(path) == f"WeightsError: {path}: no such file"


def test_a_single_array(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    np.save(path, np.zeros(3))
    assert refused(path) == f"WeightsError: {path}: expected an .npz file of named arrays, found a single array"


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 not a zip", pickle.dumps({"W": 1})])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    assert refused(path) == f"WeightsError: {path}: expected an .npz file of named arrays, found something else"


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.npz", W=np.array([{}], dtype=object))
    assert refused(path) == f"WeightsError: {path}: W holds Python objects: expected numbers"


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_damaged_anywhere_is_refused_or_read(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "w.npz"
    save(path, W=np.random.default_rng(0).normal(size=(4, 3)))
    content = path.read_bytes()
    flipped = [
        content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
        for at in range(len(content))
        for mask in (1, 255)
    ]
    refusals = 0
    for damaged in (*flipped, *(content[:at] for at in range(len(content)))):
        path.write_bytes(damaged)
        try:
            read_weights(path, parse_graph("graph net {\n  %W: f32[4,3] = param()\n  return\n}\n"))
        except WeightsError:
            refusals += 1
    assert refusals > 2 * len(content)  # the rest are dates and such, or a number that is another finite one


def test_a_folder(tmp_path: Path) -> None:
    assert re.fullmatch(r"WeightsError: \S+: cannot be read: Is a directory", refused(tmp_path))


@st.composite
def weight_graphs(draw: st.DrawFn) -> Graph:
    """Random blobs made of parameters: joined, cut, reshaped, negated; every element is in just one blob."""
    builder = Builder("weights")
    values = [builder.add(Param((draw(st.integers(1, 4)), 2)))[0] for _ in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(values) - 1))
        value, type_ = values.pop(at), None
        type_ = builder.type(value)
        rows = type_.shape[0]
        kind = draw(st.sampled_from(("negate", "reshape", "split", "concat")))
        if kind == "negate":
            values += builder.add(Affine(-1.0, 0.0), value)
        elif kind == "reshape":
            values += builder.add(Reshape((type_.size // 2, 2)), *builder.add(Reshape((type_.size,)), value))
        elif kind == "split" and rows > 1:
            cut = draw(st.integers(1, rows - 1))
            values += builder.add(Split(0, (cut, rows - cut)), value)
        else:
            values = [*builder.add(Concat(0), value, *values)]
    return builder.finish([(builder.node(ref.node).names[ref.out], ref) for ref in values])


@settings(deadline=None)
@given(weight_graphs(), st.integers(0, 99))
def test_parameters_come_back_from_the_blobs_they_are_packed_into(weights: Graph, seed: int) -> None:
    given_ = {n: named_rng(seed, n).normal(size=p.shape) for n, p in parameters(weights).items()}
    blobs = forward(weights, params=given_).outputs
    found = unpack_weights(weights, blobs)
    assert found.keys() == given_.keys()
    for name, array in given_.items():
        assert_array_equal(found[name], array)


def test_a_parameter_of_which_a_part_is_in_no_blob_is_left_out() -> None:
    builder = Builder("weights")
    (w,) = builder.add(Param((4, 2)), names=("W",))
    (v,) = builder.add(Param((2, 2)), names=("V",))
    pieces = builder.add(Split(0, (1, 3)), w, names=("a", "b"))
    graph = builder.finish([("a", pieces[0]), ("V", v)])
    found = unpack_weights(graph, {"a": np.ones((1, 2)), "V": np.eye(2)})
    assert list(found) == ["V"]
    assert_array_equal(found["V"], np.eye(2))
    assert graph.type(Ref("a", 1)).shape == (3, 2)


def test_a_graph_of_weights_that_takes_all_memory_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.process.memory.free_memory", lambda: 2**30)
    text = (
        "graph net {\n  %W: f32[4] = param()\n  %f: f32[46340,46340] = full(shape=(46340, 46340), value=0.0)\n"
        "  %g: f32[46340] = sum(%f, axis=1)\n  %h: f32[] = sum(%g, axis=0)\n  %w: f32[4] = add(%h, %W)\n"
        "  return W=%w\n}\n"
    )
    with pytest.raises(
        WeightsError, match="the graph of the weights in the manifest takes 8 GiB: expected at most 1 GiB"
    ):
        unpack_weights(parse_graph(text), {"W": np.zeros(4, np.float32)})
