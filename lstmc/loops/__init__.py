"""Scans as one layer each, whose C++ and CUDA are generated from the graph of a step."""
