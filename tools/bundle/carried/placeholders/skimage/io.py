"""Stands for skimage.io, which pycaffe imports for images and nets here do not need."""
