"""The names of the language of cells and models, which each module adds to."""

from lstmc.dsl.cell import *
from lstmc.dsl.declare import *
from lstmc.dsl.dims import *
from lstmc.dsl.elementwise import *
from lstmc.dsl.model import *
from lstmc.dsl.op import *
from lstmc.dsl.product import *
from lstmc.dsl.reduce import *
from lstmc.dsl.scan import *
from lstmc.dsl.value import *
from lstmc.dsl.whole_numbers import *
