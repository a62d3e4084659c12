#!/usr/bin/env bash
# One SLURM job of several processes, one a node, brought together by JAX: it finds the others by SLURM's variables. They
# start together; afterwards none waits for another, and the first writes the report.
#
#   NCSIM_OUT=/shared/sweep sbatch experiments/launch/slurm_processes.sh
#   NCSIM_OUT=/shared/sweep sbatch --nodes=8 --gpus-per-task=1 experiments/launch/slurm_processes.sh
#
#SBATCH --job-name=ncsim-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

: "${NCSIM_OUT:?say where to store: NCSIM_OUT=FOLDER, seen by all nodes, or gs:// or s3://}"

# One process that dies is no reason to end the others: its parts are trained by them.
exec srun --kill-on-bad-exit=0 "${NCSIM_PYTHON:-python}" -m experiments.tpu_sweep --distributed --out "$NCSIM_OUT" "$@"
