"""Rules of a step in float32: joins, states that are shifted, and images that are read before they are moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lstmc import (
    Input,
    Param,
    State,
    cell,
    concat,
    conv,
    dims,
    full,
    linear,
    model,
    relu,
    reshape,
    scan,
    split,
    tanh,
    tile,
    transpose,
)
from lstmc.dsl.model import Model
from lstmc.dsl.value import Value
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.weights import random_weights
from lstmc_c import CBackend
from tests.on_demand.fuzz.c_models import SANITIZERS, Machine, Net, build, run, wrong

N, D = dims("N D")
FLAGS = ((), ("-march=native",), ("-march=haswell",), ("-U__SSE__",))
MACHINES = [Machine(("gcc", *SANITIZERS, "-O1", *flags)) for flags in FLAGS]


def text_of(tried: Model, folder: Path, numbers: str = "float32", *, in_file: bool = False, **weights: Array) -> str:
    """Return the C of a model; its streams are right on machines with vectors and without."""
    graph = deploy_graph(tried.graph())
    known = random_weights(graph, 1) | weights
    net = Net.of(compile_graph(graph, CBackend()), known, graph.name, numbers=numbers, in_file=in_file)
    for machine in MACHINES:
        build(folder, [net], machine)
        run(folder, [net], machine)
        assert not wrong(net)
    return net.artifact.files[f"{graph.name}.c"].decode()


def zeros(*shape: int) -> Value:
    return full(shape, 0.0)


def padded(x: Value) -> Value:
    return concat(zeros(1, 4, 2, 2), x, zeros(1, 4, 2, 2), axis=3)


def shifted(x: Value) -> Value:
    """Three neighbours of each pixel as channels."""
    wide = concat(zeros(1, 4, 2, 1), x, zeros(1, 4, 2, 1), axis=3)
    parts = split(wide, [17, 2], axis=3)[0], split(wide, [1, 17, 1], axis=3)[1], split(wide, [2, 17], axis=3)[1]
    return reshape(concat(*(reshape(part, 1, 4, 1, 2, 17) for part in parts), axis=2), 1, 12, 2, 17)


def spread(x: Value, apart: int = 2) -> Value:
    """Zeros between pixels, as a transposed convolution has them; none behind the last pixel."""
    wide = reshape(concat(reshape(x, 1, 4, 2, 17, 1), zeros(1, 4, 2, 17, apart - 1), axis=4), 1, 4, 2, 17 * apart)
    return padded(split(wide, [17 * apart - apart + 1, apart - 1], axis=3)[0])


FORMS: list[tuple[str, Callable[[Value], Value], tuple[int, ...], int, bool]] = [
    ("zeros at both ends", padded, (6, 4, 2, 5), 1, True),
    ("each channel by itself", padded, (4, 1, 1, 3), 4, True),
    ("shifted copies", shifted, (6, 12, 1, 1), 1, True),
    ("shifted copies in groups", shifted, (6, 6, 1, 1), 2, True),
    ("zeros between", spread, (6, 4, 1, 5), 1, True),
    ("zeros between, in groups", spread, (6, 2, 2, 4), 2, True),
    (
        "zeros above and below",
        lambda x: concat(zeros(1, 4, 1, 17), x, zeros(1, 4, 1, 17), axis=2),
        (5, 4, 3, 3),
        1,
        True,
    ),
    ("two zeros between", lambda x: spread(x, 3), (5, 4, 1, 5), 1, True),
    ("shifted copies and a window", shifted, (6, 12, 1, 3), 1, False),  # two weights for one element
    ("other numbers than zero", lambda x: concat(x, full((1, 4, 2, 2), 1.0), axis=3), (6, 4, 1, 3), 1, False),
]


@pytest.mark.parametrize(
    ("move", "kernel", "groups", "direct"), [pytest.param(*form, id=name) for name, *form in FORMS]
)
def test_a_convolution_reads_an_image_before_it_is_moved(
    move: Callable[[Value], Value], kernel: tuple[int, ...], groups: int, direct: bool, tmp_path: Path
) -> None:
    @model
    def moved(x=Input(1, 4, 2, 17), *, W=Param(*kernel), b=Param(kernel[0])):
        return tanh(conv(move(relu(x)), W, b, group=groups))

    text = text_of(moved, tmp_path)
    assert ("/windows" in text or "_windows" in text) == direct


@pytest.mark.parametrize("groups", [1, 3])
def test_a_window_reads_repeated_columns(groups: int, tmp_path: Path) -> None:
    """All columns of a row are one element of the array."""

    @model
    def repeated(x=Input(1, 3, 4, 1), *, W=Param(3, 3 // groups, 2, 3)):
        return conv(tile(tanh(x), [1, 1, 1, 20]), W, group=groups)

    text_of(repeated, tmp_path)


@pytest.mark.parametrize("numbers", ["c-fp16-weights", "c-int8-weights"])
@pytest.mark.parametrize("size", [(3, 20), (1, 3)], ids=["many pixels", "few"])
@pytest.mark.parametrize(
    ("kernel", "groups"),
    [((70, 32, 1, 3), 1), ((40, 64, 1, 3), 1), ((70, 16, 1, 3), 2), ((6, 12, 1, 1), 1), ((5, 1, 1, 3), 5)],
)
def test_weights_of_fewer_bits_are_widened_for_a_convolution(
    kernel: tuple[int, ...], groups: int, size: tuple[int, int], numbers: str, tmp_path: Path
) -> None:
    """A panel at a time: of 70 channels there are three, and one has rows of both groups."""

    @model
    def narrow(x=Input(1, kernel[1] * groups, *size), *, K=Param(*kernel), b=Param(kernel[0]), W=Param(21, kernel[0])):
        images = conv(tanh(x), K, b, group=groups, pad=(0, kernel[3] // 2))
        pixels = reshape(transpose(images, [0, 2, 3, 1]), size[0] * size[1], kernel[0])
        return linear(pixels, W)

    assert "convolve" in text_of(narrow, tmp_path, numbers)


@pytest.mark.parametrize(("kernel", "groups"), [((70, 128, 1, 3), 1), ((64, 9, 3, 3), 16)])
def test_the_places_of_a_window_are_written_once_for_all_panels_and_groups(
    kernel: tuple[int, ...], groups: int
) -> None:
    @model
    def narrow(x=Input(1, kernel[1] * groups, 3, 20), *, K=Param(*kernel)):
        return conv(x, K, group=groups)

    graph = deploy_graph(narrow.graph())
    net = Net.of(compile_graph(graph, CBackend()), random_weights(graph, 1), "narrow", numbers="c-int8-weights")
    assert net.artifact.files["narrow.c"].count(b"uint32_t taps[]") == 1


@pytest.mark.parametrize("kernel", [(5, 1, 2, 3), (8, 5, 2, 3)], ids=["of each channel", "of all"])
def test_a_computed_kernel_is_float32_in_a_net_with_weights_of_float16(kernel: tuple[int, ...], tmp_path: Path) -> None:
    @model
    def computed(x=Input(1, 5, 3, 20), k=Input(*kernel)):
        return conv(x, k, group=5 // kernel[1])

    text_of(computed, tmp_path, "c-fp16-weights")


def test_a_convolution_of_each_channel_may_need_no_memory(tmp_path: Path) -> None:
    @model
    def small(x=Input(1, 3, 4, 20), *, W=Param(3, 1, 2, 3)):
        return conv(x, W, group=3)

    text_of(small, tmp_path)


def test_a_join_of_joins_is_one_copy_of_each_part(tmp_path: Path) -> None:
    @model
    def joined(x=Input(1, 6), y=Input(1, 4)):
        whole = concat(tanh(x), y, axis=1)
        first, middle, last = split(whole, [3, 5, 2], axis=1)
        return {"z": concat(last, concat(middle, x, axis=1), axis=1), "first": first * 2.0}

    assert "whole" not in text_of(joined, tmp_path)


@pytest.mark.parametrize("forwards", [True, False])
def test_a_state_that_is_shifted_to_the_front_needs_no_other_memory(forwards: bool, tmp_path: Path) -> None:
    """Towards the back, the last elements would be needed before they are moved."""

    @model(states={"past": "past_next"})
    def delayed(x=Input(1, 3, 1, 5), past=Input(1, 3, 4, 5), *, W=Param(2, 3, 3, 3)):
        older, newer = split(past, [1, 3], axis=2)[1], split(past, [3, 1], axis=2)[0]
        kept = concat(older, x, axis=2) if forwards else concat(x, newer, axis=2)
        return {"y": conv(past, W), "past_next": kept}

    text = text_of(delayed, tmp_path)
    assert ("past = past_next" not in text) == forwards


def test_rows_that_no_window_reads_are_not_copied(tmp_path: Path) -> None:
    @model(states={"past": "past_next"})
    def dilated(x=Input(1, 3, 1, 5), past=Input(1, 3, 4, 5), *, W=Param(2, 3, 3, 3)):
        y = conv(concat(past, x, axis=2), W, dilation=(2, 1))
        return {"y": y, "past_next": concat(split(past, [1, 3], axis=2)[1], x, axis=2)}

    found = re.search(r"sizes\[\] = \{(.*)\}", text_of(dilated, tmp_path))
    assert found is not None
    _, _, rows, *_, down, _, _, _, rows_of_image, _, _, _ = map(int, found[1].split(", "))
    assert (down, rows_of_image) == (1, rows)


def test_a_state_may_be_another_state_before_that_changes(tmp_path: Path) -> None:
    @model(states={"last": "last_next", "older": "older_next"})
    def delays(x=Input(1, 4), last=Input(1, 4), older=Input(1, 4)):
        return {"y": x + last * older, "last_next": x, "older_next": last}

    text_of(delays, tmp_path)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("form", ["band", "band in a file", "corners", "an empty panel", "zeros"])
def test_a_product_reads_the_columns_of_a_panel_that_are_not_zero(rows: int, form: str, tmp_path: Path) -> None:
    row, column = np.indices((75, 90))
    W = np.where(abs(column - row) < 5, np.sin(1.0 + row + 2.0 * column), 0.0)
    W[32:64] *= form != "an empty panel"
    W *= form != "zeros"
    W[::32, [0, -1]] += form == "corners"

    @model
    def banded(x=Input(rows, 90), *, W=Param(75, 90), b=Param(75)):
        y = linear(x, W, b)
        return {"y": tanh(y), "z": linear(tanh(x), W) + y}

    text = text_of(banded, tmp_path, in_file=form == "band in a file", W=W.astype(np.float32))
    found = re.findall(r"^ +(products?_of_bands)\(", text, re.MULTILINE)
    first = "products_of_bands" if rows > 1 else "product_of_bands"  # the second one is added to y, row by row
    assert found == [first, "product_of_bands"] * (form in ("band", "an empty panel"))


@cell
def leaky(x=Input(N, D), h=State(N, D), *, W=Param(D, D)):
    h = tanh(linear(x, W) + linear(h, W))
    return h, {"h": h}


def test_a_product_of_bands_may_be_in_a_loop(tmp_path: Path) -> None:
    """All of its panels but the first one have zeros alone."""

    @model(states={"s": "s_next"})
    def banded(x=Input(5, 1, 70), s=Input(1, 70)):
        y, last = scan(leaky(), x, init={"h": s})
        return {"y": y, "s_next": last["h"]}

    W = np.zeros((70, 70), np.float32)
    W[:20, 3:9] = 0.1
    assert "product_of_bands(" in text_of(banded, tmp_path, **{"leaky/W": W})


def test_a_join_inside_a_join_of_another_axis_is_written_at_once(tmp_path: Path) -> None:
    """Both halves of the state are shifted where they are."""

    @model(states={"past": "past_next"})
    def halves(x=Input(1, 3, 1, 5), past=Input(2, 1, 3, 4, 5), *, W=Param(3, 3, 5, 1)):
        kept = []
        for half in split(past, [1, 1], axis=0):
            rows = reshape(half, 1, 3, 4, 5)
            kept.append(reshape(concat(split(rows, [1, 3], axis=2)[1], x, axis=2), 1, 1, 3, 4, 5))
            x = conv(concat(rows, x, axis=2), W)
        return {"y": x, "past_next": concat(*kept, axis=0)}

    text = text_of(halves, tmp_path)
    assert text.count("// past_next = ") == 4
    assert "past = past_next" not in text
