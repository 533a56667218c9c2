"""Run as a program (``T N D H``): the least seconds of a forward and backward pass of torch.nn.LSTM on the GPU.

Prints JSON: {"seconds": ...}, or {"reason": ...} where PyTorch is not installed or has no GPU.
"""

# mypy: ignore-errors
import json
import sys
import time

try:
    import torch
except ImportError:
    torch = None

SECONDS, ROUNDS = 4.0, 200


def seconds(steps, batch, width, units):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32, as Caffe computes
    net = torch.nn.LSTM(width, units).cuda()
    x = torch.randn(steps, batch, width, device="cuda", requires_grad=True)
    best, started = float("inf"), time.perf_counter()
    for done in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        net(x)[0].sum().backward()
        torch.cuda.synchronize()
        if done:
            best = min(best, time.perf_counter() - start)
        if done > 2 and time.perf_counter() - started > SECONDS:
            break
    return best


if __name__ == "__main__":
    if torch is None:
        found = {"reason": "PyTorch is not installed"}
    elif not torch.cuda.is_available():
        found = {"reason": f"PyTorch {torch.__version__} has no GPU here"}
    else:
        found = {"seconds": seconds(*map(int, sys.argv[1:5])), "version": torch.__version__}
    print(json.dumps(found))
