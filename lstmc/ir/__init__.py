"""The graph IR: values, nodes, scans, their text and their laws."""

from lstmc.ir.graph import *
from lstmc.ir.rebuild import *
from lstmc.ir.scan import *
from lstmc.ir.text import *
from lstmc.ir.verify import *
