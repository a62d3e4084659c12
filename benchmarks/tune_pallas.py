"""Tune the Pallas kernel on the device at hand, and check what it gives: `python -m benchmarks.tune_pallas`.

Prints the rate of every pair of lanes and warps a program, beside the XLA executor on the same device; then, with the
fastest pair, three checks against the XLA executor on this machine's CPU: a two-sample test of the laws of joint counts,
with other members, context by context; how many of the same members differ, and how many of those had an undecided
answer in one program or the other; and the share of networks solved. What wins goes into `ncsim/executors/pallas.py`
(`PROGRAM_LANES`, `NUM_WARPS`, `LANES`). On a CPU the kernel is interpreted: that shows that this program works, and
nothing about rates; try `--lanes 32 64 --warps 4 --block 128 --steps 20 --members 256 --check-steps 50`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS
from ncsim.executors.devices import prepare_jax
from ncsim.formatting import json_text
from ncsim.training.step import train

#: Chance that four tests on right programs together raise an alarm.
FALSE_ALARM = 0.01


def main() -> None:
    """Run everything and print it; `--json` stores it too."""
    given = _arguments()
    prepare_jax()
    import jax

    from ncsim.executors import choice, pallas, xla

    config = EnsembleConfig(hidden=given.hidden, optimizer=given.optimizer, loss=given.loss)
    device = jax.devices()[0]
    kind = "cpu" if device.platform == "cpu" else device.platform
    mesh = jax.make_mesh((1,), (xla.MEMBERS,), devices=[device])
    title = (
        f"{device.platform} ({device.device_kind}), jax {jax.__version__}, hidden {config.hidden}, {config.optimizer}"
    )
    print(f"{title}, blocks of {given.block:,} members, {given.steps:,} steps")
    if kind == "cpu":
        print("the kernel is INTERPRETED here: these are no rates of a kernel")
    found: dict[str, Any] = {"device": title, "block": given.block, "steps": given.steps, "rates": []}

    def measured(words: str, training: Any = None) -> tuple[float, Any]:
        begun = time.perf_counter()
        try:
            program = xla.block_program(config, mesh, 1, given.block, training or train)
            compiled = time.perf_counter() - begun
            seconds = min(choice.seconds_a_network(config, program, mesh, steps=given.steps) for _ in range(3))
        except Exception as error:  # one pair that does not fit must not end the table
            print(f"{words:24} fails: {' '.join(str(error).split())[:140]}", flush=True)
            found["rates"].append({"what": words, "error": str(error)})
            return 0.0, None
        rate = len(CONTEXTS) * given.steps / seconds
        print(f"{words:24} {rate:12.4g} network-steps/s   compile {compiled:6.2f} s", flush=True)
        found["rates"].append({"what": words, "rate": rate, "compile_seconds": compiled})
        return rate, program

    by_xla, _ = measured("xla")
    best, winner, name = 0.0, None, ""
    for lanes in given.lanes:
        shape = (max(lanes // 128, 1), 128) if kind == "tpu" else (lanes,)
        for warps in given.warps if kind == "gpu" else given.warps[:1]:
            words = f"pallas {lanes} lanes, {warps} warps"
            rate, program = measured(words, pallas.training(kind, shape, warps))
            if rate > best:
                best, winner, name = rate, program, words
    if winner is None:
        raise SystemExit("no pair ran")
    print(f"fastest: {name}: {best / by_xla if by_xla else float('nan'):.2f} x xla on this device")

    cpu = jax.make_mesh((1,), (xla.MEMBERS,), devices=jax.devices("cpu")[:1])
    reference = xla.block_program(config, cpu, 1)
    same = _records(choice, config, winner, mesh, given, 0)
    on_cpu = _records(choice, config, reference, cpu, given, 0)
    others = _records(choice, config, winner, mesh, given, 2**31)
    found["laws"] = _laws(on_cpu, others)
    found["members"] = _members(on_cpu, same, config.tasks.rows)
    if given.json:
        Path(given.json).write_text(json_text(found, 2))


def _records(choice: Any, config: EnsembleConfig, program: Any, mesh: Any, given: Any, first: int) -> Any:
    """Records of as many members as asked for, [M, context, ...]."""
    width = program.lanes * mesh.devices.size
    parts = [
        choice.train_block(config, program, mesh, given.check_steps, first + start)
        for start in range(0, given.members, width)
    ]
    columns = [
        None if leaves[0] is None else np.concatenate(leaves)[: given.members] for leaves in zip(*parts, strict=True)
    ]
    return type(parts[0])(*columns)


def _laws(on_cpu: Any, others: Any) -> list[dict[str, float]]:
    """Chi-squared tests of homogeneity of the joint counts' laws, context by context; rare counts are put together."""
    from scipy.stats import chi2_contingency

    results = []
    print(
        f"\nlaws of joint counts, CPU against this device, other members (alarm below {FALSE_ALARM / len(CONTEXTS):.4f})"
    )
    for context, (i, j) in enumerate(CONTEXTS):
        label = f"{i + 1}{j + 1}"
        both = np.concatenate([on_cpu.counts[:, context], others.counts[:, context]])
        _, kinds = np.unique(both, axis=0, return_inverse=True)
        kinds = kinds.reshape(-1)
        table = np.stack([np.bincount(half, minlength=kinds.max() + 1) for half in np.split(kinds, 2)])
        rare = table.sum(axis=0) < 10
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        table = table[:, table.sum(axis=0) > 0]
        p = float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
        results.append({"context": label, "kinds": table.shape[1], "p": p})
        alarm = "  ALARM" if p < FALSE_ALARM / len(CONTEXTS) else ""
        print(f"  context {label}: {table.shape[1]} kinds of counts, p = {p:.4f}{alarm}")
    return results


def _members(on_cpu: Any, same: Any, rows: int) -> list[dict[str, Any]]:
    """Of the same members, context by context: solved on either, different, and different though all was decided."""
    results = []
    print("\nthe same members on both: solved on the CPU, solved here, different counts, of those undecided on either")
    for context, (i, j) in enumerate(CONTEXTS):
        label = f"{i + 1}{j + 1}"
        solved = [int((each.counts[:, context, 3] == rows).sum()) for each in (on_cpu, same)]
        differ = (on_cpu.counts[:, context] != same.counts[:, context]).any(axis=-1)
        undecided = (
            sum(each.undecided_alice[:, context] + each.undecided_bob[:, context] for each in (on_cpu, same)) > 0
        )
        row = [*solved, int(differ.sum()), int((differ & undecided).sum())]
        results.append(dict(zip(("solved_cpu", "solved", "differ", "differ_undecided"), row, strict=True)))
        print(f"  context {label}: {row[0]:8,} {row[1]:8,} {row[2]:8,} {row[3]:8,}  of {len(differ):,}")
    return results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tune the Pallas kernel on this device and check its results.")
    parser.add_argument("--hidden", type=int, default=3)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--loss", default="bce")
    parser.add_argument("--lanes", type=int, nargs="+", default=[32, 64, 128, 256, 512], help="of one program")
    parser.add_argument("--warps", type=int, nargs="+", default=[1, 2, 4, 8], help="of one program, on a GPU")
    parser.add_argument("--block", type=int, default=65_536, help="members a block: a multiple of every --lanes")
    parser.add_argument("--steps", type=int, default=2_000, help="of each timing")
    parser.add_argument("--members", type=int, default=65_536, help="for the checks")
    parser.add_argument("--check-steps", type=int, default=3_000, help="of the checks")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
