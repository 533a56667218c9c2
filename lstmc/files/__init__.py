"""Files: atomic writes, locks, arrays and JSON."""
