"""Truth tables, and configs that refuse what no run can have."""

import dataclasses
import itertools

import numpy as np
import optax
import pytest

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS, from_dict, swept_fields, to_dict
from ncsim.config.tasks import CONTEXTS, context_targets, encoded_inputs


def test_paper_tasks_are_equations_2_and_3():
    tasks = ncsim.PAPER_TASKS
    assert tasks.inputs == tuple(itertools.product((0, 1), repeat=4))
    for row, (x1, x2, x3, x4) in enumerate(tasks.inputs):
        assert (tasks.alice[0][row], tasks.alice[1][row]) == (x1, x1 ^ x2)
        assert (tasks.bob[0][row], tasks.bob[1][row]) == (x3, x3 ^ x4)


def test_targets_follow_the_contexts():
    targets = context_targets(ncsim.PAPER_TASKS)
    assert targets.shape == (4, 16, 2)
    for number, (i, j) in enumerate(CONTEXTS):
        assert np.array_equal(targets[number, :, 0], ncsim.PAPER_TASKS.alice[i])
        assert np.array_equal(targets[number, :, 1], ncsim.PAPER_TASKS.bob[j])


@pytest.mark.parametrize(("features", "alice"), [(1, (0,)), (2, (0,)), (3, (0, 1)), (5, (0, 1, 2)), (6, (0, 1, 2))])
def test_sides_share_the_features_and_alice_has_the_odd_one(features, alice):
    tasks = ncsim.truth_tables(
        [lambda *x: x[0], lambda *x: 1 - x[0]], [lambda *x: x[-1], lambda *x: 0], features=features
    )
    assert tasks.party_features == (alice, tuple(range(len(alice), features)))


def test_rows_have_up_to_sixteen_features():
    for features in (16, 17):
        rows, answers = ((0,) * features, (1,) * features), ((0, 1), (1, 0))
        if features == 16:
            assert ncsim.TruthTables(rows, answers, answers, (0,), (15,)).features == 16
            continue
        with pytest.raises(ValueError, match=r"^tasks.inputs: 17 features; allowed: 1 to 16$"):
            ncsim.TruthTables(rows, answers, answers, (0,), (15,))


def test_encodings():
    assert set(np.unique(encoded_inputs(ncsim.PAPER_TASKS, "binary"))) == {0.0, 1.0}
    assert set(np.unique(encoded_inputs(ncsim.PAPER_TASKS, "sign"))) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": ((0, 1), (0,))}, "row 1 has 1 features"),
        ({"inputs": ((0, 0, 0, 2),) * 16}, "2; allowed: 0 or 1"),
        ({"inputs": ()}, "0 rows"),
        ({"alice": ((0,) * 16,)}, "1 tables; allowed: 2"),
        ({"bob": ((0,) * 16, (0,) * 15)}, "table 1 has 15 answers"),
        ({"alice_features": (4,)}, "4; allowed: 0 to 3"),
    ],
)
def test_broken_truth_tables_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(ncsim.PAPER_TASKS, **change)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("hidden", 0, "--hidden: 0; allowed: a whole number from 1 to 64"),
        ("hidden", 65, "--hidden: 65; allowed"),
        ("hidden", 3.5, "--hidden: 3.5; allowed"),
        ("hidden", True, "--hidden: True; allowed"),
        ("hidden", [2, 3], "one value a config: use ncsim.config_grid"),
        ("members", 0, "--members: 0; allowed"),
        ("members", -3, "--members: -3; allowed"),
        ("steps", 0, "--steps: 0; allowed"),
        ("steps", -1, "--steps: -1; allowed"),
        ("learning_rate", float("nan"), "--learning-rate: nan; allowed: a finite number above 0"),
        ("learning_rate", float("inf"), "--learning-rate: inf; allowed"),
        ("learning_rate", 0.0, "--learning-rate: 0.0; allowed"),
        ("learning_rate", "fast", "--learning-rate: 'fast'; allowed"),
        ("optimizer", "adamm", "--optimizer: 'adamm'; allowed: adabelief"),
        ("optimizer_options", "momentum", "--optimizer-options: 'momentum'; allowed: name=number"),
        ("optimizer_options", "momentum=lots", "--optimizer-options: 'momentum=lots'; allowed"),
        ("loss", "hinge", "--loss: 'hinge'; allowed: bce, squared_error, cross_entropy"),
        ("first_member", 2**32, "--first-member"),
        ("undecided_tolerance", -0.1, "--undecided-tolerance: -0.1; allowed: a finite number, 0 or above"),
        ("common_initialization", 1, "--common-initialization: 1; allowed: true or false"),
        ("root_seed", 2**64, "--root-seed"),
    ],
)
def test_bad_values_get_one_line(option, value, words):
    with pytest.raises(ncsim.ConfigError) as caught:
        ncsim.EnsembleConfig(**{option: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_need_each_other():
    with pytest.raises(ncsim.ConfigError, match="--members: first member"):
        ncsim.EnsembleConfig(first_member=2**32 - 5, members=6)
    with pytest.raises(ncsim.ConfigError, match="--shared: 4; allowed: 0 to --hidden, 3"):
        ncsim.EnsembleConfig(topology="overlap", shared=4)
    with pytest.raises(
        ncsim.ConfigError, match=r"--shared: 4 with --topology dense.*; allowed: with --topology overlap"
    ):
        ncsim.EnsembleConfig(topology="dense", shared=4)  # it would mean nothing


def test_every_named_optimizer_is_one_of_optax():
    for name in ELEMENTWISE_OPTIMIZERS + LAYERWISE_OPTIMIZERS:
        assert isinstance(getattr(optax, name)(learning_rate=0.01), optax.GradientTransformation)


def test_config_survives_json_and_refuses_what_it_does_not_know():
    tasks = ncsim.truth_tables([lambda x, y: x, lambda x, y: x & y], [lambda x, y: y, lambda x, y: x | y], features=2)
    config = ncsim.EnsembleConfig(hidden=5, tasks=tasks, optimizer="sgd", optimizer_options="momentum=0.9")
    assert from_dict(to_dict(config)) == config
    with pytest.raises(ncsim.ConfigError, match="--colour: no such option"):
        from_dict(to_dict(config) | {"colour": "red"})


@pytest.mark.parametrize("scale", [1e-50, 1e39])
def test_starts_are_float32_in_either_precision(scale):
    """In float64 such a scale had passed, and every network started from zeros, or diverged at once."""
    with pytest.raises(
        ncsim.ConfigError, match=r"^--initialization-scale: .*; allowed in float32: .*, in either precision"
    ):
        ncsim.EnsembleConfig(initialization_scale=scale, precision="float64")
    stored = to_dict(ncsim.EnsembleConfig(precision="float64")) | {"initialization_scale": scale}
    assert from_dict(stored).initialization_scale == scale


def test_options_of_optimizers_are_not_0_in_float32():
    """Adam with eps 0 divides 0 by 0 at a dead unit, so that all networks diverged."""
    with pytest.raises(ncsim.ConfigError, match=r"^--optimizer-options: eps: 1e-50; allowed in float32: .*, or"):
        ncsim.EnsembleConfig(optimizer_options="eps=1e-50")
    assert ncsim.EnsembleConfig(optimizer_options="eps=1e-50", precision="float64").precision == "float64"
    assert ncsim.EnsembleConfig(optimizer_options="eps_root=0").optimizer_options == "eps_root=0"


def test_grid():
    grid = ncsim.config_grid(hidden=[2, 3], learning_rate=[0.01, 0.1], members=7)
    assert [(c.hidden, c.learning_rate, c.members) for c in grid] == [
        (2, 0.01, 7),
        (2, 0.1, 7),
        (3, 0.01, 7),
        (3, 0.1, 7),
    ]
    assert swept_fields(grid) == ["hidden", "learning_rate"]
    with pytest.raises(ncsim.ConfigError, match="names a value twice"):
        ncsim.config_grid(hidden=[2, 2])
    with pytest.raises(ncsim.ConfigError, match="--hiden: no such option"):
        ncsim.config_grid(hiden=3)
    with pytest.raises(ncsim.ConfigError, match="--members: differs between the cells"):
        swept_fields(ncsim.config_grid(members=[2, 3]))
