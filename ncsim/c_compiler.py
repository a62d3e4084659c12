"""The C compiler of this machine, and the cache of what it has built."""

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
import sys
import tempfile
from pathlib import Path

from ncsim import signals
from ncsim.errors import ConfigError, one_line, reason
from ncsim.machine import processor_features, processor_lines, user_caches
from ncsim.terminal import say

COMPILERS = ("cc", "gcc", "clang")
#: Identifies the kinds of processor that there is code for, as the compiler's macros and Linux's /proc/cpuinfo name them.
PROCESSORS = {"avx512": ("avx512f", "avx512dq", "avx512vl", "avx512bw"), "avx2": ("avx2", "fma")}
#: No flag that lets the compiler assume away NaN or infinities, which a network that diverges has.
FLAGS = "-O2 -std=gnu11 -march=native -fPIC -shared -ffp-contract=fast -fno-math-errno -fno-trapping-math".split()
#: GCC's scheduler before registers are given out, which keeps their number in mind. Other compilers do it unasked.
GCC_FLAGS = ("-fschedule-insns", "-fsched-pressure")
#: So long that no machine which is only busy gets there: auto would go by XLA then, whose members differ.
COMPILE_SECONDS = 600.0
#: What generated code includes from jaxlib, and what a library that was built with another version of it may not fit.
FFI_HEADER = "xla/ffi/api/c_api.h"
FAILURE = "--executor: native; its code does not compile here"


# ------------------------------------------------------------------------------------------------ from source to library


@functools.lru_cache(maxsize=1)
def processor() -> str | None:
    """The kind of vector unit that generated code has here, of `PROCESSORS`; None where it has none."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    flags = processor_features()
    return next((name for name, needed in PROCESSORS.items() if flags.issuperset(needed)), None)


def compiler() -> str | None:
    """The C compiler's path, or None."""
    return next((path for path in map(shutil.which, COMPILERS) if path), None)


def built(text: str) -> Path:
    """The shared library of a C file: built, or found in the cache.

    Raises:
        ConfigError: the compiler refuses it, or takes longer than COMPILE_SECONDS, or nothing can be written.
    """
    try:
        command, header, include = _command(), "", []
        if FFI_HEADER in text:
            import jax  # not where statistics alone are compiled

            include = ["-I", jax.ffi.include_dir()]
            header = (Path(include[1]) / FFI_HEADER).read_text()
        # What -march=native comes to depends on the processor, which a cache on a shared file system may outlive.
        key = "\0".join([text, header, *command, _version(command[0]), processor_key()])
        name = f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
        folder = cache_folder()
        library = folder / name
        if _ours(library) and _whole(library):
            return library
        with signals.scratch("build-", folder) as scratch:
            (scratch / "step.c").write_text(text)
            made = scratch / name
            _compile([*command, *include, str(scratch / "step.c"), "-o", str(made), "-lm"])
            if SEALED:
                data = made.read_bytes()
                made.write_bytes(data + _seal(data))
            made.chmod(0o700)
            os.replace(made, library)  # another process may have put the same there: either is right
    except OSError as error:
        raise ConfigError(f"{FAILURE} ({reason(error)}); allowed here: xla") from None
    return library


#: Whether a library ends with a checksum of what stands before it, which Linux's loader does not read.
SEALED = sys.platform == "linux"


def _seal(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _whole(library: Path) -> bool:
    """Whether a library is what was built. Of one that a crash of the machine has cut short, the loader says that it is none, or it
    ends the process without a word."""
    data = library.read_bytes() if SEALED else b""
    return not SEALED or data[-32:] == _seal(data[:-32])


def loaded(text: str) -> ctypes.CDLL:
    """The library of a C file, loaded.

    Raises:
        ConfigError: it is not built, or cannot be loaded, as from a file system that runs nothing.
    """
    library = built(text)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise ConfigError(f"{FAILURE} ({one_line(error)}); allowed here: xla") from None


#: A verdict's word in its file: of timings once, and still read by what earlier versions kept.
_YES, _NO = "faster", "slower"


def verdict(text: str, subject: str = "verdict") -> bool | None:
    """What was found of this C file's code on this machine, such as whether its losses are XLA's; None where nobody has tried."""
    path = _kept_at(text, subject)
    # A word that a crash of the machine has cut short is none.
    return {_YES: True, _NO: False}.get(path.read_text(errors="replace")) if _ours(path) else None


def _kept_at(text: str, subject: str) -> Path:
    library = built(text)
    return library.with_name(f"{library.stem}.{subject}")


def remember(text: str, found: bool, subject: str = "verdict") -> bool:
    """Keep a verdict beside the code, so that what was tried decides once and later runs are trained alike; gives the first. Where none
    can be kept, as on a full disk, the next run tries again."""
    path = _kept_at(text, subject)
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as scratch:
        made = Path(scratch) / "verdict"
        made.write_text(_YES if found else _NO)
        made.chmod(0o600)
        try:
            os.link(made, path)
        except OSError:
            # Another process was first. Or the file system has no hard links: there the last of two at one moment stays.
            if verdict(text, subject) is None:
                os.replace(made, path)
    kept = verdict(text, subject)
    return found if kept is None else kept


def cache_folder() -> Path:
    """Where libraries are kept, which belongs to the user alone: $XDG_CACHE_HOME/ncsim, or a temporary folder."""
    base = user_caches()
    if base is None:
        return Path(_temporary_folder())
    folder = base / "ncsim"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if _ours(folder):
            return folder
        _say_not_kept(folder)
    except OSError:
        pass
    return Path(_temporary_folder())


@functools.lru_cache(maxsize=8)
def _say_not_kept(folder: Path) -> None:
    say(
        f"{folder}: others may write to it, so that what is compiled is not kept; allowed: the user's own folder, after chmod go-w"
    )


@functools.lru_cache(maxsize=1)
def _temporary_folder() -> str:
    folder, maker = tempfile.mkdtemp(prefix="ncsim-"), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # and not where a forked process ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
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
        return _told([path, "--version"]).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _told(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What a compiler says, in English whatever the user's language: its version is part of the key of what it has built, and of its
    errors one line is shown. Bytes that are no UTF-8, as of a folder's name, end nothing."""
    english = os.environ | {"LC_ALL": "C"}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=english, timeout=COMPILE_SECONDS
    )


@functools.lru_cache(maxsize=1)
def processor_key() -> str:
    """What tells processors apart for which machine code is compiled; empty where the system does not say."""
    told = ("flags", "model\t", "cpu family", "vendor_id", "Features", "CPU implementer", "CPU variant", "CPU part")
    return "\n".join(sorted({line for line in processor_lines() if line.startswith(told)}))


def _compile(command: list[str]) -> None:
    try:
        done = _told(command)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{FAILURE} (the compiler took over {COMPILE_SECONDS:g} s); allowed here: xla") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{FAILURE} ({type(error).__name__}); allowed here: xla") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise ConfigError(f"{FAILURE} ({lines[0].strip()[:160]}); allowed here: xla")
