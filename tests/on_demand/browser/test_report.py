"""The page of a net in a real browser: by mouse and keyboard, with an accessibility checker, and how fast it answers.

Needs Debian's ``chromium`` (or one that ``LSTMC_CHROMIUM`` names) and axe-core: ``make browser`` fetches that from npm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import lstmc
from lstmc.api.models import model_in
from lstmc.report import net_page

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[3]
AXE = Path(os.environ.get("LSTMC_AXE", ROOT / "out" / "browser" / "node_modules" / "axe-core" / "axe.min.js"))
ANSWER = 100  # milliseconds from an event until the page has been painted anew


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    example = lstmc.compile(model_in(str(ROOT / "docs" / "examples" / "lstm_demo.py")))
    made = {
        "example": net_page(
            example, example.verify(on=["interpreter"]), recipes={"lstm/W_x": "rows i, f, o, g of kernel"}
        ),
        "long": net_page(lstmc.compile("gru", T=200, N=1, D=16, H=16)),
        "one layer": net_page(lstmc.compile("gru", T=4, N=1, D=3, H=3, target="caffe-fused")),
        "onnx": net_page(lstmc.compile("gru", T=4, N=1, D=3, H=3, backend="onnx")),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, pages: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The example's page, which asks for nothing else and logs no error."""
    yield from opened(browser, pages["example"], request.param)


@pytest.fixture
def long_page(browser: Browser, pages: dict[str, Path]) -> Iterator[Page]:
    yield from opened(browser, pages["long"], "light")


def opened(browser: Browser, path: Path, scheme: str, width: int = 1280) -> Iterator[Page]:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]
    made = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    made.on("request", lambda request: asked.append(request.url))
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.goto(path.as_uri())
    yield made
    assert ([url for url in asked if not url.startswith(("file:", "data:"))], wrong) == ([], [])
    context.close()


def view_box(page: Page, key: str) -> list[float]:
    return [float(n) for n in str(page.locator(f"#{key} + .picture svg").get_attribute("viewBox")).split()]


def test_an_accessibility_checker_finds_nothing(page: Page) -> None:
    assert AXE.is_file(), f"expected axe-core at {AXE}: make browser"
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    assert found == []


@pytest.mark.parametrize("name", ["one layer", "onnx"])
def test_nor_on_pages_of_other_nets(browser: Browser, pages: dict[str, Path], name: str) -> None:
    for made in opened(browser, pages[name], "dark"):
        test_an_accessibility_checker_finds_nothing(made)


@pytest.mark.parametrize("name", ["example", "onnx", "long"])
def test_a_page_is_no_wider_than_a_telephone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    for made in opened(browser, pages[name], "light", width=360):
        assert made.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("key", ["rolled", "unrolled"])
def test_a_picture_opens_at_a_size_that_can_be_read(page: Page, key: str) -> None:
    texts = page.locator(f"#{key} + .picture text")
    heights = texts.evaluate_all("all => all.map(text => text.getBoundingClientRect().height)")
    assert min(heights) >= 12  # a line of text of 12 pixels is higher


def test_the_keyboard_moves_and_zooms_a_picture(page: Page) -> None:
    page.locator("#unrolled + .picture").focus()
    page.keyboard.press("0")
    whole = view_box(page, "unrolled")
    page.keyboard.press("ArrowRight")
    moved = view_box(page, "unrolled")
    assert moved == pytest.approx([whole[0] + 0.1 * whole[2], *whole[1:]])
    page.keyboard.press("+")
    assert view_box(page, "unrolled")[2] == pytest.approx(0.8 * whole[2])
    page.keyboard.press("0")
    assert view_box(page, "unrolled") == whole


def test_the_mouse_drags_and_the_wheel_zooms(page: Page) -> None:
    whole = view_box(page, "unrolled")
    place = page.locator("#unrolled + .picture")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 105, box["y"] + 55)
    page.mouse.up()
    dragged = view_box(page, "unrolled")
    assert (dragged[0] < whole[0], dragged[1] < whole[1], dragged[2]) == (True, True, whole[2])
    page.mouse.wheel(0, -100)
    assert view_box(page, "unrolled")[2] == pytest.approx(0.85 * whole[2])


def test_search_marks_what_it_finds_and_says_how_many(page: Page) -> None:
    page.get_by_label("Find a node or a layer").fill("LSTMUnit")
    assert page.locator("#hits").inner_text() == "3 boxes, 0 layers found"  # layers are found by their names
    assert page.locator(".picture .found").count() == 3
    page.get_by_label("Find a node or a layer").fill("lstm/t001/ADD")
    assert page.locator("#hits").inner_text() == "1 box, 1 layer found"
    page.get_by_label("Find a node or a layer").fill("")
    assert page.locator(".picture .found").count() == 0


def test_enter_goes_to_the_next_box_that_is_found(page: Page) -> None:
    whole = view_box(page, "unrolled")
    page.get_by_label("Find a node or a layer").fill("LSTMUnit")
    seen = []
    for n in ("1", "2", "3", "1"):
        page.keyboard.press("Enter")
        assert page.locator("#hits").inner_text() == f"{n} of 3 boxes: lstm/t00{int(n) - 1}/c"
        seen.append(view_box(page, "unrolled"))
        shown, view = page.locator(".shown").bounding_box(), page.locator("#unrolled + .picture").bounding_box()
        assert shown is not None
        assert view is not None
        assert abs(shown["x"] + shown["width"] / 2 - view["x"] - view["width"] / 2) < 2
        assert abs(shown["y"] + shown["height"] / 2 - view["y"] - view["height"] / 2) < 2
    assert seen[0] == pytest.approx(seen[3], abs=0.01)
    assert seen[0] != pytest.approx(seen[1], rel=0.01)
    assert seen[0][2] < whole[2]


def test_search_leads_to_layers_of_steps_that_are_not_drawn(long_page: Page) -> None:
    long_page.get_by_label("Find a node or a layer").fill("t150/")
    assert long_page.locator("#hits").inner_text().startswith("0 boxes, ")
    long_page.get_by_role("list", name="Layers found").get_by_role("link").first.click()
    assert 'name: "gru/t150/' in long_page.locator(":target").inner_text()


def test_buttons_zoom_and_the_wheel_scrolls_a_page_until_a_picture_is_clicked(page: Page) -> None:
    page.get_by_role("button", name="Show all: The net, time going across").click()
    whole = view_box(page, "unrolled")
    page.get_by_role("button", name="Zoom in: The net, time going across").click()
    assert view_box(page, "unrolled")[2] == pytest.approx(0.8 * whole[2])
    page.get_by_role("button", name="Show all: The net, time going across").click()
    assert view_box(page, "unrolled") == whole
    box = page.locator("#unrolled + .picture").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.wheel(0, 100)
    assert view_box(page, "unrolled") == whole


def test_a_link_goes_from_the_text_to_the_box_and_both_are_marked(page: Page) -> None:
    page.locator("#prototxt ~ div a", has_text="box").nth(12).click()
    assert page.locator(".picture .shown").count() == 1
    page.locator("#prototxt ~ div a[href*=line-]").first.click()
    assert page.locator(".picture .shown").count() >= 1


def test_a_box_of_the_model_goes_to_its_line(page: Page) -> None:
    page.get_by_role("button", name="Show all: The model, each scan's body once").click()
    page.locator("#rolled + .picture .node", has_text="tanh_c").first.click()
    assert "h = sigmoid(o) * tanh(c)" in page.locator(":target").inner_text()


def test_the_nodes_of_a_net_without_text_are_a_table(browser: Browser, pages: dict[str, Path]) -> None:
    for made in opened(browser, pages["onnx"], "light"):
        made.get_by_role("group", name="Table of layers").get_by_role("link", name="gru").click()
        assert made.locator(":target").inner_text().split("\t")[:2] == ["gru", "GRU"]


def test_a_link_goes_from_a_layer_to_its_line_and_back(page: Page) -> None:
    page.locator('#prototxt ~ div a[href*="lstm-demo-py-24"]').first.click()
    target = page.locator(":target")
    assert "c = sigmoid(f) * c + sigmoid(i) * tanh(g)" in target.inner_text()
    assert target.is_visible()
    target.get_by_role("link").click()
    assert 'type: "LSTMUnit"' in page.locator(":target").inner_text()
    assert page.locator("#prototxt ~ div .lit").count() == 3


def test_a_box_goes_to_its_layer(page: Page) -> None:
    page.locator("#unrolled + .picture .node", has_text="LSTMUnit").first.click()
    assert 'type: "LSTMUnit"' in page.locator(":target").inner_text()


def test_a_table_says_what_a_step_costs(page: Page) -> None:
    row = page.get_by_role("row", name="in all")
    assert "26,602,000" in row.inner_text()
    assert page.get_by_text("interpreter: all ").is_visible()
    assert page.get_by_role("row", name="lstm/W_x rows i, f, o, g of kernel").count() == 1


PAINTED = """async act => {
  const began = performance.now();
  act();
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
PICTURE, FIELD = "document.querySelector('#unrolled + .picture')", "document.getElementById('search')"
ACTS = {
    "search": f"() => {{ {FIELD}.value = 'linear'; {FIELD}.dispatchEvent(new Event('input')); }}",
    "zoom": f"() => {PICTURE}.dispatchEvent(new KeyboardEvent('keydown', {{key: '+'}}))",
    "pan": f"() => {PICTURE}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft'}}))",
    "link": "() => { location.hash = 'layer-1000'; }",
}


@pytest.mark.parametrize("act", ACTS)
def test_a_page_of_200_steps_answers_at_once(long_page: Page, act: str) -> None:
    times = [long_page.evaluate(f"({PAINTED})({ACTS[act]})") for _ in range(25)]  # others may use this machine
    print(f"{act}: {min(times):.1f} ms")
    assert min(times) < ANSWER, times
