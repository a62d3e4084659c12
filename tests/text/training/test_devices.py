"""What is said of a device."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ncsim.text.training import devices
from ncsim.text.training.devices import slow_precision


@pytest.mark.parametrize(
    ("precision", "platform", "flags", "jaxlib", "said"),
    [
        ("bfloat16", "cpu", "flags\t\t: fpu avx2 fma", "0.12.0", "this processor has no instructions for it"),
        ("bfloat16", "cpu", "flags\t\t: fpu avx512f avx512_bf16", "0.11.2", None),
        ("bfloat16", "cpu", "flags\t\t: fpu amx_bf16 amx_tile", "0.12.0.1", None),
        (
            "bfloat16",
            "cpu",
            "flags\t\t: fpu amx_bf16 amx_tile",
            "0.11.1",
            "jaxlib 0.11.1 makes no use of this processor's",
        ),
        (
            "bfloat16",
            "cpu",
            "flags\t\t: fpu avx512f avx512_bf16",
            "0.10.2",
            "jaxlib 0.10.2 makes no use of this processor's",
        ),
        ("bfloat16", "cpu", "Features\t: fp asimd bf16", "0.10.2", None),  # it is not known
        ("bfloat16", "cpu", "", "0.10.2", None),
        ("bfloat16", "gpu", "flags\t\t: fpu avx2 fma", "0.10.2", None),
        ("float32", "cpu", "flags\t\t: fpu avx2 fma", "0.10.2", None),
    ],
)
def test_bfloat16_that_is_slower_is_said(precision, platform, flags, jaxlib, said, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"jaxlib": jaxlib}[name])
    words = slow_precision(precision, platform)
    assert words is None if said is None else words.startswith(f"--precision bfloat16: {said}")


def test_what_is_free_is_a_processors_share_or_what_an_accelerator_has_left(monkeypatch):
    """Devices of a processor have its memory in common; one that does not say has no limit."""
    monkeypatch.setattr(devices, "available_memory", lambda: 12e9)

    def free(platform, count, said=None):
        each = [SimpleNamespace(platform=platform, memory_stats=lambda: said) for _ in range(count)]
        return devices.free_memory(SimpleNamespace(devices=np.array(each)))

    assert free("cpu", 1) == 12e9
    assert free("cpu", 3) == 4e9
    assert free("gpu", 2, {"bytes_limit": 140 * 10**9, "bytes_in_use": 15 * 10**9}) == 125e9
    assert free("gpu", 2, {"bytes_in_use": 5}) == free("tpu", 1) == math.inf
