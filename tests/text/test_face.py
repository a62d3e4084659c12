"""What `ncsim.text` gives its users, and that importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ncsim


def test_every_name_loads_and_is_listed() -> None:
    assert "text" in dir(ncsim)
    assert sorted(ncsim.text.__all__) == dir(ncsim.text)
    for name in ncsim.text.__all__:
        assert getattr(ncsim.text, name) is not None


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'ncsim\.text' has no attribute 'nothing'"):
        _ = ncsim.text.nothing


def test_importing_it_loads_neither_jax_nor_transformers() -> None:
    code = (
        "import sys, ncsim; ncsim.text; import ncsim.text; "
        "print([m for m in ('jax', 'transformers', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
