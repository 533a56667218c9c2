"""The frameworks of the sources, which run them for comparison where they are installed."""
