"""Writing: nodes, initialisers, the model, and the files of it."""
