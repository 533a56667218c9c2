"""Recognition of recurrent cells in scans, by the formulas of their step, independent of names and notation."""

from lstmc.patterns.equations import *
from lstmc.patterns.linear import *
from lstmc.patterns.recognise import *
from lstmc.patterns.recognised import *
from lstmc.patterns.recurrence import *
from lstmc.patterns.step import *
