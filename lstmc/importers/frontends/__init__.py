"""Translation of each framework's graph, configuration or tensor names into nets."""
