#!/usr/bin/env bash
# One SLURM job whose nodes become a Ray cluster (2.49 or later), which hands out the parts: what a node was training when
# it went is trained by another. The first node shows the progress and writes the report.
#
#   NCSIM_OUT=/shared/sweep sbatch experiments/launch/slurm_ray.sh
#   NCSIM_OUT=/shared/sweep sbatch --nodes=8 --gpus-per-task=1 experiments/launch/slurm_ray.sh
#
#SBATCH --job-name=ncsim-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

: "${NCSIM_OUT:?say where to store: NCSIM_OUT=FOLDER, seen by all nodes, or gs:// or s3://}"
: "${SLURM_JOB_NODELIST:?start with sbatch; on one machine: python -m experiments.tpu_sweep --cluster ray}"
python=${NCSIM_PYTHON:-python}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*} # no pipe: whoever closes it early ends the job, with pipefail and without a word

# Nothing of a run passes through the object store, so that it is as small as Ray takes it.
exec srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "${SLURM_CPUS_PER_TASK:-1}" --object-store-memory 80000000 \
  -- "$python" -m experiments.tpu_sweep --cluster auto --out "$NCSIM_OUT" "$@"
