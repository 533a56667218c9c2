"""From a description to a model in the public language, its weights, and the record of where they came from."""
