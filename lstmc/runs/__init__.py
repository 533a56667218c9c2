"""Training runs: what one measures, records and leaves, whichever backend trains."""
