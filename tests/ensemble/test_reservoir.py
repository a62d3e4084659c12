"""`ncsim.reservoir`: shapes, chains that depend on their id alone, free energies against the prior itself, and what is refused."""

import math

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.cli.reservoir import described, lines
from ncsim.ensemble.reservoir_jobs import LANES, Job, betas, chains_key, run_jobs
from ncsim.training.reservoir import Settings, Tally
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

CONFIG = ncsim.EnsembleConfig(tasks=FOUR_ROWS)
SMALL = {"max_hidden": 4, "steps": 1_000, "config": CONFIG}
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    """On two devices, for each of which its program is compiled."""
    return ncsim.reservoir([-0.2, 0.3], 3.0, chains=64, devices=2, **SMALL)


def test_shapes_and_counts(found):
    assert found.width.shape == (2, 4, 64, 5)
    assert found.parts.shape == (4, 32, 4, 1)
    assert (found.width.sum(axis=-1) == 80).all()
    assert (found.counts.sum(axis=(-1, -2)) == 80 * 4).all()  # looks times rows
    assert found.full.tolist() == [False, True] * 32
    assert found.empty_loss == pytest.approx(2 * math.log(2))
    assert ((found.solved >= 0) & (found.solved <= 1)).all()


def test_free_energy_is_that_of_the_prior(found):
    """-ln <exp(-beta L)> over 200,000 networks of the prior, in NumPy."""
    rng = np.random.default_rng(0)
    rows = np.array(FOUR_ROWS.inputs, float)
    for context, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for n in (0, 1, 2):
            unit = 2 * rng.normal(size=(5, n, 200_000))
            logits = np.zeros((2, 4, 200_000))
            for each in range(n):
                active = np.maximum(rows @ unit[:2, each] + unit[2, each], 0)
                logits += unit[3:, each, None] * active
            answers = np.array([FOUR_ROWS.alice[i], FOUR_ROWS.bob[j]], float)[..., None]
            loss = (np.logaddexp(0, logits) - answers * logits).mean(axis=1).sum(axis=0)
            expected = -math.log(np.mean(np.exp(-3.0 * loss)))
            assert found.free_energy()[context, n] == pytest.approx(expected, abs=0.2)


def test_a_free_energy_has_an_error_and_is_refused_where_it_is_not_known(found):
    """At inverse temperature 10^4 chains stay where they began: beta F was printed as 9,000 nats more than it is, and nothing was said."""
    free, error = found.free_energy(), found.free_energy_error()
    assert free.shape == error.shape == (4, 5)
    assert np.isfinite(free).all()
    assert (error[:, 0] == 0).all()
    assert ((error[:, 1:] > 0) & (error[:, 1:] < 0.3)).all()
    halves = [
        found._replace(parts=found.parts[:, half::2], backs=found.backs[:, half::2]).free_energy() for half in (0, 1)
    ]
    assert (np.abs(halves[0] - halves[1]) <= 5 * 2 * error + 1e-9).all()
    stuck = found._replace(parts=found.parts + 0.9).free_energy()  # routes differ
    np.testing.assert_array_equal(np.isnan(stuck), np.arange(5)[None] > [[0]] * 4)
    unknown = found.parts.copy()
    unknown[2, :, 2] = np.nan
    assert np.isinf(found._replace(parts=unknown).free_energy_error()[2, 3:]).all()
    said = described(found._replace(parts=found.parts + 0.9))
    assert list(said["beta_free_energy"]) == list(said["beta_free_energy_error"]) == ["11", "12", "21", "22"]


@SLOW
def test_a_cold_reservoir_without_tempering_gives_no_free_energy():
    cold = ncsim.reservoir([0.0], 1e4, chains=8, devices=1, **SMALL)
    assert np.isnan(cold.free_energy()[:, 1:]).all()
    assert cold.free_energy()[:, 0] == pytest.approx(2e4 * math.log(2))


def test_a_dearer_unit_is_bought_less(found):
    widths = found.width @ np.arange(5) / 80
    assert (widths.mean(axis=-1)[0] < widths.mean(axis=-1)[1]).all()
    assert len(found.s()) == 2
    assert all(-4 <= s.low <= s.value <= s.high <= 4 for s in found.s())


def test_what_is_printed_follows_from_the_routes(found):
    said = described(found)
    for cell, routes in zip(said["cells"], found.routes(), strict=True):
        for context, route in zip(cell["contexts"].values(), routes, strict=True):
            assert (context["mean_width"] is None) == bool(route.problem)
        assert (cell["mean_s"] is None) == any(route.problem for route in routes)
    apart = found._replace(parts=found.parts + 0.9)
    text = "\n".join(lines(apart))
    assert text.count("no number") == 2 * 8 + 2
    assert "mu 0.3, context 22: routes differ: " in text
    assert all(cell["mean_s"] is None for cell in described(apart)["cells"])


@SLOW
def test_chains_depend_on_their_id_alone(found):
    some = ncsim.reservoir([0.3], 3.0, chains=10, devices=1, **SMALL)
    np.testing.assert_array_equal(some.width[0], found.width[1, :, :10])
    np.testing.assert_array_equal(some.counts[0], found.counts[1, :10])
    np.testing.assert_array_equal(some.parts, found.parts)


def test_groups_of_chains_are_cut_into_calls_and_put_together(monkeypatch):
    """Each chain once, in its order, with its own id, width and key; what fills the last call of a group up is dropped."""
    calls = []

    def run(units, settings, root, ids, width, answers, log_z, beta, exchange, centres):
        calls.append(len(ids))
        numbers = np.stack([ids, width, np.full(len(ids), root[1]), np.full(len(ids), answers)])
        return Tally(*[numbers] * 4, *[np.stack([log_z] * 2)] * 2, np.zeros((0, len(ids))))

    monkeypatch.setattr("ncsim.training.reservoir.run_chains", run)
    monkeypatch.setitem(LANES, "cpu", 4)
    jobs = [
        Job(context, exchange, np.arange(first, first + count, dtype=np.uint32), np.arange(count) % 3, 0.25 * context)
        for context, exchange, first, count in ((0, True, 0, 9), (1, True, 0, 4), (3, False, 7, 1), (2, False, 5, 6))
    ]
    settings = Settings(slots=2, records=1, burn=0, every=1, scale=1.0, beta=16.0, temperatures=1)
    for devices in (1, 3):
        calls.clear()
        found = run_jobs(None, settings, 11, np.arange(4) * 10, jobs, devices, np.zeros(1))
        assert calls == [4] * (3 + 1 + 1 + 2)
        groups = (0, 2, 7, 5)  # twice the context, and one more where widths stay
        for job, group, tally in zip(jobs, groups, found, strict=True):
            count = len(job.ids)
            expected = [job.ids, job.start, [group] * count, [10 * job.context] * count]
            assert np.asarray(tally.cells).tolist() == np.array(expected).tolist()
            assert tally.inserted.tolist() == [[0.25 * job.context] * count] * 2
            assert tally.stones.shape == (0, count)


def test_temperatures_go_from_that_of_the_ensemble_to_none():
    """In squares: beta times 1, 9/16, 1/4, 1/16 and 0; one alone is the ensemble's."""
    settings = Settings(slots=2, records=1, burn=0, every=1, scale=1.0, beta=16.0, temperatures=5)
    assert betas(settings).tolist() == [16, 9, 4, 1, 0]
    assert betas(settings._replace(temperatures=1)).tolist() == [16]


@pytest.mark.slow
def test_seeds_have_two_words():
    """As those of runs: they had to be below 2^32. Keys of the others are what they were."""
    assert chains_key(2**32 - 1, 5).tolist() == [2**32 - 1, 5]
    seeds = (1, 2**32 + 1, 2**33 + 1, 2**64 - 1)
    keys = {tuple(chains_key(seed, group).tolist()) for seed in seeds for group in range(8)}
    assert len(keys) == 4 * 8
    given = {"chains": 8, "steps": 100, "max_hidden": 2, "devices": 1}
    widths = [
        ncsim.reservoir(config=ncsim.EnsembleConfig(tasks=FOUR_ROWS, root_seed=seed), **given).width
        for seed in seeds[1:]
    ]
    assert not np.array_equal(widths[0], widths[1])
    assert not np.array_equal(widths[1], widths[2])


@SLOW
def test_stepping_stones_and_insertion_agree(found):
    """Free energies, which no price enters, and the routes of the dearer unit."""
    stones = ncsim.reservoir([-0.2], 3.0, chains=64, temperatures=4, devices=1, **SMALL)
    assert stones.parts.shape == (4, 32, 4, 3)
    np.testing.assert_allclose(stones.free_energy(), found.free_energy(), atol=0.25)
    assert all(route.problem == "" for each in (stones, found) for route in each.routes()[0])


@pytest.mark.slow
def test_potentials_may_be_one_number_or_any_list():
    small = SMALL | {"chains": 4, "steps": 50, "inverse_temperature": 0.0}
    for given in (0.5, np.float32(0.5), np.array([0.5]), (each for each in [0.5])):
        assert ncsim.reservoir(given, **small).chemical_potential.tolist() == [0.5]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"chemical_potential": []}, "--chemical-potential: "),
        ({"chemical_potential": [0.0, 0.0]}, "--chemical-potential: "),
        ({"chemical_potential": ["dear"]}, "--chemical-potential: "),
        ({"chemical_potential": float("nan")}, "--chemical-potential: "),
        ({"chemical_potential": b"3"}, "--chemical-potential: b'3'; "),  # was 51, the number of a letter
        ({"chemical_potential": np.array(0.5)}, "--chemical-potential: array(0.5); "),
        ({"chemical_potential": {1.0, 2.0}}, "--chemical-potential: "),
        ({"devices": [1]}, "--devices: [1]; "),
        ({"inverse_temperature": -1.0}, "--inverse-temperature: "),
        ({"max_hidden": 0}, "--max-hidden: "),
        ({"chains": 1}, "--chains: "),
        ({"steps": 2.5}, "--steps: "),
        ({"prior_scale": 0.0}, "--prior-scale: "),
        ({"temperatures": 0}, "--temperatures: "),
        ({"config": ncsim.EnsembleConfig(hidden=4)}, "--hidden: 4; "),
        ({"config": ncsim.EnsembleConfig(topology="overlap")}, "--topology: overlap; "),
    ],
)
def test_bad_input_is_one_line(given, said):
    with pytest.raises(ncsim.ConfigError, match="allowed") as caught:
        ncsim.reservoir(**given)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--chains", "3"], "--chains: 3; allowed: a whole number from 4 to 4194304"),
        (["--chains", "many"], "--chains: many; allowed: a whole number"),
        (["--chemical-potential", "0,1"], "--chemical-potential: 0,1; allowed: "),
        (["--loss", "none"], "--loss: 'none'; allowed: bce"),
        (["--hidden", "3"], "--hidden: no such option"),
    ],
)
def test_bad_options_end_in_one_line(capsys, words, said):
    with pytest.raises(SystemExit):
        main(["reservoir", *words])
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
