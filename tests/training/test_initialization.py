"""How a network starts does not depend on those beside it, as users' programs are compiled."""

import jax
import numpy as np
import pytest

import ncsim
from ncsim.training.initialization import initial_vector
from tests.support.cases import first_fast
from tests.training.test_network_and_step import INITIALIZATIONS


@pytest.mark.parametrize(
    "initialization", first_fast(["he", *(name for name in INITIALIZATIONS if name != "he")], 1, slow=1)
)
def test_a_network_starts_the_same_alone_and_among_others(initialization):
    """Bit for bit, whatever the width of a block: JAX 0.12 promises it of single draws alone, not of normal ones side by
    side."""
    config = ncsim.EnsembleConfig(hidden=3, initialization=initialization)
    data = jax.random.key_data(jax.random.split(jax.random.key(5), 64))

    def start(key):
        return initial_vector(jax.random.wrap_key_data(key), config)

    alone, among = jax.jit(start), jax.jit(jax.vmap(start, out_axes=-1))
    expected = np.stack([alone(key) for key in data], axis=-1)
    for width in (1, 7, 64):
        assert np.array_equal(among(data[:width]), expected[:, :width]), width
