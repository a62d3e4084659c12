"""What this process may use of the machine: a system that ncsim runs on, its processors and its memory.

A container has the host's numbers of both and may use less: its control groups say how much, version 2 in one tree of
folders (`cpu.max`, `memory.max`), version 1 in one per controller (`cpu.cfs_quota_us`, `memory.limit_in_bytes`). A limit of a
group holds for all groups below it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ncsim.errors import ConfigError, reason

#: Where Linux tells of processes and of control groups; elsewhere there is neither.
PROC, CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def check_system() -> None:
    """Refuse a system that cannot lock files, which two processes on one run folder need.

    Raises:
        ConfigError: it is one, as Windows.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{sys.platform}: ncsim does not run on this system; allowed: Linux and macOS, and on Windows its Subsystem "
            "for Linux"
        ) from None


def absolute(path: str | os.PathLike[str]) -> str:
    """A path of this machine that means the same in another folder, with its ".." as they are: before one may be a link.

    Raises:
        ConfigError: it is relative, and the current folder has been removed.
    """
    try:
        return str(Path(path).absolute())
    except FileNotFoundError as error:
        raise ConfigError(
            f"{os.fspath(path)}: the current folder is gone ({reason(error)}); allowed: a folder that is there"
        ) from None


def user_caches() -> Path | None:
    """The folder of all caches of this user: $XDG_CACHE_HOME, where that is no relative path (which its specification has ignored), or
    ~/.cache; None for a user without a home, as of a container that is started with any number for a user."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    folder = given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder) if os.path.isabs(folder) else None


def cores() -> int:
    """Processors that this process may use, at least 1: a part of one that a quota gives counts as one."""
    try:
        count: float = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS has no affinity
        count = os.cpu_count() or 1
    for group in _groups("cpuset"):
        count = min(count, _listed(group / "cpuset.cpus.effective"), _listed(group / "cpuset.effective_cpus"))
    for group in _groups("cpu"):
        for quota in (_ratio(group / "cpu.max"), _ratio(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")):
            count = min(count, math.ceil(quota)) if quota < count else count
    return max(int(count), 1)


def processor_lines() -> list[str]:
    """What Linux says of the processors, in lines; none where the system does not say."""
    try:
        return (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return []


def processor_features() -> set[str]:
    """The names of the first processor's instructions, as `avx2`; none where the system does not say."""
    lines = (line for line in processor_lines() if line.startswith(("flags", "Features")))
    return next((set(line.split(":", 1)[1].split()) for line in lines), set())


def vectors() -> str:
    """The widest vectors of this processor in the name of their instructions, as "avx2 vectors"; "" where the system does not say."""
    features = processor_features()
    known = ("avx512f", "avx2", "avx", "sse2", "sve", "asimd")
    return next((f"{name} vectors" for name in known if name in features), "")


def memory() -> int:
    """Bytes that this process may have; 0 where the machine does not say."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        physical = os.sysconf("SC_PAGE_SIZE") * max(pages, 0)  # -1 where it is not known
    except (OSError, ValueError):
        physical = 0
    return int(min([physical, *(limit for limit, _ in _memory_limits())]))


def available_memory() -> float:
    """Bytes that are free for this process; infinite where the machine does not say."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
        free = float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration):
        free = math.inf
    return min([free, *(max(limit - used, 0.0) for limit, used in _memory_limits())])


def _memory_limits() -> Iterator[tuple[float, float]]:
    """Bytes that each group may have, and has, without what is only kept of files."""
    for group in _groups("memory"):
        for most, now, kept in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _ratio(group / most)
            if limit < 2**60:  # version 1 has a number for none
                used, files = _ratio(group / now), 0.0
                for line in _text(group / "memory.stat").splitlines():
                    name, _, number = line.partition(" ")
                    files = float(number) if name == kept and number.isdigit() else files
                yield limit, max(used - files, 0.0) if used < math.inf else 0.0


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups for a controller, from its own to the outermost."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        base = CONTROL_GROUPS / controller if names else CONTROL_GROUPS
        steps = [step for step in path.split("/") if step not in ("", "..")]
        for depth in range(len(steps), -1, -1):
            yield base.joinpath(*steps[:depth])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _ratio(path: Path, below: Path | None = None) -> float:
    """The first number of a file, by the second one or that of another file where there is one; infinite for no limit."""
    words = [*_text(path).split(), *(_text(below).split() if below else ())]
    if not words or not words[0].isdigit() or not all(word.isdigit() and int(word) for word in words[1:2]):
        return math.inf
    return int(words[0]) / (int(words[1]) if len(words) > 1 else 1)


def _listed(path: Path) -> float:
    """How many numbers a list as "0-3,8" has; infinite where there is none."""
    try:
        ends = [[int(end) for end in piece.split("-")] for piece in _text(path).strip().split(",")]
        return sum(each[-1] - each[0] + 1 for each in ends)
    except ValueError:
        return math.inf
