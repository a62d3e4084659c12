"""Ensembles of circuits: the records of NCnets, members that depend on their id alone, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncsim import ConfigError, EnsembleConfig, truth_tables
from ncsim.config.tasks import context_targets
from ncsim.ensemble.circuits import run_circuits
from ncsim.report.summary import summarise
from ncsim.training.circuit import Circuit, train_circuit
from ncsim.training.network import Architecture

pytestmark = pytest.mark.usefixtures("quickly")

TWO_FEATURES = truth_tables([lambda a, b: a, lambda a, b: b], [lambda a, b: a, lambda a, b: b], features=2)
CONFIG = EnsembleConfig(hidden=2, members=300, steps=60, learning_rate=0.1)


@pytest.fixture(scope="module")
def run():
    return run_circuits(CONFIG, "amplitude")


def test_a_circuit_has_as_many_parameters_as_its_network():
    for hidden in (1, 2, 3, 4, 64):
        config = EnsembleConfig(hidden=hidden)
        assert Circuit.of(config, "angle").size == Architecture.of(config).size == 7 * hidden + 2


@pytest.mark.slow
def test_records_are_those_of_networks(run):
    records = run.records()
    assert records.member.tolist() == list(range(300))
    assert (records.counts.sum(axis=2) == 16).all()
    assert not records.diverged.any()
    assert (records.loss > 0).all()
    assert ((records.margin > 0) == (records.counts[:, :, 3] == 16)).all()
    assert run.executors == ["xla"]
    assert summarise(run).numbers["cells"][0]["members"] == 300


@pytest.mark.slow
def test_training_solves_what_a_start_does_not(run):
    start = run_circuits(dataclasses.replace(CONFIG, steps=1), "amplitude").records()
    assert (run.records().loss.mean(axis=0) < 0.9 * start.loss.mean(axis=0)).all()
    assert ((run.records().counts[:, :, 3] == 16).mean(axis=0) > (start.counts[:, :, 3] == 16).mean(axis=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, None])
def test_members_depend_on_their_id_alone(run, devices):
    some = run_circuits(dataclasses.replace(CONFIG, first_member=137, members=150), "amplitude", devices).records()
    for name, values in run.members(range(137, 287))._asdict().items():
        np.testing.assert_array_equal(values, getattr(some, name))


@pytest.mark.thorough
def test_compiled_training_is_that_of_single_operations():
    circuit, vector = Circuit("amplitude", 5), jax.random.normal(jax.random.key(3), (9, 4))
    targets = jnp.asarray(context_targets(CONFIG.tasks)[2], jnp.float32)
    given = (circuit, CONFIG, vector, targets, 0.1, 3)
    compiled = jax.jit(train_circuit, static_argnums=(0, 1))(*given)
    with jax.disable_jit():
        np.testing.assert_allclose(compiled, train_circuit(*given), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"intervention": "pcgrad"}, "--intervention"),
        ({"encoding": "sign"}, "--encoding"),
        ({"initialization": "he"}, "--initialization"),
        ({"alice_weight": 2.0}, "--alice-weight"),
        ({"training_rows": 3}, "--training-rows"),
        ({"loss": "cross_entropy"}, "--loss"),
        ({"optimizer": "lamb"}, "--optimizer"),
        ({"tasks": TWO_FEATURES}, "tasks"),
    ],
)
def test_what_a_circuit_has_not_is_refused_in_one_line(change, word):
    with pytest.raises(ConfigError, match="allowed") as caught:
        run_circuits(dataclasses.replace(CONFIG, **change))
    assert str(caught.value).startswith(word)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [({}, "two cells of the grid are the same config"), ({"members": 5}, "--members: differs between")],
)
def test_what_is_no_grid_is_refused_before_a_cell_is_trained(change, words, monkeypatch):
    def train(*_):
        raise AssertionError("a cell is trained")

    monkeypatch.setattr("ncsim.ensemble.circuits._trained", train)
    with pytest.raises(ConfigError, match=words):
        run_circuits([CONFIG, dataclasses.replace(CONFIG, **change)])


def test_another_encoding_is_refused():
    with pytest.raises(ConfigError, match="encoding: phase; allowed: angle, amplitude"):
        run_circuits(CONFIG, "phase")
