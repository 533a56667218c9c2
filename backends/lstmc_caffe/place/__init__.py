"""One Python that has Caffe, and a process of it."""
