"""Compiled programs on disk: kept and found again, made anew where they are torn, and nothing of a user's own is kept by us."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import ncsim
from ncsim.config.tasks import context_targets
from ncsim.executors.own_programs import drop_torn, own_programs
from ncsim.training.initialization import initial_vector
from ncsim.training.observation import record
from ncsim.training.step import train
from tests.conftest import OLDER_LOOPS
from tests.support.cases import first_fast


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Gives the programs that are kept, and how many were found, since the last time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    session = jax.config.jax_compilation_cache_dir  # the tests' own, which would be kept in as a user's is
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()  # which has the session's where another test has compiled before
    events = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))

    def look():
        found = events.count("/jax/compilation_cache/cache_hits")
        events.clear()
        return sorted(tmp_path.glob("ncsim/programs/*/*-cache")), found

    yield look
    jax.config.update("jax_compilation_cache_dir", session)
    compilation_cache.reset_cache()


def compiled(scale):
    jax.clear_caches()
    drop_torn.cache_clear()  # as in another process
    with own_programs():
        return float(jax.jit(lambda x: jnp.sin(x) * scale)(np.float32(1)))


def test_a_program_is_kept_and_found(kept):
    value = compiled(3)
    programs, found = kept()
    assert programs
    assert not found
    assert compiled(3) == value
    assert kept() == (programs, len(programs))
    assert jax.config.jax_compilation_cache_dir is None


def test_a_torn_program_is_compiled_anew_without_a_word(kept):
    value = compiled(5)
    programs, _ = kept()
    whole = [path.read_bytes() for path in programs]
    for path, data in zip(programs, whole, strict=True):
        path.write_bytes(data[: len(data) // 2])
    assert compiled(5) == value  # a warning would be an error here
    assert kept()[1] == 0
    assert compiled(5) == value
    assert kept()[1] == len(programs)


def test_nothing_is_kept_outside_nor_against_a_users_wish(kept, tmp_path):
    jax.jit(lambda x: x * 11)(np.float32(1))
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        compiled(13)
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    compiled(17)
    assert kept()[0] == []
    assert list((tmp_path / "mine").glob("*-cache"))


FIELDS = [
    {"loss": "squared_error", "topology": "dense"},
    {"loss": "cross_entropy", "initialization": "normal", "optimizer": "adamw"},
    {"optimizer": "lamb", "initialization": "he", "intervention": "pcgrad"},
]


@pytest.mark.skipif(not OLDER_LOOPS, reason="this jax writes loops in one way alone")
@pytest.mark.parametrize("fields", first_fast(FIELDS))
def test_programs_of_tests_have_the_bits_of_programs_of_users(fields):
    """Tests have XLA write loops as it did before (tests/conftest.py): 64 networks begin, are trained and recorded in both ways."""
    config = ncsim.EnsembleConfig(hidden=3, **fields)
    targets = jnp.asarray(context_targets(config.tasks)[1])[..., None]

    def life(seed):
        keys = jax.random.split(jax.random.key(seed), 64)
        start = jax.vmap(functools.partial(initial_vector, config=config), out_axes=-1)(keys)
        trained = train(config, start, targets, jnp.float32(0.05), jnp.asarray([10, 100]))
        return start, trained, record(config, trained[-1], targets)

    flags = ({"xla_cpu_use_fusion_emitters": newer} for newer in (True, False))
    newer, older = (jax.jit(life, compiler_options=each)(7) for each in flags)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), newer, older))
    assert np.isfinite(newer[1]).all()
    assert "fusion_emitters" not in os.environ["XLA_FLAGS"]  # what tests start compiles as users do
