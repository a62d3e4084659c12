#!/usr/bin/env bash
# Every host of a TPU pod slice, from a machine with gcloud. The source and its environment are on the hosts already:
#   gcloud compute tpus tpu-vm ssh NAME --zone ZONE --worker all --command \
#     'git clone ADDRESS ncsim && cd ncsim && python3 -m venv .venv && .venv/bin/pip install ".[tpu]"'
#
#   experiments/launch/tpu_pod.sh NAME ZONE gs://BUCKET/sweep --steps 10_000
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 NAME ZONE gs://BUCKET/FOLDER [options of experiments.tpu_sweep]" >&2; exit 2; }
name=$1 zone=$2 out=$3
shift 3
options=$(printf ' %q' "$@")
[ $# -gt 0 ] || options=
exec gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker all \
  --command "cd ncsim && .venv/bin/python -m experiments.tpu_sweep --distributed --out $(printf %q "$out")$options"
