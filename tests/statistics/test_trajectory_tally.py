"""What trajectories add up to says what members say one by one, in whatever pieces they come and wherever they diverge."""

import numpy as np
import pytest

from ncsim.records.joint_counts import from_context_order
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics import trajectory_tally
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson, mean_reach
from ncsim.statistics.training_curves import QUANTILES, statistics_of, trajectory_statistics
from ncsim.statistics.trajectory_tally import TrajectoryTally, loss_bins, loss_values
from tests.support.cases import first_fast

STEPS = np.array([0, 3, 10, 25, 60], np.int32)
WINDOWS = [(int(a), int(b)) for n, a in enumerate(STEPS) for b in STEPS[n + 1 :]]


def made_up(members, rows=16, diverged=0.1, seed=0):
    """Trajectories with any tables; a network that has diverged may come back, as no training gives it."""
    generator = np.random.default_rng(seed)
    shape = (members, len(STEPS), 4)
    counts = generator.multinomial(rows, generator.dirichlet((0.5, 1, 1, 3), shape))
    counts[generator.random(shape) < 0.3] = [0, 0, 0, rows]
    # Some of what no network does: Alice and Bob are of one mind in three contexts, and of two in the last.
    counts[: members // 9] = np.array([[rows // 2, 0, 0, rows // 2]] * 3 + [[0, rows // 2, rows // 2, 0]])
    counts[generator.random(shape) < diverged] = 0
    values = {
        "loss_alice": 10.0 ** generator.uniform(-10, 6, shape),
        "margin": generator.normal(size=shape),
        "cosine": generator.uniform(-1, 1, shape),
    }
    for each in values.values():
        each[counts.sum(axis=-1) == 0] = np.nan
    values["loss_alice"][generator.random(shape) < 0.05] = np.inf
    for infinite in (np.inf, -np.inf):
        values["margin"][generator.random(shape) < 0.02] = infinite
    return MemberTrajectories(
        np.arange(members, dtype=np.uint64),
        STEPS,
        counts.astype(np.uint16),
        {name: each.astype(np.float32) for name, each in values.items()},
    )


def assert_series(found, values, support, quantiles=False):
    """Of what every member has, NaN where it has nothing: [M, R, *C]."""
    for place in np.ndindex(values.shape[1:]):
        own = values[(slice(None), *place)]
        own = own[np.isfinite(own)].astype(np.float64)
        if len(own) == 0:
            assert np.isnan(found.mean[place])
            continue
        span = support[1] - support[0] if np.isfinite(support[1] - support[0]) else 0
        error = np.std(own, ddof=1) / len(own) ** 0.5 if len(own) > 1 else np.nan
        reach = mean_reach(error, len(own), span)
        close = {"rel": 1e-9, "abs": 1e-11}
        assert found.mean[place] == pytest.approx(own.mean(), **close)
        assert found.low[place] == pytest.approx(max(own.mean() - reach, support[0]), **close)
        assert found.high[place] == pytest.approx(min(own.mean() + reach, support[1]), **close)
        if quantiles:
            levels = np.quantile(own, QUANTILES, method="inverted_cdf")
            assert found.quantiles[(slice(None), *place)] == pytest.approx(levels, abs=1e-12)


def assert_fractions(found, event, known):
    for place in np.ndindex(event.shape[1:]):
        at = (slice(None), *place)
        expected = clopper_pearson(int((event[at] & known[at]).sum()), int(known[at].sum()))
        assert [each[place] for each in found[:3]] == pytest.approx(list(expected[:3]), nan_ok=True)


def assert_of_members(found, trajectories, rows):
    """The slow way: every member's own statistics, and means, limits and quantiles of those."""
    own = chsh_statistics(from_context_order(trajectories.counts.astype(np.int64)))
    networks = trajectories.counts.sum(axis=-1) > 0
    whole = networks.all(axis=-1)
    assert found.members.tolist() == whole.sum(axis=0).tolist()
    assert_series(found.s, own.s, (-4, 4), True)
    assert_series(found.s_factorised, own.s_factorised, (-4, 4))
    assert_series(found.influence, own.influence, (0, 8), True)
    assert_series(found.contextuality, own.contextuality, (-8, 2), True)
    assert_fractions(found.above_2, own.s > 2, whole)
    assert_fractions(found.contextual, own.contextuality > 0, whole)
    assert_fractions(found.solved, trajectories.counts[..., 3] == rows, networks)
    for name in ("accuracy_alice", "accuracy_bob"):
        assert_series(getattr(found, name), getattr(own, name).reshape(networks.shape), (0, 1), True)
    assert list(found.observed) == ["loss_alice", "margin", "cosine", "conflict"]
    for name, support in (
        ("loss_alice", (0, np.inf)),
        ("margin", (-np.inf, np.inf)),
        ("cosine", (-1, 1)),
        ("conflict", (0, 1)),
    ):
        values = np.where(networks, trajectories.value(name), np.nan)
        assert_series(found.observed[name], values, support)
    losses = np.where(networks, trajectories.value("loss_alice"), np.nan)
    for place in np.ndindex(losses.shape[1:]):
        there = losses[(slice(None), *place)]
        there = there[np.isfinite(there)].astype(np.float64)
        if len(there):
            median = np.clip(np.quantile(there, 0.5, method="inverted_cdf"), 1e-8, 1e4)
            assert found.observed["loss_alice"].quantiles[2][place] == pytest.approx(median, rel=0.024)
    for slope, (first, last) in zip(found.slopes, WINDOWS, strict=True):
        assert (slope.first, slope.last) == (first, last)
        a, b = np.searchsorted(STEPS, [first, last])
        changes = (own.s[:, b] - own.s[:, a]) * 1000 / (last - first)  # NaN where it is not whole at both
        reach = 8000 / (last - first)
        as_series = type(found.s)(*(np.array([value]) for value in slope[2:]))
        assert_series(as_series, changes[:, None], (-reach, reach))


CASES = {"some diverge": (300, 16, 0.05), "4 rows": (200, 4, 0.02), "all whole": (100, 16, 0.0), "64 rows": (90, 64, 0.1), "all diverge": (20, 16, 1.1), "one": (1, 16, 0.0), "most diverge": (60, 16, 0.6)}  # fmt: skip


@pytest.fixture(params=first_fast(CASES, 4))
def case(request):
    members, rows, diverged = CASES[request.param]
    return made_up(members, rows, diverged), rows


def test_statistics_are_those_of_members(case):
    trajectories, rows = case
    assert_of_members(trajectory_statistics([trajectories], rows, WINDOWS), trajectories, rows)


def test_pieces_merge_and_are_stored_as_they_are(case, monkeypatch):
    trajectories, rows = case
    whole, merged = TrajectoryTally.like(trajectories, rows), TrajectoryTally.like(trajectories, rows)
    whole.add(trajectories)
    monkeypatch.setattr(trajectory_tally, "PIECE", 40)
    monkeypatch.setattr(trajectory_tally, "_OF_ONE_THREAD", 60)
    for start, stop in ((0, 7), (7, 107), (107, 107), (107, 300)):
        part = TrajectoryTally.like(trajectories, rows)
        part.add(trajectories.take(slice(start, stop)))
        merged.merge(TrajectoryTally.from_arrays(part.arrays()))
    assert list(merged.arrays()) == list(whole.arrays())
    for name, array in whole.arrays().items():
        compare = np.testing.assert_array_equal if array.dtype.kind == "i" else np.testing.assert_allclose
        compare(merged.arrays()[name], array, err_msg=name)
    # What was counted are whole numbers, whatever the order.
    floats = {name for name, array in whole.arrays().items() if array.dtype.kind == "f"}
    assert floats == {f"{name} {which}" for name in whole.observed for which in ("first", "second")}
    assert_of_members(statistics_of(merged, WINDOWS), trajectories, rows)


def test_sums_between_many_steps_are_kept_of_some(monkeypatch):
    """The first, the last, and the ends of windows that are asked for."""
    monkeypatch.setattr(trajectory_tally, "MOST_PAIRED", 3)
    trajectories = made_up(50)
    tally = TrajectoryTally.like(trajectories, 16)
    assert STEPS[tally.paired].tolist() == [0, 10, 60]
    assert tally.has_windows([(0, 60), (9, 61)])
    assert not tally.has_windows([(0, 60), (3, 60)])
    asked = TrajectoryTally.like(trajectories, 16, WINDOWS[1:5])
    asked.add(trajectories)
    assert STEPS[asked.paired].tolist() == STEPS.tolist()
    found = trajectory_statistics([trajectories], 16, WINDOWS)
    assert_of_members(found, trajectories, 16)


def test_losses_fall_into_their_bins():
    values = loss_values()
    assert loss_bins(values).tolist() == list(range(len(values)))
    assert loss_bins(np.array([0, 1e-9, 1e5, np.inf])).tolist() == [0, 0, 599, 599]
    assert np.all(values[1:] / values[:-1] < 1.048)


def test_members_that_were_recorded_otherwise_do_not_merge():
    one, other = made_up(9), made_up(9)
    later = other._replace(step=STEPS + np.arange(5, dtype=np.int32))
    less = other._replace(values={"margin": other.values["margin"]})
    for trajectories in (later, less):
        with pytest.raises(ValueError, match="recorded otherwise"):
            TrajectoryTally.like(one, 16).merge(TrajectoryTally.like(trajectories, 16))
