"""Names that a written model uses, and that its values therefore cannot have."""

from __future__ import annotations

import builtins
import keyword
import re

from lstmc.dsl.activations import __all__ as activations_words
from lstmc.dsl.arrange import __all__ as arrange_words
from lstmc.dsl.cell import __all__ as cell_words
from lstmc.dsl.declare import __all__ as declare_words
from lstmc.dsl.dims import __all__ as dims_words
from lstmc.dsl.fillers import __all__ as fillers_words
from lstmc.dsl.elementwise import __all__ as functions_words
from lstmc.dsl.layers import __all__ as layers_words
from lstmc.dsl.losses import __all__ as losses_words
from lstmc.dsl.model import __all__ as model_words
from lstmc.dsl.pointwise import __all__ as pointwise_words
from lstmc.dsl.product import __all__ as product_words
from lstmc.dsl.reduce import __all__ as reduce_words
from lstmc.dsl.scan import __all__ as scan_words
from lstmc.dsl.selection import __all__ as selection_words
from lstmc.dsl.valid import __all__ as valid_words
from lstmc.dsl.whole_numbers import __all__ as whole_numbers_words

LANGUAGE: tuple[str, ...] = tuple(  # what a written model may import
    sorted(
        [
            *activations_words,
            *arrange_words,
            *cell_words,
            *declare_words,
            *dims_words,
            *fillers_words,
            *functions_words,
            *layers_words,
            *losses_words,
            *model_words,
            *pointwise_words,
            *product_words,
            *reduce_words,
            *scan_words,
            *selection_words,
            *valid_words,
            *whole_numbers_words,
        ]
    )
)
HELPERS = ("transposed", "tail", "erf", "exact_gelu")
RESERVED = frozenset(
    {*LANGUAGE, *keyword.kwlist, *keyword.softkwlist, *dir(builtins), *HELPERS, "net", "N", "D", "S", "H", "P"}
)
CELL = re.compile(r"(rnn|gru|lstm)_cell(_\d+)?")  # what the cells of a written model are called
