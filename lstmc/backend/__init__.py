"""The interface of backends: their base class, and their discovery."""

from lstmc.backend.base import *
from lstmc.backend.compiled import *
