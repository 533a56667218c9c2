"""Removes the C library of the wheel, which is older than its other libraries require."""

import importlib.util
import os

package = os.path.dirname(importlib.util.find_spec("tpu_mlir").origin)
for name in ("libc.so.6", "libm.so.6", "libpthread.so.0"):
    path = os.path.join(package, "lib", "third_party", name)
    if os.path.exists(path):
        os.rename(path, path + ".away")
