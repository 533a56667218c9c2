"""Stands for scipy.ndimage, which pycaffe imports for images and nets here do not need."""

from typing import NoReturn


def zoom(*arguments: object, **options: object) -> NoReturn:
    raise ImportError("caffe.io needs scipy.ndimage.zoom for images: SciPy is not part of this bundle")
