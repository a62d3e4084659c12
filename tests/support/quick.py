"""Programs of a test that are compiled sooner and run more slowly: to compile is most of what a small run costs."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest

#: XLA's own compilation as it is, and LLVM's without its optimisations.
QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": 0}


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """What calls `jax.jit` meanwhile is compiled so. Bits may differ from those of other processes."""

    def quick(jit: Any, *arguments: Any, compiler_options: dict[str, str | bool] | None = None, **options: Any) -> Any:
        return jit(*arguments, compiler_options=QUICK | (compiler_options or {}), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", functools.partial(quick, jax.jit))
        yield
