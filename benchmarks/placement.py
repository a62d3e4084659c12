"""Where in its page generated code lies, and what that does to its rate.

Question. How fast is a training step of the native executor at each of some places of its two functions, beside places that the
linker chooses? `STEP_AT` and `TRAIN_AT` of `ncsim/executors/native/c_template.py` were chosen by this table.

Command. `python -m benchmarks.placement`

Time. About a minute. Let nothing else run meanwhile.

How. The same C file is compiled with other places. All libraries train 128 networks for some hundred steps, in turns; what stands in
the table is the tenth percentile of processor time, in microseconds per step of the 128.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from ncsim import c_compiler
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.executors.native import program
from ncsim.formatting import table
from ncsim.training.initialization import vector_size

NETWORKS, STEPS = 128, 300
CONFIGS: dict[str, dict[str, Any]] = {
    "n = 2": {"hidden": 2},
    "n = 3": {"hidden": 3},
    "n = 3, cross-entropy": {"hidden": 3, "loss": "cross_entropy"},
    "n = 3, sgd": {"hidden": 3, "optimizer": "sgd"},
    "n = 4": {"hidden": 4},
    "n = 12": {"hidden": 12},
}
#: Bytes from the beginning of a page to the step and to the loop that calls it; None: where the linker puts them.
PLACES = [None, *((step, train) for step in (0, 16, 32, 48) for train in (0, 1024, 1984, 3008))]


def main() -> None:
    """Measure and print a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("\n".join(machine.lines(machine.description())))
    columns = {name: measured(EnsembleConfig(**fields)) for name, fields in CONFIGS.items()}
    rows = [
        [
            "the linker's" if place is None else f"{place[0]}, {place[1]}",
            *(f"{each[n]:.2f}" for each in columns.values()),
        ]
        for n, place in enumerate(PLACES)
    ]
    print("\n".join(table(["step, loop at", *columns], rows)))


def measured(config: EnsembleConfig) -> list[float]:
    """Microseconds per step of all networks, at each of PLACES."""
    text = program.source(config)
    stride = vector_size(config)
    start = _aligned(np.random.default_rng(0).uniform(-0.5, 0.5, (stride, NETWORKS)))
    given = _aligned(np.append(context_targets(config.tasks)[3].reshape(-1), 0.01))
    trained, steps = _aligned(np.zeros((stride, NETWORKS))), np.array([STEPS], np.int32)
    with tempfile.TemporaryDirectory() as folder:
        libraries = [_built(text, place, Path(folder) / f"{number}.so") for number, place in enumerate(PLACES)]
        seconds: list[list[float]] = [[] for _ in libraries]
        size = ctypes.c_int64(NETWORKS)
        for _ in range(60):
            for library, taken in zip(libraries, seconds, strict=True):
                begun = time.process_time()
                arrays = (each.ctypes.data_as(ctypes.c_void_p) for each in (start, trained, given, steps))
                first, result, values, stops = arrays
                assert library.ncsim_train(first, result, size, size, values, stops, ctypes.c_int64(1)) == 0
                taken.append(time.process_time() - begun)
    return [1e6 * float(np.quantile(taken, 0.1)) / STEPS for taken in seconds]


def _built(text: str, place: tuple[int, int] | None, made: Path) -> ctypes.CDLL:
    source = made.with_suffix(".c")
    source.write_text(text)
    where = ["-DPLACED(at)="] if place is None else [f"-DSTEP_AT={place[0]}", f"-DTRAIN_AT={place[1]}"]
    command = [*c_compiler._command(), *where, "-I", jax.ffi.include_dir(), str(source), "-o", str(made), "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(made))


def _aligned(values: np.ndarray) -> np.ndarray:
    """float32 from a whole cache line on."""
    room = np.zeros(values.size + 16, np.float32)
    begin = -(room.ctypes.data // 4) % 16
    room[begin : begin + values.size] = values.reshape(-1)
    return room[begin : begin + values.size].reshape(values.shape)


if __name__ == "__main__":
    main()
