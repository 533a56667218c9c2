"""Where everything stands, and the files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pypdfium2
import pytest

from lstmc.api.models import model_in
from lstmc.drawing.drawing import Drawing, Rectangle, layout_text, places_of
from lstmc.drawing.picture import Box, Group, Kind, Picture, boxes_of, picture_of
from lstmc.errors import DrawingError
from lstmc.ir import Stage
from tests.graphs import graph_after

ROOT = Path(__file__).parents[2]
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def unrolled(cell: str, target: str = "caffe", **sizes: int) -> Picture:
    return picture_of(graph_after(cell, stage=Stage.EXPANDED, target=target, **{"N": 1, "D": 3, "H": 5, **sizes}))


def apart(one: Rectangle, other: Rectangle) -> bool:
    """Whether two places share nothing."""
    return (
        abs(one.x - other.x) >= (one.width + other.width) / 2 - 0.1
        or abs(one.y - other.y) >= (one.height + other.height) / 2 - 0.1
    )


def inside(inner: Rectangle, outer: Rectangle) -> bool:
    return (
        abs(inner.x - outer.x) <= (outer.width - inner.width) / 2
        and abs(inner.y - outer.y) <= (outer.height - inner.height) / 2
    )


@pytest.mark.parametrize(("cell", "target"), [("lstm", "caffe"), ("gru", "flat"), ("lstm_peephole", "caffe")])
@pytest.mark.parametrize("T", [3, 50])
def test_boxes_are_apart_and_those_of_a_step_in_its_frame(cell: str, target: str, T: int) -> None:
    picture = unrolled(cell, target, T=T)
    boxes, frames = places_of(picture)
    assert boxes.keys() == {box.key for box in picture.boxes}
    assert all(apart(*pair) for pair in combinations(boxes.values(), 2))
    for group in picture.whole.parts:
        if isinstance(group, Group) and group.title:
            within = {box.key for box in boxes_of(group)}
            frame = frames[id(group)]
            assert all(inside(boxes[key], frame) == (key in within) for key in boxes)


def test_time_goes_across_and_a_layer_stands_at_the_same_height_in_each_step() -> None:
    picture = unrolled("lstm", T=5)
    boxes, frames = places_of(picture)
    steps = [group for group in picture.whole.parts if isinstance(group, Group)]
    across = [frames[id(step)].x for step in steps]
    assert across == sorted(across)
    for t in range(2, 5):  # the first step has no recurrent product
        for box in boxes_of(steps[1]):
            later = boxes[box.key.replace("t001", f"t{t:03d}")]
            assert later.y == pytest.approx(boxes[box.key].y)
            assert later.x - boxes[box.key].x == pytest.approx(across[t] - across[1])


@pytest.mark.parametrize(("steps", "led"), [(4, "splines=true"), (40, "splines=line")])
def test_arrows_are_led_around_boxes_where_there_are_not_too_many(steps: int, led: str) -> None:
    graph = graph_after("lstm", stage=Stage.EXPANDED, target="flat", T=50, N=1, D=3, H=5)
    assert led in Drawing.from_graph(graph, steps).dot


def test_a_frame_is_as_wide_as_its_title() -> None:
    picture = Picture(
        "one", Group(parts=[Group("a title wider than what it is of", parts=[Box("a", "a", "", Kind.OTHER)])]), ()
    )
    _, frames = places_of(picture)
    (frame,) = frames.values()
    assert frame.width > 5 * len("a title wider than what it is of")


def test_what_arrows_and_frames_mean_is_said_below_of_those_that_are_there(drawing: Drawing) -> None:
    said = ["grey arrow", "dashed orange arrow", "thick blue arrow", "thick frame"]
    assert [each for each in said if each not in drawing.dot] == []
    alone = layout_text(Picture("one", Group(parts=[Box("a", "a", "", Kind.OTHER)]), ()))
    assert [each for each in said if each in alone] == []


def test_layers_of_a_step_go_down() -> None:
    boxes, _ = places_of(unrolled("lstm", "flat", T=3))
    assert (
        boxes["lstm/t001/linear_W_h"].y
        > boxes["lstm/t001/add_W_x_W_h"].y
        > boxes["lstm/t001/c"].y
        > boxes["lstm/t001/h"].y
    )


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    return Drawing.from_graph(graph_after("rnn", stage=Stage.EXPANDED, T=50, N=1, D=3, H=5))


def tips(svg: str) -> list[str]:
    """The tips of the boxes of a picture."""
    nodes = [each for each in ElementTree.fromstring(svg).iter(f"{SVG}g") if each.get("class", "").startswith("node")]
    return [link.attrib[f"{XLINK}title"] for node in nodes for link in node.iter(f"{SVG}a")]


def test_every_text_has_the_width_that_its_box_reserves(drawing: Drawing) -> None:
    """A browser without Helvetica draws wider letters."""
    groups = ElementTree.fromstring(drawing.svg).iter(f"{SVG}g")
    boxes = [each for each in groups if each.get("class", "").startswith("node")]
    assert boxes
    for box in boxes:
        corners = [
            point.split(",")[0] for part in box.iter(f"{SVG}polygon") for point in part.get("points", "").split()
        ]
        for text in box.iter(f"{SVG}text"):
            left, width = float(text.get("x", "nan")), float(text.get("textLength", "nan"))
            assert text.get("lengthAdjust") == "spacingAndGlyphs"
            assert not corners or left + width <= max(map(float, corners))
            assert 0 < width < 9 * len(text.text or "")


def test_svg_has_every_box_with_its_tip(drawing: Drawing) -> None:
    assert sorted(tips(drawing.svg)) == sorted(box.tip for box in drawing.picture.boxes)


def test_png_is_a_picture_with_something_in_it(drawing: Drawing) -> None:
    pixels = cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert min(pixels.shape) > 300
    assert 0.02 < (pixels < 128).mean() < 0.5


def test_pdf_has_the_text_of_every_box(drawing: Drawing) -> None:
    document = pypdfium2.PdfDocument(drawing.pdf)
    text = document[0].get_textpage().get_text_range()
    assert len(document) == 1
    assert all(box.title in text and box.text in text for box in drawing.picture.boxes)


def test_save_takes_the_form_from_the_suffix(drawing: Drawing, tmp_path: Path) -> None:
    starts = {"svg": b"<?xml", "PNG": b"\x89PNG", "pdf": b"%PDF-", "dot": b"digraph"}
    for suffix, start in starts.items():
        assert drawing.save(tmp_path / f"net.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize(("name", "found"), [("net.jpg", ".jpg"), ("net", "none")])
def test_another_suffix_is_refused(drawing: Drawing, name: str, found: str) -> None:
    with pytest.raises(DrawingError) as caught:
        drawing.save(name)
    assert str(caught.value) == (
        f"DrawingError: {name}: expected a file that ends in one of .svg, .png, .pdf, .dot, found {found}"
    )


def test_without_graphviz_the_error_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.drawing.drawing.shutil.which", lambda name, path=None: None)
    with pytest.raises(DrawingError) as caught:
        Drawing.from_graph(graph_after("rnn", T=2, N=1, D=3, H=3))
    assert str(caught.value) == (
        "DrawingError: drawing needs Graphviz: expected graphviz-pure or dot, found neither\n"
        "  pip install 'lstmc[draw]', or the Graphviz of your system"
    )


def test_names_are_no_markup() -> None:
    box = Box("a", '<b>"&\\n', "x" * 90, Kind.OTHER, '\\ " <')
    picture = Picture('a"b', Group(parts=[box]), ())
    svg = Drawing(picture, layout_text(picture)).svg
    assert "&lt;b&gt;&quot;&amp;\\n" in svg
    assert f"{'x' * 18} ... {'x' * 17}" in svg


def test_the_picture_of_the_readme_is_of_the_example_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    model = model_in("docs/examples/lstm_demo.py")
    picture = picture_of(graph_after(model, stage=Stage.EXPANDED, form="packed-in-loop"))
    stored = (ROOT / "docs" / "pictures" / "lstm_demo.svg").read_text()
    assert sorted(tips(stored)) == sorted(box.tip for box in picture.boxes), "write it anew: make docs"
