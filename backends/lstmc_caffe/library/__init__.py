"""Libraries of generated layers: compiled for one build of Caffe, and remembered."""
