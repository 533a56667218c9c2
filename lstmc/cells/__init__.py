"""The library cells, written in the public DSL only; found through the entry-point group ``lstmc.cells``."""
