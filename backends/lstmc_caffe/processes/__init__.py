"""One installed Caffe in a process of its own: its Python, a worker, its messages. Ranks: workers that train
together."""
