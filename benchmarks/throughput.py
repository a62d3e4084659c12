"""How fast ncsim trains, against its peers and against what the processor can do, in one run on the same work.

Question. How many network-steps a second (`benchmarks/work.py` says what one is) does `ncsim.run_ensemble` take, and
how many do the obvious Flax way, batched PyTorch, PyTorch in a loop, and a native program written for the processor?
With --options: does the rate hold over losses, initialisations, codings, topologies, optimisers and widths?

Command. `make benchmark`, or `python -m benchmarks.throughput --json FILE`, and the same with --options.

Time. About four minutes on two cores; with --options about six. Let nothing else run meanwhile.

How. Each peer lives in a process of its own and takes its turn in every round, so that what disturbs the machine meets
all of them; ratios are of runs in the same round. Compilation is timed apart. Before anything is timed, every peer
trains the same networks as a slow NumPy reference, to the same parameters, and the native reference's networks end as
ncsim's do. A peer that cannot run here is named with the reason.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from benchmarks import ceilings, machine, work
from benchmarks.workers import Worker
from ncsim.formatting import json_text, table

STEPS = 2000  # of a run that is timed: a short training, in which starts and records hardly count
TOLERANCE = 1e-4  # parameters after one and after ten steps, against the NumPy reference
#: Share of parameters that must be within it. Adam's first steps are as long for a gradient of 1e-8 as for one of 1, so
#: that now and then, in wide networks more often, rounding decides where a parameter goes.
WITHIN = 0.998
LAW_MEMBERS, LAW_STEPS = 4096, 500  # networks whose ends are compared
CONTEXT = 3  # the context of the step check: both tasks are an exclusive or

#: Peers in the order of the table, and what each is, in words.
PEER_LABELS = {
    "ncsim": "ncsim.run_ensemble",
    "ncsim, stored": "ncsim.run_ensemble, stored to disk",
    "flax + optax, vmap": "the obvious way: Flax + optax, jit(vmap(scan))",
    "torch, batched": "PyTorch, batched matrix products",
    "torch, a loop": "PyTorch, one network in a loop",
    "native reference": "the limit: native C, all cores",
}

#: Fields of the config by the name of the option that --options measures.
OPTIONS: dict[str, dict[str, Any]] = {
    "loss squared_error": {"loss": "squared_error"},
    "loss cross_entropy": {"loss": "cross_entropy"},
    "initialization he": {"initialization": "he"},
    "initialization lecun": {"initialization": "lecun"},
    "initialization normal": {"initialization": "normal"},
    "bias_initialization zeros": {"bias_initialization": "zeros"},
    "common_initialization": {"common_initialization": True},
    "encoding sign": {"encoding": "sign"},
    "topology overlap": {"topology": "overlap"},
    "encoding sign, topology overlap": {"encoding": "sign", "topology": "overlap"},
    "optimizer sgd": {"optimizer": "sgd"},
    "optimizer sgd with momentum": {"optimizer": "sgd", "optimizer_options": "momentum=0.9"},
    "optimizer adamw": {"optimizer": "adamw"},
    "optimizer rmsprop": {"optimizer": "rmsprop"},
}
#: Widths by the peer that each is measured against: the reference built for it, and the obvious way where it is widest.
WIDTHS = {"native reference": (2, 3, 4, 8), "flax + optax, vmap": (8, 16, 32, 64)}


@dataclass
class Measurement:
    """What was measured of one peer."""

    name: str
    detail: str = ""
    missing: str | None = None  # why it could not run here
    compile_seconds: float = 0.0
    network_steps: int = 0  # of a run
    seconds: list[float] = field(default_factory=list)  # of a run, a round each
    tried: dict[str, float] = field(default_factory=dict)  # rates of what the fastest was chosen from

    @property
    def rates(self) -> list[float]:
        """Network-steps a second, a round each."""
        return [self.network_steps / seconds for seconds in self.seconds]


@dataclass(frozen=True)
class Ratio:
    """Rates of one peer over another's in the same rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(ours: Measurement, theirs: Measurement) -> Ratio | None:
        """None where either could not run."""
        ratios = [a / b for a, b in zip(ours.rates, theirs.rates, strict=False)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)} .. {_short(self.high)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", action="store_true", help="measure ncsim's options and widths, not its peers")
    parser.add_argument("--rounds", metavar="N", type=int, help="turns of each peer (default: 7; with --options 3)")
    parser.add_argument("--seconds", metavar="S", type=float, help="of a turn (default: 2; with --options 1.5)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured here")
    parsed = parser.parse_args(arguments)
    for name, value in (("rounds", parsed.rounds), ("seconds", parsed.seconds)):
        if value is not None and not 0 < value < math.inf:
            parser.error(f"argument --{name}: {value}; allowed: a number above 0")
    try:
        _run(parsed)
    except (RuntimeError, OSError) as error:
        sys.exit(f"benchmark: error: {error}")


def _run(parsed: argparse.Namespace) -> None:
    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    if parsed.options:
        result = _measure_options(here, parsed.rounds or 3, parsed.seconds or 1.5)
    else:
        result = _measure_peers(here, parsed.rounds or 7, parsed.seconds or 2.0)
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text({"machine": here, **result}) + "\n")


# ---------------------------------------------------------------------------------------------------------- peers


def _measure_peers(here: dict[str, Any], rounds: int, seconds: float, hidden: int = 3) -> dict[str, Any]:
    measured: dict[str, Measurement] = {}
    outcomes: dict[str, list[work.Outcome]] = {}
    # A TPU belongs to one process at a time: there, peers come one after another.
    groups = [[name] for name in PEER_LABELS] if here["backend"] == "tpu" else [list(PEER_LABELS)]
    for group in groups:
        workers = [_open(name, measured, hidden=hidden, steps=STEPS) for name in group]
        present = [worker for worker in workers if worker.missing is None]
        for worker in present:
            outcomes |= _checked(worker, hidden)
        _take_turns(present, [measured[worker.name] for worker in present], rounds, seconds)
        for worker in present:
            worker.close()
    _check_laws(outcomes)
    ceiling = None
    if here["backend"] != "cpu":
        worker = Worker("ceilings")
        ceiling, _ = worker.call("measure")
        worker.close()
    ncsim_rate = statistics.median(measured["ncsim"].rates)
    print("\n" + "\n".join(peer_table(measured)))
    print("\n" + "\n".join(ceilings.lines(hidden, ncsim_rate if ceiling else None, ceiling)))
    return {
        "hidden": hidden,
        "steps": STEPS,
        "peers": {name: _as_json(m, measured["ncsim"]) for name, m in measured.items()},
        "outcomes": {name: [o._asdict() for o in found] for name, found in outcomes.items()},
        "ceilings": ceiling or "not measured: no accelerator",
        "operations_a_network_step": ceilings.operations(hidden),
    }


def _open(name: str, measured: dict[str, Measurement], key: str | None = None, **arguments: Any) -> Worker:
    _say(f"preparing {key or name}")
    worker = Worker(name, **arguments)
    one = Measurement(key or name, worker.detail, worker.missing, worker.compile_seconds, tried=worker.tried)
    measured[key or name] = one
    return worker


def _checked(worker: Worker, hidden: int) -> dict[str, list[work.Outcome]]:
    """Hold a peer to the reference's steps; how its networks end, where that is to be compared."""
    if worker.name.startswith("ncsim"):
        return {worker.name: worker.call("outcomes", LAW_MEMBERS, LAW_STEPS)[0]} if worker.name == "ncsim" else {}
    check_steps(lambda *given: worker.call("train", *given)[0], worker.name, hidden)
    if worker.name != "native reference":
        return {}
    ends = []
    for context, targets in enumerate(work.TARGETS):
        trained, _ = worker.call("train", work.starts(hidden, LAW_MEMBERS, context), targets, LAW_STEPS)
        ends.append(work.outcome(trained, targets, hidden))
    return {worker.name: ends}


def check_steps(train: Any, name: str, hidden: int, networks: int = 32) -> None:
    """Hold a peer's parameters after one and after ten steps to the NumPy reference.

    Args:
        train: called with starts [P, N], targets [rows, heads] and steps, gives parameters [P, N].

    Raises:
        RuntimeError: more than a few differ by more than `TOLERANCE`: the peer does other work.
    """
    start, targets = work.starts(hidden, networks, 1), work.TARGETS[CONTEXT]
    for steps in (1, 10):
        differences = np.abs(train(start, targets, steps) - work.trained(start, targets, hidden, steps))
        difference = float(np.quantile(differences, WITHIN))  # NaN if any is
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{name}: parameters after {steps} steps differ from the reference's by {difference:.2g}; allowed: {TOLERANCE:g}"
            )


def _check_laws(outcomes: dict[str, list[work.Outcome]]) -> None:
    if len(outcomes) < 2:
        return
    for context, (ours, theirs) in enumerate(zip(*outcomes.values(), strict=True)):
        found = work.disagreements(ours, theirs)
        if found:
            raise RuntimeError(
                f"networks of {' and '.join(outcomes)} end differently in context {context}: {'; '.join(found)}"
            )
    solved = "; ".join(
        f"{name} {' '.join(f'{outcome.solved:.3f}' for outcome in found)}" for name, found in outcomes.items()
    )
    _say(f"solved after {LAW_STEPS} steps, by context: {solved}")


def _take_turns(workers: Sequence[Worker], measured: Sequence[Measurement], rounds: int, seconds: float) -> None:
    """Time every worker once a round, each for about so many seconds a turn."""
    amounts = [_amount_for(worker, seconds) for worker in workers]
    for turn in range(rounds):
        _say(f"round {turn + 1} of {rounds}")
        for worker, one, amount in zip(workers, measured, amounts, strict=True):
            one.network_steps, taken = worker.call("run", amount)
            one.seconds.append(taken)


def _amount_for(worker: Worker, seconds: float) -> int:
    """How much of its work a peer does in so many seconds; leaves it warm."""
    amount = 1
    for _ in range(8):
        _, taken = worker.call("run", amount)
        if taken > 0.7 * seconds:
            break
        amount = math.ceil(amount * min(seconds / taken, 32.0))
    return amount


def peer_table(measured: dict[str, Measurement]) -> list[str]:
    """Peers as rows: rates, compile time, and how many times as fast ncsim is. Names what is missing, with the reason."""
    header = ["", "network-steps/s", "min", "max", "compile s", "ncsim is x times as fast", "how"]
    rows = []
    for name, one in measured.items():
        label = PEER_LABELS.get(name, name)
        if one.missing is not None:
            rows.append([label, "missing", "", "", "", "", one.missing])
            continue
        ratio = Ratio.of(measured["ncsim"], one)
        rows.append([
            label,
            *(f"{value:.3g}" for value in (statistics.median(one.rates), min(one.rates), max(one.rates))),
            f"{one.compile_seconds:.1f}",
            "" if name == "ncsim" else str(ratio or ""),
            one.detail,
        ])  # fmt: skip
    lines = table(header, rows, indent="")
    for name, one in measured.items():
        if one.tried:
            tried = ", ".join(f"{what} {rate:.2g}" for what, rate in one.tried.items())
            lines.append(f"{PEER_LABELS.get(name, name)}: the fastest of {tried}")
    return lines


def _as_json(one: Measurement, ours: Measurement) -> dict[str, Any]:
    if one.missing is not None:
        return {"missing": one.missing}
    ratio = Ratio.of(ours, one)
    return {
        "detail": one.detail,
        "tried": one.tried,
        "compile_seconds": one.compile_seconds,
        "network_steps_a_run": one.network_steps,
        "seconds": one.seconds,
        "rate_median": statistics.median(one.rates),
        "rate_min": min(one.rates),
        "rate_max": max(one.rates),
        "ncsim_ratio": ratio.__dict__ if ratio else None,
    }


# -------------------------------------------------------------------------------------------------------- options


def _measure_options(here: dict[str, Any], rounds: int, seconds: float, hidden: int = 3) -> dict[str, Any]:
    measured: dict[str, Measurement] = {}
    if here["backend"] == "tpu":
        raise RuntimeError("--options compares two processes at a time, and a TPU belongs to one; allowed: cpu, gpu")
    by_option: dict[str, Ratio | None] = {}
    default = _open("ncsim", {}, hidden=hidden, steps=STEPS)
    for name, fields in OPTIONS.items():
        by_option[name] = _ratio_of(name, fields | {"hidden": hidden}, default, measured, rounds, seconds)
    default.close()
    by_width: dict[str, Ratio | None] = {}
    for peer, widths in WIDTHS.items():
        for width in widths:
            name = f"n = {width} over {peer}"
            reference = _open(peer, measured, _against(name), hidden=width, steps=STEPS)
            if reference.missing is None:
                check_steps(lambda *given, peer=reference: peer.call("train", *given)[0], reference.name, width)
            by_width[name] = _ratio_of(name, {"hidden": width}, reference, measured, rounds, seconds)
            reference.close()
    print("\n" + "\n".join(option_table("option", "rate over the default's", by_option, measured)))
    print("\n" + "\n".join(option_table("width", "rate over the peer's", by_width, measured)))
    return {
        "steps": STEPS,
        "options": {name: ratio.__dict__ if ratio else None for name, ratio in by_option.items()},
        "widths": {name: ratio.__dict__ if ratio else None for name, ratio in by_width.items()},
        "rates": {name: one.missing or statistics.median(one.rates) for name, one in measured.items()},
    }


def _against(name: str) -> str:
    """The key of what a measurement was compared with."""
    return f"against {name}"


def _ratio_of(
    name: str,
    fields: dict[str, Any],
    base: Worker,
    measured: dict[str, Measurement],
    rounds: int,
    seconds: float,
) -> Ratio | None:
    """ncsim's rate with these fields over another worker's, turn about; None where the other is missing."""
    worker = _open("ncsim", measured, name, **fields, steps=STEPS)
    against = measured.get(_against(name), Measurement("default"))
    both = [(worker, measured[name])] + ([(base, against)] if base.missing is None else [])
    _take_turns([one for one, _ in both], [m for _, m in both], rounds, seconds)
    worker.close()
    return Ratio.of(measured[name], against)


def option_table(what: str, ratio: str, ratios: dict[str, Ratio | None], measured: dict[str, Measurement]) -> list[str]:
    """Options or widths as rows: ncsim's rate, and its ratio to the default or to the native reference."""
    rows = []
    for name, one in ratios.items():
        reason = measured.get(_against(name), Measurement("")).missing
        rate = f"{statistics.median(measured[name].rates):.3g}"
        rows.append([name, rate, f"{measured[name].compile_seconds:.1f}", str(one) if one else f"missing: {reason}"])
    return table([what, "network-steps/s", "compile s", ratio], rows, indent="")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
