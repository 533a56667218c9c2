"""From each framework's graph or names to a description."""
