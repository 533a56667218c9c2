"""Trained models of other frameworks, brought in as models in the public language."""

from lstmc.importers.checks import *
from lstmc.importers.importer import *
from lstmc.importers.inspection import *
from lstmc.importers.refusal import *
from lstmc.importers.sources import *
