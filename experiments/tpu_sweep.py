"""S over width and learning rate, with as many networks as a pod trains: the study that outgrows one machine.

Question. Where in the plane of width and learning rate does a single shot of NCnet have S > 2 often, and is any of it
contextual, when a cell has a million networks per context and not fifty runs?

Command. On one machine, small: `python -m experiments.tpu_sweep --members 2000 --steps 500 --out runs/sweep`.
Any option of `ncsim ensemble` may be given; one that is not has the value below. On many, each with the same --out, a
folder that all see or an address in an object store (`pip install '.[tpu]'` in a clone):

    TPU pod slice, from your own machine; JAX finds the hosts, and each trains a share:
        gcloud compute tpus tpu-vm ssh NAME --zone ZONE --worker all --command \\
            'cd ncsim && python -m experiments.tpu_sweep --distributed --out gs://BUCKET/sweep'
    SLURM, one job as a Ray cluster:          sbatch experiments/launch/slurm_ray.sh
    SLURM, an array:                          sbatch experiments/launch/slurm_array.sh
    A Ray cluster, from a machine in it:      python -m experiments.tpu_sweep --cluster auto --out /shared/sweep
    Anything else, on each of 16 machines:    python -m experiments.tpu_sweep --shard 3/16 --out /shared/sweep

A machine that is preempted loses the part that it was training. Ray gives it to another; a share is left as it is until
the same command is given again. `ncsim plan` with the same options says before what the sweep takes on the machine it runs on.

Time. 24 cells x 10^6 members x 4 contexts x 3,000 steps are 2.9e11 network-steps. Computed from the rates by width in
benchmarks/results/scaling/width.csv: an hour and ten minutes on two cores, nine minutes on 16. No TPU has run it: its rate is not
measured.

Expected. At a rate of 0.01 a single shot is above 2 in 0.30 of members at n = 3, most often at n = 4, 0.46, and less often beyond; no
member is contextual at any width or rate (docs/results.md and docs/mechanism.md, from 1,000 to 10^5 members per width on CPUs). What a million add is the tails.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments.shared.command import add_place, run_experiment
from ncsim.cli.options import add_config_options, add_worker_options, configs_of, device_count, kept_place, place_of
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import counted
from ncsim.report.write import printed, write_report
from ncsim.terminal import Progress

#: What is swept, and how large; options of the command line come first.
DEFAULTS = {
    "hidden": ["2", "3", "4", "5", "6", "8"],
    "learning_rate": ["0.001", "0.003", "0.01", "0.03"],
    "members": ["1_000_000"],
    "steps": ["3_000"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train this process's share; report where everything is stored."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_worker_options(parser)
    add_place(parser, "runs/sweep", "run folder (default: {})", "devices to use (default: all of this process)")
    parser.add_argument("--executor", metavar="NAME", default="auto", help="as for ncsim ensemble (default: auto)")


def _run(parsed: argparse.Namespace) -> None:
    for name, words in DEFAULTS.items():
        if getattr(parsed, name) is None:
            setattr(parsed, name, words)
    configs = configs_of(parsed)
    devices = device_count(parsed.devices)
    run = run_ensemble(
        configs, kept_place(parsed.out), devices=devices, progress=Progress(), executor=parsed.executor,
        shard=place_of(parsed, devices), pool=parsed.cluster,
    )  # fmt: skip
    missing = run.missing()
    if not missing:
        print(printed(write_report(run)))
        print(f"\nStored in {run.location}: parts/, summary.json, report.html, figures/")
    else:
        print(f"This share is stored in {run.location}. When all are: ncsim report {run.location}")
        print(
            f"{counted(missing, 'member is', 'members are')} still to be trained. What shares have left, a run without shares trains."
        )


if __name__ == "__main__":
    main()
