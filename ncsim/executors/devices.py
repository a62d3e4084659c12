"""The devices that train, and what JAX says, in one line, of one that does not start, fails, or has no memory left."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

from ncsim.config.fields import shown, whole_number
from ncsim.errors import ConfigError, DeviceError, one_line
from ncsim.forks import check_not_forked
from ncsim.machine import cores, processor_features


def prepare_jax(devices: int | None = None) -> None:
    """Set what must be set before JAX starts its backends: a CPU device a core, and whole-loop compilation.

    Where JAX has started already, or the user has set these, what is there is used.
    """

    set_cpu_flags()
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # raised once backends are there
        jax.config.update("jax_num_cpu_devices", devices or cores())


def device_description(devices: int | None = None) -> str:
    """The devices that a run would use, in words for config.json."""
    used = devices_to_use(devices)
    return f"{len(used)} x {used[0].platform} ({used[0].device_kind})"


#: JAX's settings that may change roundings and have no context of their own, with what they are where nobody sets them.
_ARITHMETIC: dict[str, Any] = {
    "jax_compiler_enable_remat_pass": True,
    "jax_disable_most_optimizations": False,
    "jax_enable_pgle": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_optimization_level": "UNKNOWN",
    "jax_use_direct_linearize": True,
    "jax_use_hlo_logistic_lowering": None,
    "jax_xla_profile_version": 0,
}
#: Compilers and libraries read these.
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "TF32_OVERRIDE")
#: XLA's flags that change no member.
_HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_cpu_parallel_codegen", "--xla_hlo_profile")


def arithmetic_settings() -> dict[str, list[str]]:
    """Settings of JAX and XLA that are not as usual and may change arithmetic, for config.json; {} where there are none."""
    import jax

    ours = f"--xla_backend_extra_options={SMALL_LOOP_OPTION}"
    found = []
    for variable in _VARIABLES:
        words = os.environ.get(variable, "").split()
        given = [word for word in words if word != ours and not word.startswith(_HARMLESS)]
        if given:
            found.append(f"{variable}={' '.join(sorted(given))}")
    for name, usual in _ARITHMETIC.items():
        value = getattr(jax.config, name, usual)  # a version of JAX may not have it
        if value != usual:
            found.append(f"{name.upper()}={value}")
    if jax.default_backend() == "cpu" and _rounds_products():
        found.append("processor without FMA")
    return {"settings": found} if found else {}


def _rounds_products() -> bool:
    """Whether this processor has no fused product and sum, and so rounds twice where others round once: of 512 members of two units,
    after 800 steps, 94 % have other losses then, and 6 % other counts. Vectors of 256 and of 512 bits give the same bits."""
    features = processor_features()  # none where the system does not say
    return platform.machine() in ("x86_64", "AMD64") and bool(features) and "fma" not in features


def devices_to_use(count: int | None) -> list[Any]:
    """The first `count` devices, or all.

    Raises:
        ConfigError: there are fewer.
        DeviceError: none starts.
    """
    count = checked_device_count(count)
    check_not_forked()
    prepare_jax(count)
    available = _started_devices()
    if count is not None and count > len(available):
        raise ConfigError(f"--devices: {count}; allowed: 1 to {len(available)}, the devices that JAX has started with")
    return available[:count]


def checked_device_count(devices: Any) -> int | None:
    """A number of devices, or None for all, as an int: JAX's settings and what is kept by it take no other, such as NumPy's.

    Raises:
        ConfigError: no machine could have so many devices.
    """
    if devices is None:
        return None
    number = whole_number(devices)
    if number is None or not 1 <= number <= 4096:
        raise ConfigError(f"--devices: {shown(devices)}; allowed: a whole number from 1 to 4096")
    return number


def _started_devices() -> list[Any]:
    """The devices that JAX starts with, of this process where there are several.

    Raises:
        DeviceError: none of the kind that is asked for starts.
    """
    import jax

    try:
        return list(jax.local_devices())
    except Exception as error:  # a plugin that is broken may raise anything
        asked = os.environ.get("JAX_PLATFORMS")
        wanted = f"JAX_PLATFORMS={asked}: " if asked else ""
        raise DeviceError(
            f"{wanted}no device could be started ({one_line(error)}); to train on the processor: JAX_PLATFORMS=cpu"
        ) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of JAX says that a device has no memory left."""
    text = str(error)
    return _is_jax(error) and any(words in text for words in ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory"))


@contextlib.contextmanager
def failing_in_one_line(unless: Callable[[BaseException], bool]) -> Iterator[None]:
    """Turn a failure of a device into a DeviceError; errors of which `unless` is true go on as they are."""
    try:
        yield
    except Exception as error:
        if not _is_jax(error) or unless(error):
            raise
        raise DeviceError(
            f"a device failed while training ({one_line(error)}); what is stored is whole, and the same command resumes"
        ) from error


def _is_jax(error: BaseException) -> bool:
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError)


#: Compile a training loop into one function instead of dispatching its operations one by one at every step: half the
#: time of a step. An extra option that a version of XLA does not know is ignored by it, so this is safe to set.
SMALL_LOOP_OPTION = "xla_cpu_small_while_loop_byte_threshold=10000000"


def set_cpu_flags() -> None:
    """Ask XLA for whole-loop compilation on CPUs. Must run before JAX starts its backends; keeps the user's own flags."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_extra_options" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={SMALL_LOOP_OPTION}".strip()
