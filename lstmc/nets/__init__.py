"""Written nets in use: sessions, text generation, and tuned memory sizes."""
