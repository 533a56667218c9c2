"""The manifest: the data that a program needs to feed, read and train a written net, as JSON beside it.

Any backend writes one with :func:`describe`; what runs or reads its nets needs no more than the file.
"""

from lstmc.manifest.describe import *
from lstmc.manifest.manifest import *
