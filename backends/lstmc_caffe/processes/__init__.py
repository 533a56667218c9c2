"""One installed Caffe in a process of its own: its Python, a worker there, and the messages to it. Ranks are workers
that train together.
"""
