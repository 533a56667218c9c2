"""Programs that stream through a net of one step, for whoever runs it without lstmc."""
