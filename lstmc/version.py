"""Which lstmc this is: what records, manifests and nets are signed with."""

__version__ = "0.1.0"
