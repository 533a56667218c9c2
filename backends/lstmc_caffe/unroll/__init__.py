"""Time and wide layers: how a sequence is cut into steps and joined, in trees of layers."""
