"""Rewrites core ops and scans as layers of stock Caffe. A scan may also become one generated layer."""
