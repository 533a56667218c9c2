"""Reading a manifest: what is written reads back; whatever else is in the file is refused, with what and where."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc import Input, Param, model, scan, uniform
from lstmc.backend import load_backend
from lstmc.cells import lstm
from lstmc.errors import WeightsError
from lstmc.manifest import Manifest, Place, parse_manifest, read_manifest
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights

Written = dict[str, Any]
Read = Callable[[object], Manifest]


@model
def net(X=Input(3, 2, 5), h0=Input(2, 4, fill=uniform(-1, 1)), unused=Param(7)):
    y, last = scan(lstm(H=4, name="lstm"), X, init={"h": h0})
    return {"y": y, "c_T": last["c"]}


def written(target: str = "flat", step: bool = True) -> Written:
    backend, graph = load_backend("caffe"), net.graph()
    artifact = backend.emit(compile_graph(graph, backend, target, step=step), initial_weights(graph))
    found: Written = json.loads(artifact.files["net.manifest.json"])
    return found


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads what is given, as a file."""
    path = tmp_path / "net.manifest.json"

    def reading(content: object) -> Manifest:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_manifest(path)

    return reading


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_what_is_written_reads_back(read: Read, target: str, step: bool) -> None:
    described = written(target, step)
    assert json.loads(read(described).text()) == described
    assert json.loads(parse_manifest(json.dumps(described).encode()).text()) == described


def changed(described: Written, *path: str | int, to: object) -> Written:
    """A manifest with something else at a place of it."""
    made = copy.deepcopy(described)
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return made


FLAT = written()


WRONG: tuple[tuple[tuple[str | int, ...], object, str], ...] = (
    (("format",), 2, "format: expected 1, found 2"),
    (("inputs",), [], "inputs: expected an object, found []"),
    (("inputs", "X"), {"blob": "X"}, 'inputs.X: expected an object with a value for shape, found {"blob": "X"}'),
    (("inputs", "X", "shape"), 3, "inputs.X.shape: expected a valid array, found 3"),
    (("inputs", "X", "shape", 0), "1", 'inputs.X.shape[0]: expected a valid integer, found "1"'),
    (("inputs", "X", "shape"), [1] * 5000, "inputs.X.shape: expected sizes of an array's axes, found [1, 1, "),
    (("inputs", "X", "shape"), [3, 2, 5], "inputs.X: expected blobs that hold as many elements as its shape, found {"),
    (("inputs", "X", "filled"), 0, "inputs.X.filled: expected a valid boolean, found 0"),
    (("outputs", "y", "blob"), "\ud800", "expected JSON, found something else: "),
    (("inputs", "X", "fill"), "uniform(", 'inputs.X.fill: expected a filler, found "uniform("'),
    (
        ("inputs", "X", "values"),
        {"low": 0, "high": 1.5},
        "inputs.X.values: expected an object with low and high, two numbers of one kind, found {",
    ),
    (
        ("inputs", "X", "open"),
        ["T"],
        "inputs.X: expected one blob of its shape, where sizes are open, with a name or null for each axis, found {",
    ),
    (("inputs", "X", "most"), 3, "inputs.X.most: expected a valid string, found 3"),
    (("outputs", "y", "delay"), -1, "outputs.y.delay: expected greater than or equal to 0, found -1"),
    (("states", "lstm/h", "input"), "Q", "states.lstm/h: expected the names of an input and of an output, found {"),
    (("states", "lstm/h", "initial"), [], "states.lstm/h.initial: expected an array of shape [2, 4], found []"),
    (
        ("states", "lstm/h", "initial"),
        ["one"],
        'states.lstm/h.initial: expected a number, words, or an array of numbers, found ["one"]',
    ),
    (("weights",), "net f(", 'weights: expected a graph of weights, found "net f("'),
    (("blobs",), {}, "weights: expected a graph that computes the blobs, found "),
    (("blobs", "lstm/W_x", "index"), -1, "blobs.lstm/W_x.index: expected greater than or equal to 0, found -1"),
    (("parameters",), {}, "weights: expected a graph of the parameters, found "),
)
OTHER_FILES = (
    ("not json", "expected JSON, found something else: expected ident at line 1 column 2"),
    ("[" * 100_000, "expected JSON, found something else: recursion limit exceeded at line 1 column 202"),
    ("[1]", "expected an object, found [1]"),
    ("{}", "expected an object with a value for format, found {}"),
)


def refusal(read: Read, content: object) -> str:
    with pytest.raises(WeightsError) as caught:
        read(content)
    caught.value.message.encode()  # it can be printed
    return caught.value.message.partition(".json ")[2]


@pytest.mark.parametrize(("path", "to", "text"), WRONG)
def test_what_is_wrong_is_said(read: Read, path: tuple[str | int, ...], to: object, text: str) -> None:
    assert refusal(read, changed(FLAT, *path, to=to)).startswith(f"is not a manifest of format 1: {text}")


@pytest.mark.parametrize(("content", "text"), OTHER_FILES)
def test_another_file_is_refused(read: Read, content: str, text: str) -> None:
    assert refusal(read, content) == f"is not a manifest of format 1: {text}"


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, (*path, index))


OTHERS = (None, True, 0, -1, 3.5, 10**30, "", "x" * 5000, "\ud800", [], [[]], {}, {"a": 1}, float("nan"))


def test_no_change_of_a_value_ends_in_another_error(read: Read) -> None:
    rng, refused = random.Random(0), 0
    everywhere = [path for path in places(FLAT) if path]
    for path in everywhere:
        for other in rng.sample(OTHERS, 4):
            try:
                read(changed(FLAT, *path, to=other))
            except WeightsError:
                refused += 1
    assert refused > 2 * len(everywhere)


def test_a_file_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "net.manifest.json"
    with pytest.raises(WeightsError) as caught:
        read_manifest(path)
    assert (
        str(caught.value) == f"WeightsError: {path}: no such manifest\n  copy it here: lstmc writes one beside each net"
    )
    path.mkdir()
    with pytest.raises(WeightsError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"WeightsError: {path}: cannot be read: Is a directory"


def test_a_place_feeds_and_reads_its_blobs() -> None:
    array = np.arange(12.0).reshape(3, 2, 2)
    for place, shape in (
        (Place((3, 2, 2), ("x",)), (3, 2, 2)),
        (Place((3, 2, 2), ("x",), (6, 2)), (6, 2)),
        (Place((3, 2, 2), ("x0", "x1", "x2"), (2, 2)), (2, 2)),
        (Place((9, 2, 2), ("x",), None, ("T", None, None)), (3, 2, 2)),
    ):
        fed = dict(place.fed(array))
        assert list(fed) == list(place.blobs)
        assert {blob.shape for blob in fed.values()} == {shape}
        assert np.array_equal(place.read(fed), array)
    assert Place((9, 2, 2), ("x",), None, ("T", None, "")).at({"T": 3, "N": 8}) == (3, 2, 2)
    assert list(Place((3,), ()).fed(np.zeros(3))) == []
    assert [Place((1,), blobs).label for blobs in ((), ("x",), ("x0", "x1", "x2"))] == ["none", "x", "x0 ... x2"]
