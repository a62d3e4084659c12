"""JAX's devices in a process of a user's own, where nothing has started them."""

import subprocess
import sys

import jax
import pytest

from ncsim.errors import DeviceError
from ncsim.executors.devices import failing_in_one_line, out_of_memory

LOST, FULL = (
    jax.errors.JaxRuntimeError(words) for words in ("INTERNAL: device lost\nat line 7", "RESOURCE_EXHAUSTED: 9 MB")
)


@pytest.mark.parametrize(
    ("error", "unless", "kept"),
    [
        (LOST, out_of_memory, False),
        (FULL, out_of_memory, True),  # who trains takes smaller blocks then
        (FULL, lambda error: False, False),
        (RuntimeError("Out of memory of something else"), lambda error: False, True),
        (KeyboardInterrupt(), lambda error: False, True),
    ],
)
def test_what_devices_say_is_one_line_and_all_else_stays(error, unless, kept):
    with pytest.raises(type(error) if kept else DeviceError) as caught, failing_in_one_line(unless):
        raise error
    if kept:
        assert caught.value is error
    else:
        assert caught.value.__cause__ is error
        assert str(caught.value) == (
            f"a device failed while training ({' '.join(str(error).split())}); what is stored is whole, and the same command resumes"
        )
    assert [out_of_memory(each) for each in (LOST, FULL, RuntimeError("Out of memory"))] == [False, True, False]


@pytest.mark.slow
def test_to_try_an_optimizers_options_starts_no_devices():
    """One step is tried where some parameters have no gradient: JAX had one device for all cores then."""
    code = """if True:
        import ncsim
        config = ncsim.EnsembleConfig(hidden=1, members=4, steps=2, bob_weight=0.0, optimizer_options="eps=1e-6")
        print(len(ncsim.run_ensemble(config, executor="xla", devices=2).counts))"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (found.stdout, found.returncode) == ("4\n", 0), found.stderr
