"""The zoo's nets against the published files, on each target of a recipe and in 8 bits; their pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

import lstmc
from lstmc.drawing.picture import Flow, Kind
from lstmc.importers.zoo import Recipe, recipes
from tests.on_demand.real_nets import eight_bits
from tests.on_demand.real_nets.frames import compiled, error, source_of
from tests.on_demand.real_nets.pictures import drawn

TOLERANCE = 1e-5  # of the largest magnitude of an output
pytestmark = [pytest.mark.network, pytest.mark.caffe, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.name)
def test_a_net_equals_its_source(recipe: Recipe, tmp_path: Path) -> None:
    source = source_of(recipe)
    assert len(source.outputs) >= 5
    assert len(recipe.targets) >= 2
    for target in recipe.targets:
        done = compiled(source, recipe, target, tmp_path / target)
        assert error(source, done, target) <= TOLERANCE, target


@pytest.mark.parametrize("name", ["dfn3-enc", "dtln-1", "dtln-2", "gtcrn", "nsnet2", "silero-vad"])
def test_a_net_in_tflite_equals_its_source(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name]
    source = source_of(recipe)
    assert error(source, compiled(source, recipe, "tflite", tmp_path), "tflite") <= TOLERANCE


@pytest.mark.parametrize("name", ["dtln-1", "flashvad"])
def test_the_error_in_8_bits_is_as_predicted(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name]
    source = source_of(recipe)
    rows = eight_bits.errors(source, recipe, compiled(source, recipe, "c", tmp_path))
    assert list(rows) == list(eight_bits.FORMATS)
    for row in rows.values():
        assert 0 < row["real"] < 0.2
        assert row["predicted"] == pytest.approx(row["real"], rel=0.02)


def test_a_picture_has_states_and_recurrent_layers_in_their_order(tmp_path: Path) -> None:
    net = lstmc.convert("zoo:dtln-1", tmp_path, target="c", on=[]).net
    picture = drawn(net.graph).picture
    assert {box.title: box.kind for box in picture.boxes} == {
        "input_2": Kind.INPUT,
        "input_3": Kind.STATE,
        "lstm_4_3": Kind.ELEMENTWISE,
        "lstm_5_3": Kind.ELEMENTWISE,
        "1 product": Kind.PRODUCT,
        "activation_2": Kind.OUTPUT,
    }
    titles = {box.key: box.title for box in picture.boxes}
    assert [(titles[each.tail], titles[each.head]) for each in picture.arrows] == [
        ("input_2", "lstm_4_3"),
        ("input_3", "lstm_4_3"),
        ("lstm_4_3", "lstm_5_3"),
        ("lstm_5_3", "1 product"),
        ("1 product", "activation_2"),
        ("lstm_5_3", "input_3"),
    ]
    assert [each.flow is Flow.STATE for each in picture.arrows] == [False] * 5 + [True]
