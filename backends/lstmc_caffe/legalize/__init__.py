"""Core ops to layers of stock Caffe."""
