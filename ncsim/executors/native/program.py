"""Blocks of members with the training loop as C, made from the step of `ncsim.train` and compiled on this machine.

XLA writes every operation's result to memory and reads it back, and on a CPU that is what a step's time goes into. Here
the step, evaluated element by element (`scalarise.py`), becomes one piece of straight-line vector code (`c_source.py`,
`c_program.py`) whose temporary values stay in registers. The system's C compiler builds it once for a processor and a
shape of network; XLA calls it in place of its own loop. Initialisation and what is recorded are the XLA executor's.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import Mesh

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig
from ncsim.config.fields import ConfigError
from ncsim.config.tasks import context_targets
from ncsim.executors import xla
from ncsim.executors.native import c_program
from ncsim.executors.native.c_template import PROCESSORS
from ncsim.executors.scalarise import ScalariseError, element_array, scalarise
from ncsim.training.network import Architecture
from ncsim.training.step import make_step, vector_size

#: Members a block. What is the same for all networks is computed once a block, so that more are better; few members
#: fill a block in vain.
LANES = 128
#: Wider networks take compilers too long: their code grows with the width times the rows, compile time faster.
MAX_HIDDEN = 8
MAX_ROWS = 16
COMPILERS = ("cc", "gcc", "clang")
#: No flag that lets the compiler assume away NaN or infinities, which a network that diverges has.
FLAGS = "-O2 -std=gnu11 -march=native -fPIC -shared -ffp-contract=fast -fno-math-errno -fno-trapping-math".split()
#: GCC's scheduler before registers are given out, which keeps their number in mind. Other compilers do it unasked.
GCC_FLAGS = ("-fschedule-insns", "-fsched-pressure")
COMPILE_SECONDS = 60.0


def unsupported(config: EnsembleConfig) -> str | None:
    """Why this config cannot be trained in C on this machine, in words; None where it can. Compiles nothing."""
    if config.precision != "float32":
        return f"precision {config.precision}; the generated code has float32"
    if config.optimizer not in ELEMENTWISE_OPTIMIZERS:
        return f"optimizer {config.optimizer}, which takes norms over a layer; the generated code has elementwise ones"
    hidden = Architecture.of(config).hidden
    if hidden > MAX_HIDDEN or config.tasks.rows > MAX_ROWS:
        size = f"hidden {hidden} with {config.tasks.rows} rows"
        return f"{size}; the generated code has 1 to {MAX_HIDDEN} and at most {MAX_ROWS}"
    if processor() is None:
        return "on this processor; the generated code wants AVX2 or AVX-512 under Linux"
    if compiler() is None:
        return f"without a C compiler; looked for {', '.join(COMPILERS)}"
    try:
        source(config)
    except ScalariseError as error:
        return f"optimizer {config.optimizer}: {error}"
    return None


def block_program(
    config: EnsembleConfig, mesh: Mesh, blocks: int, lanes: int | None = None, points: int | None = None
) -> xla.BlockProgram:
    """As `xla.block_program`, with the training loop in C. `lanes`: a multiple of 16.

    Raises:
        ConfigError: the config cannot be trained here, or its code does not compile.
    """
    reason = unsupported(config)
    if mesh.devices.flat[0].platform != "cpu":
        reason = "on an accelerator"
    if reason is not None:
        raise ConfigError(f"--executor: native cannot train {reason}; allowed here: xla")
    return xla.block_program(config, mesh, blocks, lanes or LANES, training(_shape(config)), points)


@functools.lru_cache(maxsize=64)
def training(config: EnsembleConfig) -> Callable[..., jax.Array]:
    """A function as `ncsim.train.train`, for parameters [P, N], that calls the code compiled for this config.

    Raises:
        ConfigError: the code does not compile.
    """
    library = ctypes.CDLL(str(built(source(config))))
    target = f"ncsim_{Path(library._name).stem}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.ncsim_call), platform="cpu")

    def train(_: EnsembleConfig, vector: jax.Array, targets: jax.Array, rate: jax.Array, steps: jax.Array) -> jax.Array:
        given = jnp.append(targets.reshape(-1), rate).astype(jnp.float32)
        call = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((*jnp.shape(steps), *vector.shape), vector.dtype))
        result: jax.Array = call(vector, given, jnp.asarray(steps, jnp.int32))
        return result

    return train


def _shape(config: EnsembleConfig) -> EnsembleConfig:
    """The config without what is an argument, or concerns only how networks start and what is recorded of them."""
    fields = {"hidden", "optimizer", "optimizer_options", "loss", "encoding", "topology", "shared", "tasks"}
    fields |= {"intervention", "alice_weight", "bob_weight", "training_rows"}
    return EnsembleConfig(**{name: getattr(config, name) for name in fields})


# ------------------------------------------------------------------------------------------------- from step to source


def source(config: EnsembleConfig) -> str:
    """The C file of a config's training.

    Raises:
        ScalariseError: its step has an operation that there is no C for.
    """
    return _source(_shape(config))


@functools.lru_cache(maxsize=64)
def _source(config: EnsembleConfig) -> str:
    with jax.enable_x64(False):
        return c_program.source(scalar_step(config))


def scalar_step(config: EnsembleConfig) -> c_program.Step:
    """`ncsim.train.make_step` as jaxprs of scalars."""
    vector = jax.ShapeDtypeStruct((vector_size(config),), jnp.float32)
    targets = jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)

    def begin(vector: jax.Array, targets: jax.Array, rate: jax.Array) -> Any:
        return make_step(config, targets, rate)[0](vector)

    def step(carry: Any, targets: jax.Array, rate: jax.Array) -> Any:
        return make_step(config, targets, rate)[1](carry)

    carry = jax.eval_shape(begin, vector, targets, rate)
    given = int(np.prod(targets.shape)) + 1
    return c_program.Step(
        _scalars(begin, vector, targets, rate), _scalars(step, carry, targets, rate), vector.shape[0], given
    )


def _scalars(function: Callable[..., Any], *like: Any) -> ClosedJaxpr:
    """The jaxpr of `function` with every element of every array as an argument or result of its own."""
    on_elements = scalarise(function, *like)
    leaves, structure = jax.tree.flatten(like)

    def flat(*scalars: jax.Array) -> list[jax.Array]:
        given = iter(scalars)
        arrays = [element_array([next(given) for _ in range(leaf.size)], leaf.shape) for leaf in leaves]
        results = jax.tree.leaves(on_elements(*jax.tree.unflatten(structure, arrays)))
        return [jnp.asarray(element) for array in results for element in array.reshape(-1)]

    return jax.make_jaxpr(flat)(*(jax.ShapeDtypeStruct((), leaf.dtype) for leaf in leaves for _ in range(leaf.size)))


# ------------------------------------------------------------------------------------------------ from source to library


@functools.lru_cache(maxsize=1)
def processor() -> str | None:
    """The kind of vector unit that generated code has here, of `PROCESSORS`; None where it has none."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
    return next((name for name, needed in PROCESSORS.items() if flags.issuperset(needed)), None)


def compiler() -> str | None:
    """The C compiler's path, or None."""
    return next((path for path in map(shutil.which, COMPILERS) if path), None)


def built(text: str) -> Path:
    """The shared library of a C file: built, or found in the cache.

    Raises:
        ConfigError: the compiler refuses it, or takes longer than COMPILE_SECONDS.
    """
    command = _command()
    # What -march=native comes to depends on the processor, which a cache on a shared file system may outlive.
    key = "\0".join([text, *command, _version(command[0]), _processor_key()])
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    folder = cache_folder()
    library = folder / name
    if _ours(library):
        return library
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        (Path(scratch) / "step.c").write_text(text)
        made = Path(scratch) / name
        _compile([*command, "-I", jax.ffi.include_dir(), str(Path(scratch) / "step.c"), "-o", str(made), "-lm"])
        made.chmod(0o700)
        os.replace(made, library)  # another process may have put the same there: either is right
    return library


def verdict(config: EnsembleConfig) -> bool | None:
    """Whether this code was found to be worth its while on this machine; None where nobody has tried."""
    path = built(source(config)).with_suffix(".verdict")
    return path.read_text() == "faster" if _ours(path) else None


def remember(config: EnsembleConfig, faster: bool) -> bool:
    """Keep a verdict beside the code, so that timings decide once and later runs are trained alike; gives the first."""
    path = built(source(config)).with_suffix(".verdict")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as scratch:
        made = Path(scratch) / "verdict"
        made.write_text("faster" if faster else "slower")
        made.chmod(0o600)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(made, path)
    kept = verdict(config)
    return faster if kept is None else kept


def cache_folder() -> Path:
    """Where libraries are kept, which belongs to the user alone: $XDG_CACHE_HOME/ncsim, or a temporary folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "ncsim"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if _ours(folder):
            return folder
    except OSError:
        pass
    return Path(_temporary_folder())


@functools.lru_cache(maxsize=1)
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="ncsim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _ours(path: Path) -> bool:
    """Whether a path is there, the user's own, and writable by nobody else: what is loaded runs as the user."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _command() -> list[str]:
    path = compiler()
    assert path is not None
    return [path, *FLAGS, *(GCC_FLAGS if "Free Software" in _version(path) else ())]


@functools.lru_cache(maxsize=8)
def _version(path: str) -> str:
    try:
        return subprocess.run([path, "--version"], capture_output=True, text=True, timeout=COMPILE_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.lru_cache(maxsize=1)
def _processor_key() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("flags", "model\t", "cpu family", "vendor_id"))})
    )


def _compile(command: list[str]) -> None:
    failure = "--executor: native; its code does not compile here"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{failure} ({type(error).__name__}); allowed here: xla") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise ConfigError(f"{failure} ({lines[0].strip()[:160]}); allowed here: xla")
