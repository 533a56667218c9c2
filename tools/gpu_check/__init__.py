"""Whether nets compute the same on this machine's GPU, and how fast: ``python -m tools.gpu_check``.

It needs no test framework, so that it runs where there is little more than Python, NumPy and a driver.
"""
