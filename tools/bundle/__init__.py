"""``python -m tools.bundle``: one archive that checks nets on a machine with a GPU, a driver and Python 3.12.

``carried/`` goes into the archive as it is.
"""
