"""The running process, and pools of worker processes."""
