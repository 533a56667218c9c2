"""Stands for scikit-image, which pycaffe imports for images and nets here do not need."""
