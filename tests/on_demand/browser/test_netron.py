"""Netron opens the nets that are written, and shows the names of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import netron
import pytest
from playwright.sync_api import Browser, Page

import lstmc

pytestmark = pytest.mark.browser
# Netron takes eval away from its page, with which this test reads the page
KEEP_EVAL = "const own = eval; Object.defineProperty(window, 'eval', {get: () => own, set: () => {}})"
SHOW_NAMES = "Control+u"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that reaches this machine alone."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    made = context.new_page()
    made.add_init_script(KEEP_EVAL)
    made.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
    yield made
    context.close()


def names_in_netron(page: Page, path: Path) -> list[str]:
    """The texts of a net's graph: of its layers, and of the arrows between them."""
    host, port = netron.start(str(path), address=("127.0.0.1", 0), browse=False)
    try:
        page.goto(f"http://{host}:{port}/")
        page.locator("body.default, body.notification").wait_for()
        if page.locator("body.notification").count():  # a question about cookies, where it cannot ask where it is
            page.locator("#message-button").click()
        page.locator("#canvas text").first.wait_for()
        page.keyboard.press(SHOW_NAMES)
        page.locator("#canvas text", has_text="t001").first.wait_for()
        return page.locator("#canvas text").all_text_contents()
    finally:
        netron.stop((host, port))


def shown(name: str) -> str:
    """A layer's name as Netron writes it on the layer: of a longer one the first and last 10 characters."""
    return name if len(name) <= 21 else f"{name[:10]}\N{HORIZONTAL ELLIPSIS}{name[-10:]}"


@pytest.mark.parametrize("file", ["gru.prototxt", "gru.caffemodel"])
def test_a_caffe_net_has_the_names_of_the_model(page: Page, tmp_path: Path, file: str) -> None:
    net = lstmc.compile("gru", T=3, N=2, D=4, H=5)
    (tmp_path / file).write_bytes(net.files[file])  # alone
    names = names_in_netron(page, tmp_path / file)
    layers = {shown(layer.name) for layer in net.layers if layer.type != "Input"}
    assert layers - {*names} == set()
    assert {"x", "y", "gru/t001/h", "gru/t002/z", "gru/t002/n"} <= {*names}
    assert not [name for name in names if "_split_" in name or len(name) > 40]


def test_an_onnx_net_has_the_names_of_the_model(page: Page, tmp_path: Path) -> None:
    lstmc.compile("gru", T=3, N=2, D=4, H=5, backend="onnx", form="unrolled").save(tmp_path)
    names = names_in_netron(page, tmp_path / "gru.onnx")
    assert {"x", "y", "gru/t001/h", "gru/t002/n"} <= {*names}
