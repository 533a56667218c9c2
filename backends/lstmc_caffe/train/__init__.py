"""Training by Caffe's own solvers: the training net with its phases, and the engine of a run. Snapshots are in Caffe's
formats.
"""
