"""A package that brings to lstmc, by entry points, an op with its Caffe layer, a cell, a target and a backend."""
