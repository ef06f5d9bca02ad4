"""The number of a process among those that a launcher such as mpiexec started together."""

import os

# Variables in which launchers say a process's rank and the number of processes: MPICH and Intel MPI, Open MPI, MVAPICH,
# and srun, which sets the second one for the tasks of a step only.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def launched() -> tuple[int, int] | None:
    """Return (rank, number of processes) if a launcher started several of this process, else None."""
    for names in LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal() and int(size) > 1:
            return int(rank), int(size)
    return None
