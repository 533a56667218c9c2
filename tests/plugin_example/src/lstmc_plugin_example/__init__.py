"""A package that brings to lstmc, by its entry points, an op with its Caffe layer, a cell and a backend."""
