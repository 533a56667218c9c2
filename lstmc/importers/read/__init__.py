"""Readers of files: tensors by name and a graph, within limits, without importing a framework."""
