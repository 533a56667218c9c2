"""Text from language models: their symbols, and the writer that draws one after another."""
