"""A net and its weights as files, and the arrays that are fed to it and read from it."""
