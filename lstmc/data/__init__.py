"""Data for training: checked against the inputs of the model, and drawn as batches."""

from lstmc.data.dataset import Axes, Dataset, batch_axes, dataset_for, needed_inputs, sizes_of_data

__all__ = [
    "Axes",
    "Dataset",
    "batch_axes",
    "dataset_for",
    "needed_inputs",
    "sizes_of_data",
]
