"""A net and its weights as files, and what whoever runs it feeds and reads."""
