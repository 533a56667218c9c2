"""The zoo's nets against the published files: on each target of a recipe, over 100 frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.importers.zoo import Recipe, recipes
from tests.on_demand.real_nets import eight_bits
from tests.on_demand.real_nets.frames import compiled, error, source_of

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
