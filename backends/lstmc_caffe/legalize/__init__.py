"""Rewrites core ops and scans as layers of stock Caffe, by one rule for each op, by recognised recurrent layers, and
by trees of layers over time. A scan may also become one generated layer.
"""
