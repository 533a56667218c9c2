"""Real Caffe: the build that is used, and nets that run in it. Its Runner owns the process."""
