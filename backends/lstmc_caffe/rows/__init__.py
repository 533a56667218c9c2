"""Targets whose blobs are matrices."""
