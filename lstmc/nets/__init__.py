"""Written nets in use: sessions, batches of files larger than memory, and tuned memory sizes."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "comparison", "tune")
