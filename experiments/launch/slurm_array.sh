#!/usr/bin/env bash
# Sixteen shares of a run that need nothing of each other but the folder: a SLURM array. Tasks may start at different times,
# be preempted and requeued; each trains its own share. The one that ends last writes the report.
#
#   NCSIM_OUT=/shared/sweep sbatch experiments/launch/slurm_array.sh
#   NCSIM_OUT=/shared/sweep sbatch --array=1-64 experiments/launch/slurm_array.sh --steps 10_000
#
# Some shares once more, here the fifth and the seventh of sixteen: an array of its own knows nothing of the first one's length.
#
#   NCSIM_SHARES=16 NCSIM_OUT=/shared/sweep sbatch --array=5,7 experiments/launch/slurm_array.sh
#
#SBATCH --job-name=ncsim-sweep
#SBATCH --array=1-16
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${NCSIM_OUT:?say where to store: NCSIM_OUT=FOLDER, seen by all nodes, or gs:// or s3://}"
: "${SLURM_ARRAY_TASK_ID:?start with sbatch; without SLURM: python -m experiments.tpu_sweep --shard I/N}"
tasks=${SLURM_ARRAY_TASK_COUNT:?}
first=${SLURM_ARRAY_TASK_MIN:-1}
step=${SLURM_ARRAY_TASK_STEP:-1}
place=$(((SLURM_ARRAY_TASK_ID - first) / step + 1))
if [ -n "${NCSIM_SHARES:-}" ]; then
    place=$SLURM_ARRAY_TASK_ID tasks=$NCSIM_SHARES
fi

# exec: SLURM's signal reaches ncsim itself, which stores what is whole and ends.
exec "${NCSIM_PYTHON:-python}" -m experiments.tpu_sweep --shard "$place/$tasks" --out "$NCSIM_OUT" "$@"
