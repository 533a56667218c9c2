"""From bytes to tensors by name and a graph; no framework is imported, and all limits are here."""
