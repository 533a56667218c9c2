"""Runs under an MPI launcher, two processes of the Python that has mpi4py: how long messages between them take.

Its argument is a JSON list of message sizes, in numbers of float32. Process 0 prints JSON, seconds that are minima over
many rounds: ``latency`` (a message of 8 bytes, one way), ``large`` ([bytes, one way]), and for each size ``allreduce``
and ``copy`` (there and back between one array and another).
"""

import json
import os
import sys
import time

import numpy as np
from mpi4py import MPI

LARGE = 1 << 20  # float32 numbers
COMM = MPI.COMM_WORLD


def least(function, rounds):
    """The least seconds that a call takes, of processes that begin together."""
    found = []
    for _ in range(rounds):
        COMM.Barrier()
        begun = time.perf_counter()
        function()
        found.append(time.perf_counter() - begun)
    return COMM.allreduce(min(found), MPI.MAX)


def there_and_back(array):
    if COMM.rank == 0:
        COMM.Send(array, 1)
        COMM.Recv(array, 1)
    else:
        COMM.Recv(array, 0)
        COMM.Send(array, 0)


def copied(one, other):
    other[...] = one
    one[...] = other


def main():
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[COMM.rank % len(cores)]})  # one each, or they may wait for each other on one
    small, large = np.zeros(2, np.float32), np.zeros(LARGE, np.float32)
    found = {
        "latency": least(lambda: there_and_back(small), 2000) / 2,
        "large": [large.nbytes, least(lambda: there_and_back(large), 100) / 2],
        "allreduce": [],
        "copy": [],
    }
    for size in json.loads(sys.argv[1]):
        one, other = np.zeros(size, np.float32), np.zeros(size, np.float32)
        found["allreduce"].append(least(lambda array=one: COMM.Allreduce(MPI.IN_PLACE, array), 100))
        found["copy"].append(least(lambda a=one, b=other: copied(a, b), 50))
    if COMM.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
