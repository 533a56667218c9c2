"""One of several processes that train together: a worker with its own Caffe, started by an MPI launcher.
With arguments, which are the paths of two named pipes, rank 0 talks to lstmc through them and hands out each request.
Without arguments each rank was started by its own lstmc, on stdin and stdout, and tells this lstmc its rank and the
number of ranks; only the lstmc of rank 0 sends further requests. An array ``K|NAME`` goes to rank K alone, as does
``args["each"][K]``. All ranks do what is requested; rank 0 replies. A failure on one ends all: others would wait."""

import io
import os
import signal
import sys
import time
import traceback

WAIT = 5e-5  # seconds between two looks for a request

_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
WORKER = {"__name__": "worker", "__file__": _FILE}  # which is no module here, as sys.path is without this folder
with io.open(_FILE, "rb") as _source:
    exec(compile(_source.read(), _FILE, "exec"), WORKER)


def own_request(header, groups, rank):
    """Return the part of a request that is for one rank, as (header, arrays): what is for all ranks, and its own."""
    args, own = header.get("args"), {}
    if isinstance(args, dict) and "each" in args:
        header = dict(header, args=dict(args, **args["each"][rank]))
        del header["args"]["each"]
    for group, arrays in groups.items():
        for name, array in arrays.items():
            if "|" not in name or name.startswith("%d|" % rank):
                own.setdefault(group, {})[name.partition("|")[2] if "|" in name else name] = array
    return header, own


def next_request(comm, channel):
    """Return this rank's next request. Rank 0 reads it and sends each other rank's to that rank. These sleep meanwhile,
    because MPI's own wait keeps a core busy."""
    if channel:
        received = channel.receive()  # None at the end of the pipe
        requests = [received and own_request(received[0], received[1], rank) for rank in range(comm.size)]
        for rank in range(1, comm.size):
            comm.send(requests[rank], rank)
        return requests[0]
    while not comm.iprobe(source=0):
        time.sleep(WAIT)
    return comm.recv(source=0)


def main():
    """Answer requests until the end, together with the other ranks; only rank 0 replies."""
    WORKER["resource"].setrlimit(WORKER["resource"].RLIMIT_CORE, (0, 0))
    WORKER["end_with"](os.getppid())
    channel = None
    if not sys.argv[1:]:
        channel = WORKER["Channel"]()  # before MPI can write to stdout
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # srun sends them to all, for lstmc to heed
            signal.signal(number, signal.SIG_IGN)
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if channel:
        channel.receive()
        channel.send(WORKER["encode"]({"kind": "reply", "rank": comm.rank, "size": comm.size}, {}))
    if comm.rank:
        channel = None
    elif sys.argv[1:]:
        channel = WORKER["Channel"](*sys.argv[1:])
    worker = WORKER["Worker"]()
    try:
        while True:
            request = next_request(comm, channel)
            if request is None:
                break
            reply, groups = getattr(worker, "on_" + request[0]["request"])(*request)
            if channel:
                channel.send(WORKER["encode"](dict(reply, kind="reply"), groups))
    except BaseException:
        sys.stderr.write("rank %d: %s" % (comm.rank, traceback.format_exc()))
        sys.stderr.flush()
        comm.Abort(1)
    MPI.Finalize()
    os._exit(0)  # not through the static destructors of Caffe and its libraries


if __name__ == "__main__":
    main()
