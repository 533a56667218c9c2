"""The interface of backends: their base class, and their discovery."""

from lstmc.backend.compiled import *
from lstmc.backend.discover import *
from lstmc.backend.protocols import *
