"""Scans as one layer each, whose C++ is generated from the graph of a step."""
