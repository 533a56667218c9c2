"""Written nets in use: sessions, batches of files larger than memory, text generation, and tuned memory sizes."""
