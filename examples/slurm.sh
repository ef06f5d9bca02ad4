#!/bin/bash
# Train one network on several machines of a Slurm cluster: sbatch examples/slurm.sh CONFIG.toml
#
# Slurm sends SIGTERM before the time limit; the run then ends after a step with a checkpoint, and the same command
# continues it. Adapt the lines with #SBATCH, and load your MPI: mpi4py must be built for it.
#SBATCH --job-name=nnjit
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60

set -e
config=${1:?usage: sbatch slurm.sh CONFIG.toml}
run=${2:-runs/$(basename "$config" .toml)-slurm}

# Compiled code and decoded images, on a file system that all machines see.
export NNJIT_CACHE_DIR=${NNJIT_CACHE_DIR:-$PWD/.nnjit-cache}

if [ -e "$run/config.toml" ]; then
    srun nnjit run --resume "$run"
else
    srun nnjit run "$config" --output "$run"
fi
