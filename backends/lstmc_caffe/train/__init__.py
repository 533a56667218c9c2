"""Training by Caffe's own solvers."""
