"""Processes that have Caffe: where its Python is, a worker, and the ranks of a training run."""
