"""Experiments about the grand canonical ensemble: verdicts that follow from numbers, and numbers from closed forms."""

import csv
import math

import numpy as np
import pytest

import ncsim
from experiments import grand_canonical, learning_equilibrium, madelung
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.ensemble.reservoir import Reservoir
from ncsim.statistics.hydrodynamics import Fluid
from ncsim.training.network import Architecture

SLOW = pytest.mark.slow


def test_hidden_states_have_a_free_energy_without_learning():
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        kernel, bias = np.tril(rng.normal(size=(3, 3)), -1), rng.normal(size=3)
        for beta, value in ((0.8, 22.01074904), (2.0, 5.56832800)):
            assert grand_canonical.hidden_free_energy(kernel, bias, beta, 61) == pytest.approx(value, rel=1e-6)
            assert (2 * math.pi / beta) ** 1.5 == pytest.approx(value, rel=1e-8)
    potential = [math.log(beta / (2 * math.pi)) / (2 * beta) for beta in (0.8, 2.0, 2 * math.pi, 2 * math.pi * math.e)]
    assert np.round(potential, 5).tolist() == [-1.28814, -0.28618, 0.0, 0.02927]
    assert round(potential[3] / (2 * math.pi), 6) == 0.004659


def test_laplacians_are_those_of_the_training_loss():
    """Gradient and trace of the Hessian of a network's loss away from kinks, by differences, and speeds of its pre-activations."""
    import jax

    from ncsim.training.losses import mean_loss
    from ncsim.training.network import forward

    config = ncsim.EnsembleConfig(precision="float64")
    rows, answers = encoded_inputs(config.tasks, "binary"), context_targets(config.tasks)[3]
    size, apart = Architecture.of(config).size, 1e-4
    q = np.random.default_rng(0).normal(size=(size, 5))
    moves = apart * np.concatenate([np.zeros((1, size)), np.eye(size), -np.eye(size)]).T
    with jax.enable_x64(True):

        @jax.jit
        def loss(vector):
            return mean_loss(config, forward(Architecture.of(config).split(vector), rows.tolist())[1], answers, None)

        around = np.asarray(loss((q[:, None] + moves[..., None]).reshape(size, -1))).reshape(-1, 5)
    up, down = around[1 : size + 1], around[size + 1 :]
    gradient, laplacian, before, speed = learning_equilibrium.smooth_laplacian(q, rows, answers, 3, np)
    np.testing.assert_allclose(gradient, (up - down) / (2 * apart), atol=1e-7)
    np.testing.assert_allclose(laplacian, (up + down - 2 * around[0]).sum(axis=0) / apart**2, rtol=1e-5)
    # The speed of a pre-activation is that along the flow, on its own side of the kink.
    moved = learning_equilibrium.smooth_laplacian(q - 1e-7 * gradient, rows, answers, 3, np)[2]
    own = np.where(before > 0, speed[1], speed[0])
    np.testing.assert_allclose((moved - before) / 1e-7, own, atol=1e-5)


def test_kappa_of_every_closed_form_is_found():
    for case in madelung.free_cases():
        assert case.kappa == pytest.approx(case.expected, rel=2e-3, abs=1e-6), case.case


@SLOW
def test_samples_show_the_sign():
    case, slopes = madelung.sampled(0.3, 100_000, 3, 0)
    assert len(slopes) == 3
    assert case.kappa / 0.09 == pytest.approx(-2, abs=0.4)


def test_the_file_beside_the_picture_of_kappa_has_the_interval_that_is_drawn(tmp_path):
    cases = [
        madelung.Case("double well, D = 0.5", 0.5, -0.5, 0.0, -0.5, 0.01),
        madelung.Case("double well, 8 x 1,000 members", 0.5, -0.25, 0.125, -0.5, 0.9),
    ]
    line = np.linspace(-1, 1, 9)
    pair = [Fluid(line, np.ones(9), line, slope * line, slope * line) for slope in (1.0, 2.0)]
    madelung.draw(cases, pair, {kind: np.zeros(10) for kind in madelung.INTERVENTIONS}, tmp_path)
    with open(tmp_path / "madelung.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["panel"] == "kappa / D^2"]
    assert [[float(row[name]) for name in ("x", "x_low", "x_high")] for row in rows] == [[-2, -2, -2], [-1, -1.5, -0.5]]


@pytest.mark.thorough
def test_circulation_is_of_gradients_that_are_changed():
    turned = madelung.circulations(40, 500, 0)
    assert np.abs(turned["none"]).max() < 0.005
    assert np.abs(turned["reservoir"]).max() < 0.005
    finer = madelung.circulations(10, 5_000, 0, madelung.SINGLE_VALUED)
    for kind in madelung.SINGLE_VALUED:
        assert np.abs(finer[kind]).max() < np.abs(turned[kind][:10]).max() / 3, kind
    assert np.abs(turned["stop_gradient_bob"]).max() > 0.02
    assert np.abs(turned["adam"]).max() > 0.2


def made_up(widths, s):
    """A reservoir at two prices with these mean widths in all contexts by chains; by fixed widths it is 1 at both."""
    count = np.zeros((2, 4, 200, 9), np.int64)
    for place, width in enumerate(widths):
        for number in range(9):
            count[place, :, :, number] = round(1e5 * math.exp(-width) * width**number / math.factorial(number))
    joint = np.zeros((2, 200, 2, 2, 2, 2), np.int64)
    joint[..., 1, 1] = 8 * s
    joint[..., 0, 1] = 16 - 8 * s
    parts = np.random.default_rng(0).normal(0, 1e-3, (4, 64, 8, 1))
    empty = np.zeros((2, 4, 200))
    return Reservoir(np.zeros(2), count, empty, empty, joint, parts, np.arange(200) % 2 == 1, 4.0, 1.386, False)


def test_a_verdict_gives_no_s_where_routes_part():
    (good,) = grand_canonical.conclusion([made_up([1.0, 1.0], 1)])
    assert "routes agree in 8 of 8" in good
    assert "Mean S is 0.000 to 0.000" in good
    (half,) = grand_canonical.conclusion([made_up([1.0, 2.0], 1)])
    assert "routes agree in 4 of 8" in half
    (none,) = grand_canonical.conclusion([made_up([3.0, 2.0], 1)])
    assert none.endswith("No S.")


def test_means_of_few_members_reach_beyond_their_values():
    """Between two values of a law lies its mean in half of the samples: Student's t has it in 95 of 100 of normal ones."""
    draws = np.random.default_rng(0).normal(150, 50, (300, 2)).clip(0)
    found = [learning_equilibrium.mean(values) for values in draws]
    assert sum(each.low <= 150 <= each.high for each in found) > 270
    assert all(each.low >= 0 for each in found)
    one, many = (learning_equilibrium.mean(np.arange(1.0, number + 1)) for number in (2, 100))
    assert (one.low, one.high) == (0, pytest.approx(1.5 + 12.706 * 0.5, abs=1e-3))
    assert many.high < 50.5 + 8


def test_s_of_a_reservoir_is_inside_its_panel(tmp_path, monkeypatch):
    drawn = []

    def points(axis, at, values, label=None, **style):
        drawn.append((axis, values))
        axis.plot([], [], label=label)  # for the legend

    monkeypatch.setattr(grand_canonical, "points", points)
    reservoir = made_up([1.0, 1.0], 1)
    high = [ncsim.Estimate(3.0, 2.5, 3.5, "made up")] * 2
    monkeypatch.setattr(type(reservoir), "s", lambda self: high)
    limits = []
    monkeypatch.setattr(
        grand_canonical, "save_figure", lambda figure, *_: limits.extend(axis.get_ylim() for axis in figure.axes)
    )
    grand_canonical.draw([reservoir], tmp_path)
    assert drawn[-1][1] == high
    assert limits[2][0] <= 2.5 < 3.5 < limits[2][1]


def test_a_verdict_of_balances_and_kinks():
    estimate = ncsim.Estimate
    fine = learning_equilibrium.Balance("gradient", *[estimate(1.0, 0.9, 1.1, "t")] * 3)
    not_so = learning_equilibrium.Balance("adam", *[estimate(0.8, 0.7, 0.9, "t")] * 3)
    lost = {"11": {"smooth": np.full((1, 50), 3.0), "stuck": np.ones((1, 50))}}
    said = learning_equilibrium.conclusion([fine, not_so], lost)
    assert said[0].endswith("equal within the interval.")
    assert said[1].endswith("NOT equal.")
    assert "is not given" in said[2]
    lost["11"]["stuck"][:] = 0
    assert "NONE met" in learning_equilibrium.conclusion([fine], lost)[1]


def test_the_file_beside_the_picture_of_losses_has_their_intervals(tmp_path):
    """Both panels that are drawn with intervals, at each mark."""
    generator = np.random.default_rng(0)
    lost = {"11": {"smooth": generator.random((2, 200)), "stuck": generator.random((2, 200)) < 0.3}}
    learning_equilibrium.draw(lost, [10, 20], 0.01, tmp_path)
    with open(tmp_path / "learning_equilibrium.csv", newline="") as handle:
        lines = [line for line in csv.DictReader(handle) if line["panel"] == "11"]
    for name, kind, of in (
        ("smooth", "smooth", learning_equilibrium.mean),
        ("met a kink", "stuck", learning_equilibrium.met),
    ):
        told = [
            tuple(float(line[key]) for key in ("value", "low", "high")) for line in lines if line["quantity"] == name
        ]
        assert told == [of(values)[:3] for values in lost["11"][kind]]


@pytest.mark.parametrize(
    ("experiment", "words", "stem"),
    [
        pytest.param(
            madelung,
            ["--members", "20000", "--ensembles", "2", "--loops", "20"],
            "madelung",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            learning_equilibrium,
            ["--members", "8", "--samples", "2000", "--ensembles", "2"],
            "learning_equilibrium",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            grand_canonical,
            ["--chains", "16", "--steps", "200", "--max-hidden", "6", "--devices", "1"],
            "grand_canonical",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_experiments_run(experiment, words, stem, tmp_path, capsys):
    experiment.main([*words, "--out", str(tmp_path)])
    assert capsys.readouterr().out
    for suffix in ("png", "svg", "pdf", "csv", "json"):
        assert (tmp_path / f"{stem}.{suffix}").stat().st_size > 100
