"""What `first_minutes` asks of a GPU, stage by stage; `SMALL` sizes, of a rehearsal, take seconds on a CPU.

In a rehearsal the cuda executor's text is compiled by the C compiler: that shows that the stages work, and says nothing of rates.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import laws
from benchmarks.ceilings import Ceilings, operations
from benchmarks.stages import Item, RefusedError
from benchmarks.text_work import TextWork

EXECUTORS = ("cuda", "xla")
#: Members whose losses after `choice.AGREEMENT_STEPS` steps are compared with those of the CPU.
COMPARED = 512


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much each stage does."""

    widths: tuple[int, ...]
    lanes: int | None  # members a block; None: the executor's own
    rate_seconds: float  # that a timing takes, at least
    most_steps: int
    members: int  # of tests of laws
    steps: int
    large_members: int
    large_widths: tuple[int, ...]
    large_steps: int
    tuned: tuple[int, ...]  # widths
    text: TextWork
    text_rounds: int
    text_at_once: tuple[int, ...]
    matrices: tuple[int, ...]


FULL = Sizes(
    widths=(3, 2, 4, 8, 16, 64),
    lanes=None,
    rate_seconds=0.4,
    most_steps=1 << 16,
    members=65_536,
    steps=3_000,
    large_members=1_000_000,
    large_widths=(2, 3, 4),
    large_steps=2_000,
    tuned=(3, 2, 8),
    text=TextWork(size="bert-base", batch=32, tokens=128, precision="bfloat16", adapters=8),
    text_rounds=1,
    text_at_once=(1, 4, 8),
    matrices=(8192,),
)
SMALL = dataclasses.replace(
    FULL,
    widths=(1,),
    lanes=128,
    rate_seconds=0.0,
    most_steps=4,
    members=256,
    steps=40,
    large_members=64,
    large_widths=(1,),
    large_steps=5,
    tuned=(1,),
    text=TextWork(size="tiny", batch=2, tokens=8, steps=2, rank=2, adapters=2),
    text_at_once=(1,),
    matrices=(64,),
)


@dataclasses.dataclass(frozen=True)
class Here:
    """What a stage's process has: sizes, a folder for what it makes, and whether there is a GPU."""

    sizes: Sizes
    out: Path
    rehearsal: bool


# ------------------------------------------------------------------------------------------------------------- programs


def _mesh(device: Any = None) -> Any:
    import jax

    from ncsim.executors import xla

    return jax.make_mesh((1,), (xla.MEMBERS,), devices=[device or jax.devices()[0]])


def _cpus() -> Any:
    """All CPU devices, as a mesh."""
    import jax

    from ncsim.executors import xla

    cpus = jax.devices("cpu")
    return jax.make_mesh((len(cpus),), (xla.MEMBERS,), devices=cpus)


def _program(here: Here, executor: str, config: Any, mesh: Any, launch: Any = None) -> Any:
    """An executor's program on the device; in a rehearsal a stand-in for it.

    Raises:
        RefusedError: it does not train this config here, with the reason.
    """
    from ncsim.executors import choice, xla
    from ncsim.executors.cuda import program as cuda
    from ncsim.executors.native.program import shape

    if executor == "xla":
        return choice.program("xla", config, mesh, 1, here.sizes.lanes)
    reason = cuda.unsupported(config)
    if reason is not None and not (here.rehearsal and reason == cuda.NO_NVRTC):
        raise RefusedError(reason)
    if here.rehearsal:
        from benchmarks import cuda_on_host

        launch = cuda_on_host.launched
    training = cuda.training(shape(config), launch) if launch else cuda.training(shape(config))
    return xla.block_program(config, mesh, 1, here.sizes.lanes or cuda.lanes_of(config), training)


@functools.lru_cache(maxsize=16)
def _losses_on_cpu(config: Any) -> np.ndarray:
    """Final losses of the first members after a few steps, by XLA on CPU devices, [M, context, head]."""
    from ncsim.executors import choice

    mesh = _cpus()
    program = choice.program("xla", config, mesh, 1)
    losses: np.ndarray = laws.records(config, program, mesh, COMPARED, choice.AGREEMENT_STEPS, 0).loss
    return losses


def _config(here: Here, hidden: int) -> Any:
    """The paper's tasks; in a rehearsal tasks of four rows, whose programs compile sooner."""
    from ncsim.config.ensemble import EnsembleConfig
    from ncsim.config.tasks import truth_tables

    if not here.rehearsal:
        return EnsembleConfig(hidden=hidden)
    alice, bob = ([lambda x, y: x ^ y, lambda x, y: x | y], [lambda x, y: x & y, lambda x, y: y])
    return EnsembleConfig(hidden=hidden, tasks=truth_tables(alice, bob, features=2, name="four rows"))


# --------------------------------------------------------------------------------------------------------------- stages


def device(here: Here) -> dict[str, Item]:
    """What it is, and what each executor says of it."""

    def described() -> dict[str, Any]:
        import jax

        from ncsim.executors.cuda import nvrtc

        used = jax.devices()[0]
        words = "name,driver_version,clocks.max.sm,power.limit,memory.total"
        found = shutil.which("nvidia-smi")
        card = ""
        if found and not here.rehearsal:
            command = [found, f"--query-gpu={words}", "--format=csv,noheader", "-i", "0"]
            card = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
        return {
            "device": f"{used.platform} ({used.device_kind})",
            "card": card,
            "jax": jax.__version__,
            "nvrtc": nvrtc.library() is not None,
        }

    return {"what it is": described}


def ceilings(here: Here) -> dict[str, Item]:
    """The most that the device does: float32 multiply-adds and copies."""

    def measured() -> dict[str, Any]:
        return Ceilings().measure(*((1 << 12, 1 << 16) if here.rehearsal else ()))

    return {"float32 multiply-adds and copies": measured}


def rates(here: Here) -> dict[str, Item]:
    """Each executor at each width: whether it is right, and how fast."""
    return {
        f"n = {hidden}, {executor}": functools.partial(_rate, here, executor, hidden)
        for hidden in here.sizes.widths
        for executor in EXECUTORS
    }


def _rate(here: Here, executor: str, hidden: int, launch: Any = None) -> dict[str, Any]:
    from ncsim.executors import choice

    config, mesh = _config(here, hidden), _mesh()
    begun = time.perf_counter()
    program = _program(here, executor, config, mesh, launch)
    first = choice.train_block(config, program, mesh, choice.AGREEMENT_STEPS)
    compiled = time.perf_counter() - begun
    expected = _losses_on_cpu(config)
    few = min(len(expected), program.lanes)
    apart = np.abs(np.asarray(first.loss)[:few] - expected[:few])
    right = bool(np.mean(apart <= choice.AGREEMENT_TOLERANCE) >= choice.AGREEMENT_SHARE)
    return {
        "hidden": hidden,
        "executor": executor,
        "compile_seconds": round(compiled, 2),
        "apart_99": float(np.quantile(apart, 0.99)),
        "apart_most": float(np.max(apart)),
        "right": right,
    } | _timed(here, config, program, mesh)


def _timed(here: Here, config: Any, program: Any, mesh: Any) -> dict[str, Any]:
    """Network-steps a second, over steps that take long enough to be timed."""
    from ncsim.executors import choice

    steps = 2
    while True:
        seconds = choice.seconds_a_network(config, program, mesh, steps=steps) * program.lanes
        if seconds >= here.sizes.rate_seconds or steps >= here.sizes.most_steps:
            break
        grown = 1.5 * here.sizes.rate_seconds / max(seconds, 1e-3)
        steps = min(max(int(steps * min(grown, 50)), 2 * steps), here.sizes.most_steps)
    turns = [seconds, *(choice.seconds_a_network(config, program, mesh, steps=steps) * program.lanes for _ in range(2))]
    work = 4 * program.lanes * steps
    return {
        "rate": work / min(turns),
        "slowest": work / max(turns),
        "steps": steps,
        "members": program.lanes,
        "operations": work / min(turns) * operations(config.hidden),
    }


def members(here: Here) -> dict[str, Item]:
    """Laws of joint counts against the CPU's, of other members; and the same members one by one."""

    @functools.cache
    def on_cpu() -> Any:
        from ncsim.executors import choice

        config, mesh = _config(here, here.sizes.widths[0]), _cpus()
        program = choice.program("xla", config, mesh, 1)
        return laws.records(config, program, mesh, here.sizes.members, here.sizes.steps, 0)

    def compared(executor: str) -> dict[str, Any]:
        config, mesh = _config(here, here.sizes.widths[0]), _mesh()
        program = _program(here, executor, config, mesh)
        same, others = (
            laws.records(config, program, mesh, here.sizes.members, here.sizes.steps, first) for first in (0, 2**31)
        )
        found = laws.laws(on_cpu(), others)
        return {
            "hidden": config.hidden,
            "laws": found,
            "alarms": sum(each["p"] < laws.ALARM for each in found),
            "members": laws.members(on_cpu(), same, config.tasks.rows),
        }

    return {executor: functools.partial(compared, executor) for executor in EXECUTORS}


def large(here: Here) -> dict[str, Item]:
    """A whole command, from its start to its report."""
    sizes = here.sizes

    def run() -> dict[str, Any]:
        out = here.out / "large"
        shutil.rmtree(out, ignore_errors=True)  # one that was stopped: what is timed begins with nothing
        widths = [str(hidden) for hidden in sizes.large_widths]
        command = [sys.executable, "-c", "from ncsim.cli import main; main()"]
        command += ["ensemble", "--out", str(out), "--hidden", *widths]
        command += ["--members", str(sizes.large_members), "--steps", str(sizes.large_steps)]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(said[-1] if said else f"the command ended with status {done.returncode}")
        steps = 4 * sizes.large_members * sizes.large_steps * len(widths)
        environment = json.loads((out / "config.json").read_text())["environment"]
        return {
            "command": " ".join(["ncsim", *command[3:]]),
            "wall_seconds": seconds,
            "rate": steps / seconds,
            "executors": sorted(set(environment["executor"].values())),
            "said": [line for line in done.stderr.splitlines() if "using" in line][:8],
        }

    words = f"{sizes.large_members:,} members x {len(sizes.large_widths)} widths x {sizes.large_steps:,} steps"
    return {words: run}


def tuning(here: Here) -> dict[str, Item]:
    """The cuda executor with other blocks of threads, and other numbers of them on a multiprocessor."""
    from ncsim.executors.cuda import program as cuda

    def tried(hidden: int, threads: int, more: int) -> dict[str, Any]:
        launch = functools.partial(cuda.launched, threads=threads, more=more)
        return _rate(here, "cuda", hidden, launch) | {"threads": threads, "more": more}

    pairs = [(128, 0), (64, 0), (256, 0), (128, -1), (128, 1)]
    return {
        f"n = {hidden}, {threads} threads, {more:+d} registers' share": functools.partial(tried, hidden, threads, more)
        for hidden in here.sizes.tuned
        for threads, more in (pairs[:1] if here.rehearsal else pairs)
    }


def text(here: Here) -> dict[str, Item]:
    """Adapters over a BERT: sequences a second, and the share of the device's matrix products; and without fused attention."""
    sizes = here.sizes

    def measured(work: TextWork, at_once: tuple[int, ...]) -> dict[str, Any]:
        from benchmarks.text import measure_accelerator

        return measure_accelerator(sizes.text_rounds, work, at_once, sizes.matrices)

    words = f"{sizes.text.size}, {sizes.text.adapters} adapters"
    items: dict[str, Item] = {words: functools.partial(measured, sizes.text, sizes.text_at_once)}
    if not here.rehearsal:  # a CPU has nothing else
        by_xla = dataclasses.replace(sizes.text, attention="xla")
        items[f"{words}, attention by XLA"] = functools.partial(measured, by_xla, sizes.text_at_once[-1:])
    return items


#: In the order of what one wants to know first; the seconds of each on a GPU, at most.
STAGES: dict[str, tuple[Callable[[Here], dict[str, Item]], float]] = {
    "device": (device, 40),
    "ceilings": (ceilings, 40),
    "rates": (rates, 170),
    "members": (members, 70),
    "large": (large, 90),
    "tuning": (tuning, 60),
    "text": (text, 110),
}
