"""What is said of a device."""

from pathlib import Path

import pytest

from ncsim.text.training.devices import slow_precision


@pytest.mark.parametrize(
    ("precision", "platform", "flags", "said"),
    [
        ("bfloat16", "cpu", "flags\t\t: fpu avx2 fma", True),
        ("bfloat16", "cpu", "flags\t\t: fpu avx512f avx512_bf16", False),
        ("bfloat16", "cpu", "flags\t\t: fpu amx_bf16 amx_tile", False),
        ("bfloat16", "cpu", "Features\t: fp asimd bf16", False),
        ("bfloat16", "cpu", "", False),  # it is not known
        ("bfloat16", "gpu", "flags\t\t: fpu avx2 fma", False),
        ("float32", "cpu", "flags\t\t: fpu avx2 fma", False),
    ],
)
def test_bfloat16_without_instructions_is_said(precision, platform, flags, said, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor\t: 0\n{flags}\n")
    words = slow_precision(precision, platform)
    assert (words is not None) == said
    assert words is None or words.startswith("--precision bfloat16: ")
