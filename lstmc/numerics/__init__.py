"""Low precision: the ranges of a net's values over streams of data, and the errors of a net in a device's numbers."""

from lstmc.numerics.device import *
from lstmc.numerics.effects import *
from lstmc.numerics.ranges import *
from lstmc.numerics.sequences import *
