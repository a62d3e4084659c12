"""Foreign shares of an ensemble: members that depend on their id alone, that their twins do not change, and what is refused."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import ncsim
from ncsim.ensemble.separability import foreign_share
from tests.support.tasks import FOUR_ROWS

CONFIG = ncsim.EnsembleConfig(hidden=2, members=70, steps=40, tasks=FOUR_ROWS, precision="float64")
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    return foreign_share(CONFIG, steps=[0, 1, 40], contexts=["12", "21"])


def test_shapes_and_the_light_cone(found):
    assert found.context == ("12", "21")
    assert found.step.tolist() == [0, 1, 40]
    assert found.share.shape == (70, 2, 3, 2)
    assert (found.share[:, :, :2] == 0).all()
    assert np.median(found.share[:, :, 2]) > 1e-3
    assert (found.share <= 1).all()
    np.testing.assert_allclose(found.response[:, :, 0], np.broadcast_to(3 * np.eye(2), (70, 2, 2, 2)), atol=1e-5)


@SLOW
def test_functions_and_kernels_are_within_their_bounds(found):
    assert found.schmidt_entropy().shape == (70, 2, 3, 2)
    assert (found.schmidt_entropy() <= np.log(2) + 1e-12).all()  # matrices are two by two
    kernel = found.cross_kernel()
    assert ((kernel >= 0) & (kernel <= 1)).all()
    assert (found.curvature_information(0.01) >= 0).all()
    assert (found.curvature_entanglement(0.01) >= found.curvature_information(0.01)).all()
    assert np.isfinite(found.curvature_information(1.1e-10)).all()


@SLOW
def test_twins_do_not_change_the_member(found):
    run = ncsim.run_ensemble(CONFIG, executor="xla")
    trained = ncsim.parameters(run, range(70))
    for place, (i, j) in enumerate([(0, 1), (1, 0)]):
        kernel = found.vector[:, place, -1, : trained.hidden_kernel[0, 0, 0].size]
        np.testing.assert_allclose(kernel, trained.hidden_kernel[:, i, j].reshape(70, -1), rtol=0, atol=1e-12)


def test_members_depend_on_their_id_alone(found):
    some = foreign_share(dataclasses.replace(CONFIG, first_member=66, members=3), [0, 1, 40], ["12", "21"])
    for name in ("share", "response", "vector"):
        np.testing.assert_array_equal(getattr(some, name), getattr(found, name)[66:69])
    assert some.member.tolist() == [66, 67, 68]


@SLOW
def test_the_number_of_devices_and_of_contexts_changes_nothing(found):
    some = foreign_share(CONFIG, [0, 1, 40], devices=1)
    np.testing.assert_array_equal(some.response[:, 1:3], found.response)


@SLOW
@pytest.mark.parametrize(
    ("kind", "parties"), [("frozen_trunk", (0, 1)), ("separate_trunks", (0, 1)), ("stop_gradient_bob", (0,))]
)
def test_what_isolates_leaves_exactly_nothing(kind, parties):
    apart = foreign_share(dataclasses.replace(CONFIG, intervention=kind), [40], ["11"])
    for party in (0, 1):
        assert (apart.share[..., party] == 0).all() == (party in parties)
    if len(parties) == 2:
        assert (apart.cross_kernel() == 0).all()
        assert (apart.curvature_information(0.01) == 0).all()
        assert (apart.curvature_entanglement(0.01) == 0).all()


@pytest.mark.thorough
def test_numbers_of_another_implementation():
    """100 members with three units, context 11: medians of shares, means of the others, by a reference in NumPy whose twins began
    1e-6 away, which is too far for a derivative but the same question."""
    config = ncsim.EnsembleConfig(members=100, precision="float64")
    of = foreign_share(config, [0, 1, 2, 100, 3_000], ["11"], apart=1e-6)
    share, entropy = np.median(of.share[:, 0], axis=0), of.schmidt_entropy()[:, 0].mean(axis=0) / np.log(2)
    assert of.share[:, 0, 2].max() < 4e-10
    np.testing.assert_allclose(share[3:], [[0.127, 0.131], [0.432, 0.443]], atol=6e-4)
    expected = [[0.188, 0.212], [0.205, 0.226], [0.219, 0.243], [0.405, 0.403], [0.117, 0.110]]
    np.testing.assert_allclose(entropy, expected, atol=6e-4)
    np.testing.assert_allclose(of.cross_kernel()[:, 0].mean(axis=0), [0.135, 0.133, 0.132, 0.328, 0.192], atol=6e-4)
    for ridge, numbers in {
        1e-4: [4.48, 4.46, 4.43, 3.75, 1.32],
        1e-2: [0.909, 0.905, 0.893, 1.004, 0.162],
        1.0: [0.039, 0.038, 0.038, 0.040, 0.006],
    }.items():
        information = of.curvature_information(ridge)[:, 0].mean(axis=0)
        np.testing.assert_allclose(information, numbers, atol=6e-3 if ridge == 1e-4 else 6e-4)


@pytest.mark.thorough
def test_twins_far_away_pass_kinks():
    """Over a thousand steps shares of nearly all members are those of twins ten times as near; at 1e-6 of few."""
    config = ncsim.EnsembleConfig(members=64, precision="float64")
    near, *others = (
        foreign_share(config, [100, 1_000], ["11"], apart=apart).share[:, 0, :, 0] for apart in (1e-10, 1e-9, 1e-6)
    )
    moved = [(np.abs(other - near) > 0.01).mean(axis=0) for other in others]
    assert moved[0][0] < 0.05
    assert moved[0][1] < 0.15
    assert moved[1][1] > 0.4


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        ({"precision": "float32"}, {}, "--precision: float32"),
        ({"optimizer": "lion"}, {}, "--optimizer: lion"),
        ({}, {"steps": [5, 5]}, "steps: "),
        ({}, {"steps": []}, "steps: "),
        ({}, {"steps": [-1]}, "steps: "),
        ({}, {"steps": [1.5]}, "steps: "),
        ({}, {"contexts": "11"}, "contexts: "),
        ({}, {"contexts": ["13"]}, "contexts: "),
        ({}, {"contexts": ["11", "11"]}, "contexts: "),
        ({}, {"contexts": []}, "contexts: "),
        ({}, {"contexts": [["11"]]}, "contexts: "),
        ({}, {"contexts": 11}, "contexts: "),
        ({}, {"steps": 5}, "steps: "),
        ({}, {"steps": np.array(5)}, "steps: "),
        ({}, {"steps": b"5"}, "steps: "),
        ({}, {"steps": {1, 2}}, "steps: "),
        ({}, {"contexts": np.array(11)}, "contexts: "),
        ({}, {"contexts": np.ones((2, 2))}, "contexts: "),
        ({}, {"devices": [2]}, "--devices: "),
        ({}, {"devices": np.ones((2, 2))}, "--devices: "),
        ({}, {"apart": 0.0}, "apart: "),
        ({}, {"apart": "near"}, "apart: "),
        ({}, {"apart": float("nan")}, "apart: "),
    ],
)
def test_bad_input_is_one_line(change, given, said):
    with pytest.raises(ncsim.ConfigError, match="allowed") as caught:
        foreign_share(dataclasses.replace(CONFIG, **change), **given)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ridge", [0, 1e-12, float("nan"), "some", True, pytest.param(10**400, id="huge")])
def test_a_ridge_of_nothing_is_refused(found, ridge):
    with pytest.raises(ncsim.ConfigError, match=r"^ridge: .*; allowed: a number above 1e-10 and below 1e\+06$"):
        found.curvature_information(ridge)


@pytest.mark.parametrize("ridge", [Fraction(1, 100), np.longdouble("0.01"), np.float32(0.01)], ids=repr)
def test_a_ridge_of_any_real_type_is_that_number(found, ridge):
    """Of a fraction and of a long double it was a traceback of NumPy's."""
    np.testing.assert_allclose(found.curvature_information(ridge), found.curvature_information(0.01), rtol=1e-5)
