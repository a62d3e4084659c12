"""Builds and calls the native reference, benchmarks/native/ncnet.c, with the system's C compiler."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.work import LEARNING_RATE, TARGETS, parameter_count
from ncsim.machine import cores

SOURCE = Path(__file__).resolve().parent / "native" / "ncnet.c"
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-std=gnu11")
#: What a compiler calls "this machine's processor": -march on x86, -mcpu where that is all it knows.
MACHINE_FLAGS = ("-march=native", "-mcpu=native")
#: Networks a thread takes at a time: some milliseconds of work, so that all cores end together.
CHUNK = 256


class MissingError(RuntimeError):
    """A peer that cannot run here; the message is the reason, in one line."""


def compiler() -> str:
    """The C compiler: $CC, cc, gcc or clang, whichever is there first.

    Raises:
        MissingError: none is there.
    """
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for name in names:
        if shutil.which(name):
            return name
    raise MissingError(f"no C compiler (looked for {', '.join(names)})")


def compiler_version() -> str:
    """The first line of what the compiler says of itself, or that there is none."""
    try:
        said = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    except MissingError as error:
        return str(error)
    return said.splitlines()[0] if said else "unknown"


def build(hidden: int, folder: Path) -> Path:
    """Compile the reference for one width, for this processor, into a folder: the shared library's path.

    Raises:
        MissingError: no compiler, or one that cannot compile it.
    """
    library = folder / f"ncnet{hidden}.so"
    said = ""
    for machine in MACHINE_FLAGS:
        command = [compiler(), *FLAGS, machine, f"-DHIDDEN={hidden}", str(SOURCE), "-o", str(library), "-lm"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return library
        said = next((line for line in result.stderr.splitlines() if "error" in line), "no reason given")
    raise MissingError(f"{compiler()} cannot compile {SOURCE.name}: {said}")


class NativeReference:
    """The reference for one width, loaded. Threads share the work: a call leaves Python's lock.

    Attributes:
        description: which of its two vector units it was compiled with.
    """

    def __init__(self, hidden: int, threads: int | None = None) -> None:
        with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
            library = ctypes.CDLL(str(build(hidden, Path(folder))))  # stays mapped when the file is gone
        pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
        library.ncnet_train.argtypes = [pointer, size, size, pointer, ctypes.c_int, ctypes.c_double]
        library.ncnet_description.restype = ctypes.c_char_p
        self._library = library
        self._lanes = int(library.ncnet_lanes())
        self._threads = threads or cores()
        self.description = library.ncnet_description().decode()
        assert library.ncnet_parameters() == parameter_count(hidden)

    def train(self, starts: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after Adam steps from `starts` [P, N] on targets [rows, heads]."""
        return self.train_contexts(starts[None], targets[None], steps)[0]

    def train_contexts(self, starts: np.ndarray, targets: np.ndarray = TARGETS, steps: int = 1) -> np.ndarray:
        """Parameters [contexts, P, N] after Adam steps, each context's on its own targets [contexts, rows, heads]."""
        networks = starts.shape[2]
        padding = -networks % self._lanes
        buffer = np.ascontiguousarray(np.pad(starts, ((0, 0), (0, 0), (0, padding))), np.float32)
        answers = np.ascontiguousarray(targets, np.float32)
        chunk = -(-CHUNK // self._lanes) * self._lanes

        def train_chunk(place: tuple[int, int]) -> None:
            context, first = place
            count = min(chunk, buffer.shape[2] - first)
            status = self._library.ncnet_train(
                buffer[context, :, first:].ctypes.data,
                buffer.shape[2],
                count,
                answers[context].ctypes.data,
                steps,
                LEARNING_RATE,
            )
            if status != 0:
                raise MemoryError("the native reference found no memory")

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(train_chunk, itertools.product(range(len(buffer)), range(0, buffer.shape[2], chunk))))
        return buffer[:, :, :networks]
