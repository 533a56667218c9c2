"""What the page of a net says: links and figures that are right. ``tests/on_demand/browser`` opens it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lstmc
from lstmc.api.models import ModelSource, model_in
from lstmc.errors import DataError
from lstmc.ir import Graph, graph_work, node_count
from lstmc.passes import Pass, PassResult
from lstmc.report import net_page, recipes_beside, run_facts, trained_model
from lstmc.report.page import layer_rows, pass_rows, text_by_layer

ROOT = Path(__file__).parents[2]


MODEL = """

from lstmc import model, scan


@model
def odd(X=Input(2, 1, 3)):
    return {"y": scan(rnn(H=4), X)[0]}
"""


RECORDED = {
    "command": "lstmc train x.py",
    "model": "x.py:odd",
    "sizes": {"N": 3},
    "backend": "caffe: built here",
    "target": "flat",
    "settings": {"base_lr": 0.125, "gamma": None},
}


class Other(Pass):
    """A pass of a user's own."""

    name = "other"

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph, False)


class Links(HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.targets += [str(given["href"])] if "href" in given else []
        self.loaded += [str(given["src"])] if "src" in given else []


@pytest.fixture(scope="module")
def net() -> lstmc.Net:
    return lstmc.compile("lstm", T=3, N=2, D=4, H=5)


@pytest.fixture(scope="module")
def page(net: lstmc.Net) -> str:
    return net_page(net, net.verify(on=["interpreter"]))


def test_every_link_leads_to_a_part_of_the_page_and_nothing_is_loaded(page: str) -> None:
    links = Links(page)
    assert len(links.ids) == len(set(links.ids))
    assert len(links.targets) > 40
    assert [target for target in links.targets if target.removeprefix("#") not in links.ids] == []
    assert links.loaded == []
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)


def test_the_whole_text_of_the_net_is_there(net: lstmc.Net) -> None:
    pieces = list(text_by_layer(net.prototxt))
    assert "".join(text for _, text in pieces) == net.prototxt
    assert [name for name, _ in pieces if name] == [layer.name for layer in net.layers]


def test_layers_have_what_they_cost_and_where_they_were_written(net: lstmc.Net) -> None:
    rows = {row.layer.name: row for row in layer_rows(net)}
    product = rows["lstm/linear_W_x"]
    assert (product.flops, product.memory) == (2 * 3 * 2 * 20 * 4, 4 * 3 * 2 * 20)
    assert product.parameters == 20 * 4 + 20
    steps = [rows[f"lstm/t00{t}/linear_W_h"] for t in (1, 2)]
    assert [row.parameters for row in steps] == [20 * 5, 0]  # one matrix, shared
    assert [row.step for row in steps] == ["lstm 1", "lstm 2"]
    assert sum(row.parameters for row in rows.values()) == sum(array.size for array in net.weights.values())
    text = (ROOT / "lstmc" / "cells" / "lstm.py").read_text().splitlines()
    assert all(row.loc and "linear(h, W_h)" in text[row.loc.line - 1] for row in steps)


@pytest.mark.parametrize("options", [{"target": "caffe-fused"}, {"backend": "onnx"}, {"target": "noslice"}])
def test_costs_add_up_in_every_form(options: dict[str, str]) -> None:
    net = lstmc.compile("mamba", T=3, N=2, D=4, E=3, S=2, R=2, K=3, **options)
    rows = layer_rows(net)
    assert sum(row.parameters for row in rows) == sum(array.size for array in net.weights.values())
    assert sum(row.flops for row in rows) > graph_work(net.compiled.model).flops / 2
    assert all(None not in row.layer.shapes for row in rows)


def test_a_comment_is_of_no_layer(net: lstmc.Net) -> None:
    pieces = list(text_by_layer(net.prototxt))
    assert [name for name, text in pieces if name and "# ----" in text] == []


def test_passes_of_any_list_are_told(net: lstmc.Net) -> None:
    form = lstmc.compile("lstm", T=2, N=2, D=4, H=5, form="packed-in-loop")
    edited = lstmc.compile("lstm", T=2, N=2, D=4, H=5, passes=lambda passes: passes.insert_after("hoist", Other()))
    assert "the rules of legalize, and why" in net_page(form)
    assert '<th scope="row">other</th>' in net_page(edited)


def test_passes_have_their_rules_and_what_they_changed(net: lstmc.Net) -> None:
    rows = {row.name: row for row in pass_rows(net)}
    assert list(rows) == list(net.passes)
    hoist = rows["hoist"]
    assert hoist.rules == ("hoist_node",)
    assert any(line.startswith("+") and "%lstm/linear" in line for line in hoist.difference)
    assert rows["expand"].after == node_count(net.after("expand"))
    assert all(not row.difference for row in rows.values() if not row.rules and row.before == row.after)


def test_a_pass_tells_its_rules_and_why(page: str) -> None:
    told = re.findall(r"<summary>the rules of hoist, and why</summary><pre>(.*?)</pre>", page, re.DOTALL)
    assert len(told) == 1
    assert "An LSTM&#39;s x @ W_x.T over T steps of [N, D] becomes one matrix product of [T*N, D]." in told[0]


def test_a_pass_that_is_a_function_tells_the_rules_of_the_function(page: str) -> None:
    (told,) = re.findall(r"<summary>the rules of fuse_linears, and why</summary><pre>(.*?)</pre>", page, re.DOTALL)
    assert told.startswith("1. linear(x, W1), linear(x, W2), ... =&gt; ")


def test_the_states_are_told_with_their_recurrences(page: str) -> None:
    section = page.partition('<h2 id="states">')[2].partition("</section>")[0]
    assert re.findall(r"<tr><th scope=\"row\">(.*?)</th><td>(.*?)</td><td>(.*?)</td>", section) == [
        ("h", "y", "sequential: the step has the sigmoid of a value that reads h"),
        ("c", "y", "sequential: c is multiplied by sigmoid_f, which reads h"),
    ]


def test_text_in_the_page_is_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    text = (ROOT / "lstmc" / "cells" / "plain.py").read_text()
    path.write_text(text.replace('"""', '"""<script>alert(1)</script> & ', 1) + MODEL)
    made = net_page(lstmc.compile(model_in(str(path))))
    assert "<script>alert" not in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; " in made


def test_the_pictures_are_svg_with_ids_of_their_own(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ids = [each.get("id") for svg in pictures for each in ElementTree.fromstring(svg).iter() if each.get("id")]
    assert len(pictures) == 2
    assert len(ids) == len(set(ids))


def test_an_import_beside_the_model_tells_its_recipes(tmp_path: Path) -> None:
    assert recipes_beside(ModelSource.from_model("gru")) == {}
    (tmp_path / "model.py").write_text(MODEL.replace("scan\n", "scan, Input\nfrom lstmc.cells import rnn\n"))
    model = model_in(str(tmp_path / "model.py"))
    assert recipes_beside(model) == {}
    (tmp_path / "import.json").write_text(json.dumps({"parameters": {"W": {"recipe": "rows 0 to 3 of w_ih"}}}))
    assert recipes_beside(model) == {"W": "rows 0 to 3 of w_ih"}
    (tmp_path / "import.json").write_text("{}")
    with pytest.raises(DataError, match=r"import\.json is no record of an import: "):
        recipes_beside(model)


def test_a_run_tells_its_command_settings_and_curve(net: lstmc.Net, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run_facts(tmp_path)
    assert str(caught.value) == (f"DataError: expected the folder of a run, with command.json in it, found {tmp_path}")
    (tmp_path / "command.json").write_text(json.dumps(RECORDED))
    with pytest.raises(DataError, match=r"has measured nothing: no line in metrics\.jsonl"):
        run_facts(tmp_path)
    line = {"kind": "train", "iteration": 1, "loss": 0.5, "rate": 0.1, "seconds": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    facts = run_facts(tmp_path)
    assert (facts.sizes, facts.backend, facts.target, facts.weights) == ({"N": 3}, "caffe", "flat", None)
    with pytest.raises(DataError) as caught:
        trained_model(facts)
    assert str(caught.value) == (
        f"DataError: the run in {tmp_path} trained x.py:odd, and there is no such file here\n"
        f"  make the page where that file is, or name the model too, with run={tmp_path}"
    )
    made = net_page(net, run=facts)
    assert facts.curve.startswith(b"\x89PNG")
    assert made.index('<section aria-labelledby="run">') < made.index('<section aria-labelledby="pictures">')
    assert made.index('<a href="#run">') < made.index('<a href="#pictures">')
    assert all(word in made for word in ("lstmc train x.py", "base_lr", "0.125", "data:image/png;base64,"))
    assert '<th scope="row">gamma</th>' not in made  # a setting without a value
