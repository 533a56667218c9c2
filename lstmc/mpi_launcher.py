"""Whether an MPI launcher of a site has started this process, as one of several."""

from __future__ import annotations

import os

# Where launchers say how many processes they have started, for all programs alike.
SIZES = (
    "OMPI_COMM_WORLD_SIZE",  # Open MPI's mpirun
    "PMI_SIZE",  # the mpiexec of MPICH and its kin; srun --mpi=pmi2
    "SLURM_STEP_NUM_TASKS",  # srun
)


def launched() -> int:
    """How many processes a launcher says that it has started together with this one; 1 where none has.

    Which of them this is, and whether they find each other, MPI alone can say.
    """
    found = next((os.environ[name] for name in SIZES if name in os.environ), "")
    return int(found) if found.isdecimal() else 1
