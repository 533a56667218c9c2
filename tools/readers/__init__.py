"""Every library cell in every reader that can be had here, as a table: ``make readers``."""
