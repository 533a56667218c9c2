"""Real Caffe: where it is, and nets that run in it."""
