"""Random models for hypothesis: ``@given(random_models())``. A failing model prints itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.draws import HypothesisDraw
from tests.random_models.models import RandomModel, random_model, seeded_model


@st.composite
def random_models(draw: Any) -> RandomModel:
    """A model of one to three scans of one to three cells, and ops around them.

    One in four is drawn by hypothesis itself, which may make it smaller; the others are independent of each other.
    """
    if draw(st.integers(0, 3)) == 0:
        return random_model(HypothesisDraw(draw))
    return seeded_model(draw(st.integers(0, 2**64 - 1)))
