"""Compiled programs on disk: a run that is taken up again, and the next of the same shapes, need not compile."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from ncsim.executors.native.compiler import cache_folder, processor_key


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Within it JAX keeps what takes more than a second to compile in $XDG_CACHE_HOME/ncsim/programs.

    The user's own folder for that (JAX_COMPILATION_CACHE_DIR), or wish for none, stays. A processor of another kind has
    a folder of its own: a file system may be shared, and machine code is made for the processor that it is compiled on.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
        yield
        return
    digits = hashlib.sha256(processor_key().encode()).hexdigest()[:16]
    _keep_in(str(cache_folder() / "programs" / digits))
    try:
        yield
    finally:
        _keep_in(None)


def _keep_in(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # which remembers its first folder otherwise
