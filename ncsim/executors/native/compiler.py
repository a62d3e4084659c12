"""The C compiler of this machine, and the cache of what it has built."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

from ncsim.errors import ConfigError
from ncsim.executors.native.c_template import PROCESSORS

COMPILERS = ("cc", "gcc", "clang")
#: No flag that lets the compiler assume away NaN or infinities, which a network that diverges has.
FLAGS = "-O2 -std=gnu11 -march=native -fPIC -shared -ffp-contract=fast -fno-math-errno -fno-trapping-math".split()
#: GCC's scheduler before registers are given out, which keeps their number in mind. Other compilers do it unasked.
GCC_FLAGS = ("-fschedule-insns", "-fsched-pressure")
COMPILE_SECONDS = 60.0


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
    key = "\0".join([text, *command, _version(command[0]), processor_key()])
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


def verdict(text: str) -> bool | None:
    """Whether this C file's code was found to be worth its while on this machine; None where nobody has tried."""
    path = built(text).with_suffix(".verdict")
    return path.read_text() == "faster" if _ours(path) else None


def remember(text: str, faster: bool) -> bool:
    """Keep a verdict beside the code, so that timings decide once and later runs are trained alike; gives the first."""
    path = built(text).with_suffix(".verdict")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as scratch:
        made = Path(scratch) / "verdict"
        made.write_text("faster" if faster else "slower")
        made.chmod(0o600)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(made, path)
    kept = verdict(text)
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
def processor_key() -> str:
    """What tells processors apart for which machine code is compiled; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
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
