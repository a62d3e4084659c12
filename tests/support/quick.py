"""Programs of a test that are compiled sooner and run more slowly: to compile is most of what a small run costs."""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest

#: XLA's own compilation as it is, and LLVM's without its optimisations.
QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": 0}

#: Modules whose caches hold what was compiled.
HOLD_PROGRAMS = ("ncsim.ensemble.", "ncsim.executors.", "ncsim.statistics.", "ncsim.text.", "ncsim.training.")


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """What calls `jax.jit` meanwhile is compiled so. Bits may differ from those of other processes, and so nothing of it is
    kept for what comes after."""

    def quick(jit: Any, *arguments: Any, compiler_options: dict[str, str | bool] | None = None, **options: Any) -> Any:
        return jit(*arguments, compiler_options=QUICK | (compiler_options or {}), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", functools.partial(quick, jax.jit))
        try:
            yield
        finally:
            _forget_programs()


def _forget_programs() -> None:
    """Empty ncsim's caches of programs."""
    for name, module in list(sys.modules.items()):
        if name.startswith(HOLD_PROGRAMS):
            held = [each for each in vars(module).values() if getattr(each, "__module__", None) == name]
            inner = [each for kind in held if isinstance(kind, type) for each in vars(kind).values()]
            for each in [*held, *inner]:
                if clear := getattr(each, "cache_clear", None):
                    clear()
