"""Data for training: read from files, held against the model's inputs, drawn as batches."""

from lstmc.data.dataset import Axes, Dataset, batch_axes, dataset_for, needed_inputs, sizes_of_data
from lstmc.data.files import read_arrays

__all__ = [
    "Axes",
    "Dataset",
    "batch_axes",
    "dataset_for",
    "needed_inputs",
    "read_arrays",
    "sizes_of_data",
]
