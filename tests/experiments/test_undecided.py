"""Where a head at rest has a logit of 0: closed forms, enumeration, and networks that are at rest there."""

import itertools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import undecided
from experiments.shared import base_rates
from experiments.shared.base_rates import AFFINE, FULL, TARGETS, held_rows, number_of, rows_of, zero_rows
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.statistics.intervals import clopper_pearson
from ncsim.training.gradients import gradient
from ncsim.training.network import Architecture, Parameters
from tests.support import capacity_checker

IDENTITY, XOR = TARGETS["identity"], TARGETS["exclusive or"]
X1, X2 = AFFINE[:, 1], AFFINE[:, 2]


def rows_where(condition):
    return int(number_of(condition))


def test_units_are_the_threshold_functions():
    """Those of the certificates' checker, which were written apart, and no row at all."""
    theirs = {int(number_of(each)) for each in capacity_checker.threshold_functions()}
    assert set(base_rates.on_sets()) == theirs | {0}
    assert all(number_of(rows_of(each)) == each for each in base_rates.on_sets())


def test_heads_without_a_unit_answer_half_on_all_rows():
    for target in TARGETS.values():
        assert held_rows(target, []) == held_rows(target, [0]) == (FULL, True)


def test_held_rows_by_hand():
    left, right = rows_where(X1 == 0), rows_where(X1 == 1)
    # A unit that is on on all rows adds an affine form: x1 is one, and the exclusive or is orthogonal to all.
    assert held_rows(IDENTITY, [FULL]) == (0, False)
    assert held_rows(XOR, [FULL]) == (FULL, True)
    # On x1 = 1 the exclusive or is an affine form of x2. The other rows are dark, four of them with each answer.
    assert held_rows(XOR, [right]) == (left, True)
    assert held_rows(IDENTITY, [right]) == (0, False)
    # Off x1 = x2 = 1 all rows are dark, and two thirds of the targets are 1: held at ln 2.
    corner = rows_where((X1 == 1) & (X2 == 1))
    assert held_rows(XOR, [corner]) == (FULL ^ corner, False)
    assert zero_rows(XOR, [corner]) == (0, False)
    # The two units of the known solution hold nothing.
    assert held_rows(XOR, [rows_where(X1 + X2 > 0), corner]) == (0, False)


@pytest.mark.parametrize("seed", range(8))
def test_rows_at_zero_against_a_logistic_regression(seed):
    """A small penalty keeps logits finite; as it is small, decided rows are far from 0."""
    generator = np.random.default_rng(seed)
    target = list(TARGETS.values())[seed % 2]
    on = [int(each) for each in generator.choice(base_rates.on_sets(), size=1 + seed % 3)]
    space = base_rates.space_of(on).astype(float)

    def loss(weights):
        value = target * (space @ weights)
        slope = -target / (1 + np.exp(value))
        return np.logaddexp(0, -value).sum() + 1e-7 * weights @ weights, space.T @ slope + 2e-7 * weights

    found = minimize(loss, np.zeros(space.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    zero, _ = zero_rows(target, on)
    logits = np.abs(space @ found.x)
    assert (logits[rows_of(zero)] < 1e-3).all()
    assert (logits[~rows_of(zero)] > 2e-2).all()


def heads_of(networks, alike):
    """Heads with undecided rows of so many networks, one a member: two each, of which the second is explained as the first or by a coin."""
    generator = np.random.default_rng(20261129)
    kinds = generator.random((networks, 2)) < 0.5
    kinds[:, 1] = np.where(alike, kinds[:, 0], kinds[:, 1])
    return [
        undecided.Head(member, 0, party, FULL, (), undecided.KINDS[0 if kinds[member, party] else 3])
        for member in range(networks)
        for party in (0, 1)
    ]


def test_heads_of_one_network_are_not_counted_as_draws_of_their_own():
    """Where they go together, two heads tell as much as one network."""
    heads = heads_of(200, alike=True)
    of = [head.kind == undecided.KINDS[0] for head in heads]
    found, networks = undecided.share_of_heads(heads, of), clopper_pearson(sum(of) / 2, 200)
    assert found.value == networks.value
    assert found.high - found.low > 0.8 * (networks.high - networks.low)
    assert found.high - found.low > 1.15 * np.ptp(clopper_pearson(sum(of), 400)[1:3])
    # All alike, no more than the networks show; and none, nothing.
    certain = undecided.share_of_heads(heads, [True] * len(heads))
    assert (certain.low, certain.high) == pytest.approx(clopper_pearson(200, 200)[1:3])
    assert undecided.share_of_heads([], [])[1:3] == (0, 1)
    one = undecided.share_of_heads(heads[:2], [True, True])
    assert (one.low, one.high) == pytest.approx(clopper_pearson(1, 1)[1:3])


def test_shares_of_heads_hold_their_number():
    """Of many samples of networks whose two heads go together."""
    generator, held = np.random.default_rng(7), 0
    for _ in range(300):
        true = np.repeat(generator.random(120) < 0.3, 2)
        heads = [undecided.Head(n // 2, 0, n % 2, FULL, (), "") for n in range(240)]
        found = undecided.share_of_heads(heads, true.tolist())
        held += found.low <= 0.3 <= found.high
    assert held / 300 > 0.93


def test_a_network_without_a_unit_on_eight_rows_is_at_rest():
    """relu(x1 + x2 - 3/2) and relu(x1 - x2 - 1/2), with weights of -9 and 9: on where x1 = 1, decided there, and dark where x1 = 0. Bob uses no
    unit. All gradients are as small as the residuals of the decided rows, which fall with the weights."""
    config = EnsembleConfig(hidden=2)
    targets = jnp.asarray(context_targets(config.tasks)[3])
    slope = jax.jit(lambda vector: jnp.abs(gradient(config, vector, targets)).max())
    slopes = []
    for size in (9.0, 18.0):
        kernel = np.array([[1.0, 1], [1, -1], [0, 0], [0, 0]])
        heads = np.array([[[-size, size]], [[0, 0]]])
        vector = Architecture.of(config).join(Parameters(kernel, np.array([-1.5, -0.5]), heads, np.zeros((2, 1))))
        slopes.append(float(slope(jnp.asarray(vector))))
    assert slopes[0] < 0.1
    assert slopes[1] < slopes[0] / 20
    assert rows_where(X1 == 0) in base_rates.dark_sets(XOR, 2)


def test_dark_sets_against_all_pairs():
    lit = np.array(base_rates.on_sets())
    plus = rows_where(XOR > 0)
    first, second = (each.ravel() for each in np.meshgrid(lit, lit))
    # Both raise, both lower, or the first raises.
    good = np.zeros(len(first), bool)
    for raised, lowered in ((first | second, 0), (0, first | second), (first, second)):
        good |= ((raised & ~lowered & ~plus & FULL) == 0) & ((lowered & ~raised & plus) == 0)
    dark = np.unique(FULL & ~(first | second)[good])
    expected = [each for each in dark.tolist() if each and (each & plus).bit_count() * 2 == each.bit_count()]
    assert base_rates.dark_sets(XOR, 2).tolist() == expected
    assert base_rates.dark_sets(IDENTITY, 1).tolist() == [FULL]


def test_a_network_for_a_dark_set_is_one():
    sets = base_rates.dark_sets(XOR, 2).tolist()
    pairs = {zero: base_rates.dark_pair(XOR, zero) for zero in (rows_where(X1 == 0), *sets[::300])}
    assert pairs[rows_where(X1 == 0)] is not None
    for zero, found in pairs.items():
        if found is not None:
            assert FULL & ~(found[0] | found[-1]) == zero if found else zero == FULL
            assert base_rates.is_attained(XOR, found, zero)
            assert held_rows(XOR, found) == (zero, True)
    assert base_rates.dark_pair(XOR, FULL) == ()
    # Where x1 = x2 all targets are alike: dark rows there are no set of the list, and what is held is another.
    assert rows_where(X1 == X2) not in sets


@pytest.mark.slow
def test_so_many_dark_sets_have_a_network_of_two_units():
    for target, expected in ((IDENTITY, (52, 52)), (XOR, (39, 16))):
        assert undecided.attained_orbits(target, [[], base_rates.dark_sets(target, 2)])[1] == expected


def test_symmetries_keep_the_lists():
    for target, number in ((IDENTITY, 96), (XOR, 64)):
        images = base_rates.symmetric_images(target)
        assert len(images) == number
        sets = set(base_rates.dark_sets(target, 2).tolist())
        for each, goes in itertools.product(sorted(sets)[::250], images):
            assert int(number_of(rows_of(each)[goes])) in sets
        assert sum(base_rates.orbits(sets, target).values()) == len(sets)


@pytest.mark.slow
def test_small_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(undecided, "WIDTHS", (3,))
    undecided.main(["--members", "40", "--units", "1", "--out", str(tmp_path)])
    assert "heads that decide their rows all alike" in capsys.readouterr().out
    found = json.loads((tmp_path / "undecided.json").read_text())
    assert found["counted"] == {"identity": [1], "exclusive or": [1]}
    for each in found["found"].values():
        assert each["free"][0] <= each["together"][0] <= each["together"][1] <= each["free"][1]
        assert sum(sum(kinds.values()) for kinds in each["heads"].values()) > 0
    assert (tmp_path / "undecided.svg").exists()


def test_what_cannot_be_run_is_one_line(capsys):
    for arguments in (["--members", "1"], ["--units", "0"]):
        with pytest.raises(SystemExit):
            undecided.main(arguments)
        assert capsys.readouterr().err.count("\n") == 1
