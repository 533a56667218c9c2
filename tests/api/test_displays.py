"""How nets and runs look in a notebook: whole HTML, with nothing of a name taken for markup."""

from __future__ import annotations

from lstmc.api.running import layers_html, png_html, table_html
from lstmc.backend import Layer


def test_names_are_no_markup() -> None:
    assert table_html("a < b", ("<i>",), [("x & y",)]) == (
        "<div><b>a &lt; b</b><table><thead><tr><th>&lt;i&gt;</th></tr></thead>"
        "<tbody><tr><td>x &amp; y</td></tr></tbody></table></div>"
    )


def test_a_long_table_has_its_middle_left_out() -> None:
    text = table_html("", ("n", "m"), [(str(i), "") for i in range(100)])
    assert text.count("<tr>") == 1 + 60 + 1
    assert "<td>29</td><td></td></tr><tr><td>&hellip; 40 more</td><td></td></tr><tr><td>70</td>" in text


def test_shapes_that_are_not_known() -> None:
    layer = Layer("l", "Python", ("a", "b"), ("c", "d"), ((2, 3), None))
    assert "<td>a, b</td><td>c, d</td><td>2 x 3, ?</td>" in layers_html("", [layer])
    assert "<td>1 number</td>" in layers_html("", [Layer("loss", "EuclideanLoss", (), ("loss",), ((),))])


def test_a_run_without_a_picture() -> None:
    assert png_html("run", None) == "<div><b>run</b><br></div>"
    assert png_html("run", b"png") == (
        '<div><b>run</b><br><img alt="loss curve" src="data:image/png;base64,cG5n"></div>'
    )
