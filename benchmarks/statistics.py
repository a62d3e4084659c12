"""How long do all closed-form statistics of a million members take?

    python benchmarks/statistics.py [--members 1000000] [--repeats 5]

The target is under 2 seconds on two cores. The compilation is timed by itself; every run blocks until its arrays are on
the host, as NumPy arrays, which is what users get. The result goes to benchmarks/results/statistics.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np

from ncsim.formatting import json_text
from ncsim.statistics.chsh import chsh_statistics

RESULTS = Path(__file__).parent / "results"
ROWS = 16


def random_counts(members: int) -> np.ndarray:
    """Joint counts of sixteen rows a context, int32[members, 2, 2, 2, 2]; each context has a law of its own."""
    generator = np.random.default_rng(0)
    law = generator.dirichlet((0.3, 0.5, 0.5, 4.0), size=(2, 2))
    return generator.multinomial(ROWS, law, size=(members, 2, 2)).reshape(members, 2, 2, 2, 2).astype(np.int32)


def seconds(counts: np.ndarray) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    found = chsh_statistics(counts)
    elapsed = time.perf_counter() - start
    assert found.s.shape == counts.shape[:1]
    return elapsed


def main() -> None:
    """Time, print and write."""
    parser = argparse.ArgumentParser(description="Time chsh_statistics on many members.")
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    counts = random_counts(options.members)
    first = seconds(counts)
    repeats = sorted(seconds(counts) for _ in range(options.repeats))
    result = {
        "members": options.members,
        "first_call_seconds": round(first, 4),
        "median_seconds": round(repeats[len(repeats) // 2], 4),
        "slowest_seconds": round(repeats[-1], 4),
        "members_per_second": round(options.members / repeats[len(repeats) // 2]),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": str(jax.devices()[0].platform),
        "processor": platform.machine(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }
    print(json_text(result))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "statistics.json").write_text(json_text(result) + "\n")


if __name__ == "__main__":
    main()
