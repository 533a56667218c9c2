"""Printing a net: the model in the public language, its weights, and the record of their origin."""
