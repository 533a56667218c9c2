"""The version of lstmc, which records, manifests and nets carry."""

__version__ = "0.1.0"
