"""The graph of an imported net: its values, ops and recurrent layers, and the facts of its import."""
