"""JAX as ncsim's own programs want it: its settings, and compiled programs on disk, so that the next run need not compile."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from ncsim.jax_settings import own_settings

ZSTANDARD = b"\x28\xb5\x2f\xfd"  # what its frames begin with (RFC 8878)


@contextlib.contextmanager
def own_programs() -> Iterator[None]:
    """Within it programs are compiled and run under `own_settings`, and those that take more than a second to compile are kept.

    Whatever trains runs within it. JAX keeps programs in $XDG_CACHE_HOME/ncsim/programs; the user's own folder for that
    (JAX_COMPILATION_CACHE_DIR), or wish for none, stays.
    """
    import jax

    settings = jax.config.values
    with own_settings():
        if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
            yield
            return
        _keep_in(str(_folder()))
        try:
            yield
        finally:
            _keep_in(None)


def _keep_in(folder: str | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # which remembers its first folder otherwise


def _folder() -> Path:
    """Where programs are kept. A processor of another kind has a folder of its own: a file system may be shared, and machine
    code is made for the processor that it is compiled on."""
    from ncsim.c_compiler import cache_folder, processor_key

    folder = cache_folder() / "programs" / hashlib.sha256(processor_key().encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        drop_torn(folder)
    return folder


@functools.cache  # once per process: a look at every program would be of each small run
def drop_torn(folder: Path) -> None:
    """Remove programs that a kill or a full disk has cut short: JAX warns of them at every start and never writes them anew.
    Those that were there at the last look are not read again."""
    seen = folder / "seen"
    since = seen.stat().st_mtime_ns if seen.exists() else 0
    new = [entry for entry in folder.glob("*-cache") if entry.stat().st_mtime_ns > since]
    for entry in new:
        try:
            _expanded(entry.read_bytes())
        except Exception:  # of any library that expands; what another process writes now is compiled once more
            entry.unlink(missing_ok=True)
    if new:
        newest = max((entry.stat().st_mtime_ns for entry in new if entry.exists()), default=since)
        seen.touch()
        os.utime(seen, ns=(newest, newest))


def _expanded(data: bytes) -> bytes | None:
    """A program as it was before JAX compressed it, by zstandard where that is installed; None where that is not installed here."""
    if not data.startswith(ZSTANDARD):
        return zlib.decompress(data)
    with contextlib.suppress(ImportError):
        from compression import zstd

        return zstd.decompress(data)
    with contextlib.suppress(ImportError):
        import zstandard

        return zstandard.ZstdDecompressor().decompress(data)
    return None
