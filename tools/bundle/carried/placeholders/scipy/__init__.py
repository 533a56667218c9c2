"""Stands for SciPy, which pycaffe imports for images and nets here do not need."""
