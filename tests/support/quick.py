"""Programs of a test that are compiled sooner and run more slowly: to compile is most of what a small run costs. And those of a test that
are to be as users have them."""

import functools
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import pytest
from jax._src.core import trace_state_clean

#: XLA's own compilation as it is, and LLVM's without its optimisations.
QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": 0}

#: XLA has two ways to write the code of a loop, which give networks the same bits (tests/executors/test_own_programs.py), and BERT other
#: ones. The newer one, through MLIR, takes twice as long, even for a single addition, so that tests have the older one (tests/conftest.py);
#: jax 0.11 and later may have no other.
OLDER_LOOPS = " --xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else ""

#: As users' programs are, where tests have others.
AS_USERS: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": True}

#: Modules whose caches hold what was compiled.
HOLD_PROGRAMS = ("ncsim.ensemble.", "ncsim.executors.", "ncsim.statistics.", "ncsim.text.", "ncsim.training.")


def compiled_quickly() -> AbstractContextManager[None]:
    """What calls `jax.jit` meanwhile is compiled so. Bits may differ from those of other processes, and so nothing of it is
    kept for what comes after."""
    return _compiled_with(QUICK)


def compiled_as_by_users() -> AbstractContextManager[None]:
    """For what asks how XLA rounds, or compares BERT's bytes with those of other processes."""
    return _compiled_with(AS_USERS) if OLDER_LOOPS else nullcontext()


@contextmanager
def _compiled_with(chosen: dict[str, str | bool]) -> Iterator[None]:
    now = [True]
    _forget_programs()  # of other tests: their bits may differ

    def quick(jit: Any, function: Any, *, compiler_options: dict[str, str | bool] | None = None, **options: Any) -> Any:
        quickly = jit(function, compiler_options=chosen | (compiler_options or {}), **options)
        return _Program(quickly, jit(function, compiler_options=compiler_options, **options), now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", functools.partial(quick, jax.jit))
        try:
            yield
        finally:
            now.clear()
            _forget_programs()


class _Program:
    """Compiled with these options, but for a call inside another program, which alone may have any, and one that comes later: a module
    that is first imported meanwhile keeps what it makes."""

    def __init__(self, quick: Any, usual: Any, now: list[bool]) -> None:
        self._quick, self._usual, self._now = quick, usual, now

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return (self._quick if self._now and trace_state_clean() else self._usual)(*arguments, **named)

    def trace(self, *arguments: Any, **named: Any) -> Any:
        """Written out, and `lower` too: from Python 3.12 on what only `__getattr__` has does not make an object a `jax.stages.Wrapped`."""
        return (self._quick if self._now else self._usual).trace(*arguments, **named)

    def lower(self, *arguments: Any, **named: Any) -> Any:
        """Likewise."""
        return (self._quick if self._now else self._usual).lower(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quick if self._now else self._usual, name)


def _forget_programs() -> None:
    """Empty ncsim's caches of programs."""
    for name, module in list(sys.modules.items()):
        if name.startswith(HOLD_PROGRAMS):
            held = [each for each in vars(module).values() if getattr(each, "__module__", None) == name]
            inner = [each for kind in held if isinstance(kind, type) for each in vars(kind).values()]
            for each in [*held, *inner]:
                if clear := getattr(each, "cache_clear", None):
                    clear()
