"""Tune the Pallas kernel on the device at hand, and check what it gives: `python -m benchmarks.tune_pallas`.

Prints the rate of every number of lanes a program, beside the XLA executor on the same device; then, with the
fastest, three checks against the XLA executor on this machine's CPU: a two-sample test of the laws of joint counts,
with other members, context by context; how many of the same members differ, and how many of those had an undecided
answer in one program or the other; and the share of networks solved. What wins goes into `ncsim/executors/pallas.py`
(`PROGRAM_LANES`, `LANES`). On a CPU the kernel is interpreted: that shows that this program works, and
nothing about rates; try `--lanes 32 64 --block 128 --steps 20 --members 256 --check-steps 50`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks import laws
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS
from ncsim.executors.devices import prepare_jax
from ncsim.formatting import json_text
from ncsim.training.step import train


def main() -> None:
    """Run everything and print it; `--json` stores it too."""
    given = _arguments()
    prepare_jax()
    import jax

    from ncsim.executors import choice, pallas, xla

    config = EnsembleConfig(hidden=given.hidden, optimizer=given.optimizer, loss=given.loss)
    device = jax.devices()[0]
    kind = device.platform
    if kind not in pallas.PROGRAM_LANES:
        raise SystemExit(f"the kernel is for a TPU; the device here is {kind}")
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
        except Exception as error:  # one that does not fit must not end the table
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
        words = f"pallas {lanes} lanes"
        rate, program = measured(words, pallas.training(kind, shape))
        if rate > best:
            best, winner, name = rate, program, words
    if winner is None:
        raise SystemExit("no number of lanes ran")
    print(f"fastest: {name}: {best / by_xla if by_xla else float('nan'):.2f} x xla on this device")

    cpu = jax.make_mesh((1,), (xla.MEMBERS,), devices=jax.devices("cpu")[:1])
    reference = xla.block_program(config, cpu, 1)
    sizes = (given.members, given.check_steps)
    same, others = (laws.records(config, winner, mesh, *sizes, first) for first in (0, 2**31))
    on_cpu = laws.records(config, reference, cpu, *sizes, 0)
    found["laws"] = laws.laws(on_cpu, others)
    found["members"] = laws.members(on_cpu, same, config.tasks.rows)
    _print_laws(found["laws"])
    _print_members(found["members"])
    if given.json:
        Path(given.json).write_text(json_text(found, 2))


def _print_laws(found: list[dict[str, Any]]) -> None:
    print(f"\nlaws of joint counts, CPU against this device, other members (alarm below {laws.ALARM:.4f})")
    for each in found:
        alarm = "  ALARM" if each["p"] < laws.ALARM else ""
        print(f"  context {each['context']}: {each['kinds']} kinds of counts, p = {each['p']:.4f}{alarm}")


def _print_members(found: list[dict[str, Any]]) -> None:
    print("\nthe same members on both: solved on the CPU, solved here, different counts, of those undecided on either")
    for each in found:
        row = [*each["solved"], each["differ"], each["differ_undecided"]]
        print(f"  context {each['context']}: {''.join(f'{number:8,} ' for number in row)} of {each['members']:,}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tune the Pallas kernel on this device and check its results.")
    parser.add_argument("--hidden", type=int, default=3)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--loss", default="bce")
    parser.add_argument("--lanes", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="of one program")
    parser.add_argument("--block", type=int, default=65_536, help="members a block: a multiple of every --lanes")
    parser.add_argument("--steps", type=int, default=2_000, help="of each timing")
    parser.add_argument("--members", type=int, default=65_536, help="for the checks")
    parser.add_argument("--check-steps", type=int, default=3_000, help="of the checks")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
