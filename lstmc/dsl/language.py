"""The words of the language that cells and models are written in. Each module lists those that it adds."""

from lstmc.dsl.activations import *
from lstmc.dsl.arrange import *
from lstmc.dsl.cell import *
from lstmc.dsl.counting import *
from lstmc.dsl.declare import *
from lstmc.dsl.dims import *
from lstmc.dsl.domains import *
from lstmc.dsl.fillers import *
from lstmc.dsl.fixed import *
from lstmc.dsl.elementwise import *
from lstmc.dsl.layers import *
from lstmc.dsl.losses import *
from lstmc.dsl.model import *
from lstmc.dsl.op import *
from lstmc.dsl.pointwise import *
from lstmc.dsl.product import *
from lstmc.dsl.reduce import *
from lstmc.dsl.scan import *
from lstmc.dsl.selection import *
from lstmc.dsl.valid import *
from lstmc.dsl.value import *
from lstmc.dsl.whole_numbers import *
