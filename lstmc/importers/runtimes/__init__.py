"""The frameworks that trained models come from, to compare imported ones with: each where it is installed."""
