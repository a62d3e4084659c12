"""Bootstrap intervals and the conventions for undecided answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, gamma, norm, t

from ncsim.records.joint_counts import joint_counts
from ncsim.records.members import MemberRecords
from ncsim.statistics.bootstrap import bootstrap_mean, crossed_bootstrap_mean_s, hoeffding_mean
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.undecided import member_ranges, undecided_conventions, undecided_rows
from tests.support import reference_statistics as reference
from tests.support.cases import sizes

#: Laws of S on its lattice: values and probabilities.
LAWS = {
    "symmetric": (1 + np.arange(9) / 8, np.array([1, 8, 28, 56, 70, 56, 28, 8, 1]) / 256),
    "two values": (np.array([2.0, 1.0]), np.array([0.7, 0.3])),
    "skewed": (np.array([2, 2.25, 2.5, 3, 3.5, 1.5, 0]), np.array([0.35, 0.25, 0.15, 0.1, 0.05, 0.05, 0.05])),
    "long tail": (np.arange(33) / 8, np.exp(-np.arange(33) / 6) / np.exp(-np.arange(33) / 6).sum()),
    "all but constant": (np.array([2.0, -4.0]), np.array([0.98, 0.02])),
    "constant": (np.array([2.0]), np.array([1.0])),
}
CONSERVATIVE = ("all but constant", "constant")


def check_mean_coverage(name, members, samples, seed):
    values, law = LAWS[name]
    count = np.random.default_rng(seed).multinomial(members, law, size=samples)
    estimates = [bootstrap_mean(values, row, resamples=1_000, seed=n) for n, row in enumerate(count)]
    held = sum(e.low - 1e-12 <= values @ law <= e.high + 1e-12 for e in estimates)
    # Each of the two limits alarms falsely once in 10^4 choices of the seed at most.
    assert held >= binom.ppf(1e-4, samples, 0.94), f"{name}, {members} members: {held} of {samples}"
    if not any("conservative" in e.method for e in estimates):
        assert held <= binom.ppf(1 - 1e-4, samples, 0.975), f"{name}, {members} members: {held} of {samples}"


@pytest.mark.parametrize("name", LAWS)
def test_mean_is_held(name):
    check_mean_coverage(name, members=100, samples=250, seed=11)


@pytest.mark.parametrize("samples", sizes(400, 2_000))
@pytest.mark.parametrize("members", [100, 400, 2_000])
@pytest.mark.parametrize("name", LAWS)
def test_mean_is_held_in_many_samples(name, members, samples):
    check_mean_coverage(name, members, samples, seed=12)


def test_equal_values_that_were_rounded_in_several_ways_are_equal():
    """As 0.3 and 0.1 + 0.2: resampling found no spread, and the interval of 100 of them was a point."""
    one, other = 0.3, 0.1 + 0.2
    assert one != other
    same = bootstrap_mean([one] * 100)
    assert same.low < 0.18
    assert same.high > 0.4
    assert bootstrap_mean([one, other], members=[50, 50]) == same
    assert bootstrap_mean([-one, -other], members=[50, 50]) == bootstrap_mean([-other] * 100)
    assert bootstrap_mean([1e-17, 0.0, 1.0], members=[30, 40, 30]) == bootstrap_mean([0.0, 1.0], members=[70, 30])
    # What is small beside nothing is no rounding.
    small = bootstrap_mean([1e-17, 0.0], members=[50, 50])
    assert 0.3e-17 < small.low < 0.5e-17 < small.high < 0.7e-17


@pytest.mark.parametrize("exponent", [-1020, -500, -45, 45, 500, 1020])
@pytest.mark.parametrize("members", [50, 300])
def test_an_interval_has_the_unit_of_its_values(exponent, members):
    """Squares and cubes of deviations were 0 or no float, which ended in a traceback, and of tiny values all means were tied."""
    values = np.random.default_rng(5).exponential(size=members).clip(0, 8)
    unit = 2.0**exponent
    plain, scaled = bootstrap_mean(values, support=(0, 8)), bootstrap_mean(values * unit, support=(0, 8 * unit))
    assert scaled.method == plain.method
    np.testing.assert_allclose(np.array(scaled[:3]) / unit, plain[:3], rtol=1e-12)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("members", [1, 3, 10, 50])
def test_hoeffding_s_interval_holds_the_mean_of_few_members(name, members):
    values, law = LAWS[name]
    count = np.random.default_rng(30).multinomial(members, law, size=300)
    estimates = [hoeffding_mean(values, row) for row in count]
    held = sum(e.low - 1e-12 <= values @ law <= e.high + 1e-12 for e in estimates)
    assert held >= binom.ppf(1e-4, 300, 0.95)
    assert all(-4 <= e.low <= e.value <= e.high <= 4 for e in estimates)


@pytest.mark.parametrize(("members", "rare", "share"), [(100, 0.01, 0.67), (200, 0.01, 0.85), (1_000, 0.002, 0.92)])
def test_a_rare_kind_that_is_far_off_is_missed(members, rare, share):
    """By resampling, as docs/statistics.md says, and not by Hoeffding's interval."""
    values, law = np.array([1.875, 2, 2.125, 2.25, -2]), np.array([*[(1 - rare) / 4] * 4, rare])
    count = np.random.default_rng(members).multinomial(members, law, size=300)
    for interval, least, most in ((bootstrap_mean, share - 0.09, share + 0.07), (hoeffding_mean, 0.99, 1)):
        more = {"resamples": 1_000} if interval is bootstrap_mean else {}
        estimates = [interval(values, row, **more) for row in count]
        held = np.mean([each.low <= values @ law <= each.high for each in estimates])
        assert least <= held <= most


def test_hoeffding_s_interval_solves_its_equation():
    estimate = hoeffding_mean([2.0, 1.0, 2.5, 0.0])
    mean = (1.375 + 4) / 8
    for limit in ((estimate.low + 4) / 8, (estimate.high + 4) / 8):
        divergence = mean * np.log(mean / limit) + (1 - mean) * np.log((1 - mean) / (1 - limit))
        assert 4 * divergence == pytest.approx(np.log(40), abs=1e-9)
    # At an end of the support: (1 - m)^n = 1 / 40.
    assert hoeffding_mean([4.0, 4.0]).low == pytest.approx(-4 + 8 * (1 / 40) ** (1 / 2), abs=1e-9)
    assert hoeffding_mean([4.0, 4.0]).high == 4
    assert hoeffding_mean([-4.0]).low == -4
    assert np.isnan(hoeffding_mean([]).value)


def test_mean_agrees_with_scipy_s_bca():
    values, law = LAWS["long tail"]
    sample = np.random.default_rng(13).choice(values, size=400, p=law)
    ours = bootstrap_mean(sample, resamples=20_000)
    theirs = bootstrap((sample,), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(14))
    # Ours is wider by t / z * sqrt(n / (n - 1)) = 1.004; each limit has a resampling error of about 2 %.
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_histogram_and_members_are_the_same_thing():
    values, law = LAWS["skewed"]
    count = np.random.default_rng(15).multinomial(200, law)
    assert bootstrap_mean(values, count) == bootstrap_mean(np.repeat(values, count)[::-1])
    assert bootstrap_mean(values, count, seed=1) != bootstrap_mean(values, count, seed=2)


def test_a_billion_members_take_a_histogram_s_time():
    values, law = LAWS["symmetric"]
    estimate = bootstrap_mean(values, (law * 1e9).astype(np.int64))
    assert estimate.high - estimate.low < 1e-4
    assert estimate.low <= 1.5 <= estimate.high


@pytest.mark.parametrize("members", [1, 4, 50])
def test_all_equal_is_an_exact_interval_and_never_nan(members):
    estimate = bootstrap_mean(np.full(members, 2.0))
    unseen = 1 - 0.05 ** (1 / members)  # a law with more than this off 2 shows it 95 times in 100
    assert estimate.value == 2
    assert estimate.low == pytest.approx(2 - 6 * unseen, abs=1e-9)
    assert estimate.high == pytest.approx(2 + 2 * unseen, abs=1e-9)


@pytest.mark.parametrize("members", [5, 8, 20, 30, 38, 45, 100])
def test_two_values_of_which_either_may_be_the_most_common_one(members):
    """By all samples that there are. At the ends of the support, a half each, limits at the full error missed one mean in ten."""
    right = np.arange(members + 1)
    estimates = [bootstrap_mean([0.0, 1.0], [members - k, k], support=(0, 1), resamples=200) for k in right]
    method = np.array(["exact" in each.method for each in estimates])
    low, high = np.array([each[1:3] for each in estimates]).T
    edges = np.concatenate([low, high]) + np.array([[-1e-9], [1e-9]])
    for mean in (*np.linspace(0.01, 0.99, 99), *edges[(edges > 0) & (edges < 1)]):
        missed = method & ((low > mean) | (high < mean))
        assert binom.pmf(right, members, mean)[missed].sum() <= 0.05 + 1e-9, (members, mean)


def test_no_members():
    estimate = bootstrap_mean(np.zeros(0))
    assert np.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (-4, 4)


def test_mean_refusals():
    with pytest.raises(ValueError, match=r"values: 5\.0 at 1"):
        bootstrap_mean([1.0, 5.0])
    with pytest.raises(ValueError, match="values: nan at 0"):
        bootstrap_mean([np.nan])
    with pytest.raises(ValueError, match="members"):
        bootstrap_mean([1.0, 2.0], [1, -1])
    with pytest.raises(ValueError, match="shapes"):
        bootstrap_mean([1.0, 2.0], [1])
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=0.2)


def crossed_outcomes(members, items, generator, member_spread=0.5, item_spread=1.0, base=(2.0, 1.5, 1.5, 0.5)):
    """Answers with members that differ and items that differ, in log odds of being right."""
    logit = np.asarray(base).reshape(1, 2, 2, 1, 1)
    logit = logit + generator.normal(0, member_spread, (members, 2, 2, 2, 1))
    logit = logit + generator.normal(0, item_spread, (1, 2, 2, 2, items))
    return np.where(generator.random(logit.shape) < 1 / (1 + np.exp(-logit)), 1, -1).astype(np.int8)


def check_crossed_coverage(members, items, samples, seed):
    generator = np.random.default_rng(seed)
    truth = np.mean([chsh_statistics(joint_counts(crossed_outcomes(200, 200, generator))).s.mean() for _ in range(60)])
    held = 0
    for n in range(samples):
        estimate = crossed_bootstrap_mean_s(crossed_outcomes(members, items, generator), resamples=300, seed=n)
        held += estimate.low <= truth <= estimate.high
    assert held >= binom.ppf(1e-4, samples, 0.94), f"{members} members, {items} items: {held} of {samples}"


def test_crossed_interval_holds_the_mean():
    check_crossed_coverage(20, 40, samples=120, seed=16)


@pytest.mark.parametrize("samples", sizes(200, 1_000))
@pytest.mark.parametrize(("members", "items"), [(10, 30), (20, 200), (50, 50), (100, 16)])
def test_crossed_interval_holds_the_mean_in_many_samples(members, items, samples):
    check_crossed_coverage(members, items, samples, seed=17)


@pytest.mark.parametrize(
    ("members", "items", "same_items"), [(3, 60, True), (3, 60, False), (60, 3, True), (60, 4, False)]
)
def test_crossed_interval_holds_the_mean_of_few_members_or_items(members, items, same_items):
    """A kind of member, or of item, that is not rare and that three hardly show: resampling held it in a third of samples."""
    generator, held = np.random.default_rng(20), 0
    for n in range(150):
        right = np.full((members, 2, 2, items), 0.95)
        if members < items:
            right[generator.random(members) < 0.2] = 0.1
        else:  # each context has items of its own, or all the same
            hard = generator.random((2, 2, items)) < 0.2
            right[:, hard[:1, :1].repeat(2, 0).repeat(2, 1) if same_items else hard] = 0.1
        equal = generator.random(right.shape) < right
        equal[:, 1, 1] ^= True
        alice = generator.choice(np.array([-1, 1], np.int8), right.shape)
        outcomes = np.stack([alice, np.where(equal, alice, -alice)], axis=3)
        estimate = crossed_bootstrap_mean_s(outcomes, same_items=same_items, resamples=300, seed=n)
        held += estimate.low <= 4 * (2 * (0.8 * 0.95 + 0.2 * 0.1) - 1) <= estimate.high
    assert held >= binom.ppf(1e-4, 150, 0.95), held


def test_items_that_all_members_share_widen_the_interval():
    generator = np.random.default_rng(18)
    outcomes = crossed_outcomes(300, 25, generator, member_spread=0.1, item_spread=2.0)
    crossed = crossed_bootstrap_mean_s(outcomes)
    of_members = bootstrap_mean(chsh_statistics(joint_counts(outcomes)).s)
    assert crossed.value == pytest.approx(of_members.value, abs=1e-6)
    assert crossed.high - crossed.low > 3 * (of_members.high - of_members.low)


def test_items_of_their_own_in_each_context():
    outcomes = crossed_outcomes(30, 60, np.random.default_rng(19))
    apart, together = (crossed_bootstrap_mean_s(outcomes, same_items=same) for same in (False, True))
    assert apart.value == pytest.approx(together.value, abs=1e-6)
    assert apart != together
    assert apart == crossed_bootstrap_mean_s(outcomes, same_items=False)


@pytest.mark.parametrize(("members", "items"), [(6, 100), (100, 6)])
def test_crossed_limits_are_quantiles_by_students_t_of_the_fewer(members, items):
    """Own resampling by indices; of the limits, what few members or items may have missed is taken away again."""
    generator = np.random.default_rng(21)
    outcomes = crossed_outcomes(members, items, generator)
    products = (outcomes[..., 0, :] * outcomes[..., 1, :]).astype(float)
    products[:, 1, 1] *= -1
    sums = products.sum(axis=(1, 2))  # [member, item]
    own = np.array(
        [
            sums[generator.integers(members, size=members)][:, generator.integers(items, size=items)].mean()
            for _ in range(40_000)
        ]
    )
    fewer = min(members, items)
    reach = t.ppf(0.975, fewer - 1) * np.sqrt(fewer / (fewer - 1))
    bias = norm.ppf(np.mean(own < sums.mean()))
    expected = np.quantile(own, norm.cdf([bias - reach, bias + reach]))
    found = crossed_bootstrap_mean_s(outcomes, same_items=True, resamples=40_000)
    missed = 1 - 0.025 ** (1 / fewer)
    below, above = missed * (sums.mean() + 4), missed * (4 - sums.mean())
    low = found.value - np.sqrt((found.value - found.low) ** 2 - below**2)
    high = found.value + np.sqrt((found.high - found.value) ** 2 - above**2)
    assert found.value == pytest.approx(sums.mean())
    np.testing.assert_allclose([low, high], expected, atol=0.12 * own.std())


def test_crossed_interval_of_perfect_members_is_no_certainty():
    estimate = crossed_bootstrap_mean_s(np.ones((5, 2, 2, 2, 100), np.int8))
    assert estimate.value == 2
    assert -4 <= estimate.low < 2 < estimate.high <= 4
    assert "conservative" in estimate.method


def test_crossed_refusals():
    with pytest.raises(ValueError, match=r"outcomes: shape \(1, 2, 2, 2, 9\)"):
        crossed_bootstrap_mean_s(np.ones((1, 2, 2, 2, 9)))
    outcomes = np.ones((2, 2, 2, 2, 3), int)
    outcomes[1, 0, 1, 0, 2] = 0
    with pytest.raises(ValueError, match=r"outcomes: 0 at \(1, 0, 1, 0, 2\)"):
        crossed_bootstrap_mean_s(outcomes)


# Undecided answers.


def records_of(right, undecided):
    """Records from bool[M, 4, rows, party]: answers that are right, and answers that are undecided."""
    sign = np.where(right, 1, -1)
    decided = ~undecided.any(axis=-1)
    cells = 2 * right[..., 0] + right[..., 1]
    return MemberRecords(
        member=np.arange(len(right), dtype=np.uint64),
        counts=np.stack([(cells == cell).sum(axis=2) for cell in range(4)], axis=-1).astype(np.int32),
        loss=np.zeros((len(right), 4), np.float32),
        margin=np.zeros((len(right), 4), np.float32),
        diverged=np.zeros((len(right), 4), bool),
        undecided_alice=undecided[..., 0].sum(axis=2).astype(np.int32),
        undecided_bob=undecided[..., 1].sum(axis=2).astype(np.int32),
        decided_product=(sign.prod(axis=-1) * decided).sum(axis=2).astype(np.int32),
    )


def random_answers(members, rows, share, seed):
    generator = np.random.default_rng(seed)
    right = generator.random((members, 4, rows, 2)) < 0.8
    return right, generator.random((members, 4, rows, 2)) < share


def every_correlator(right, undecided):
    """Correlators of one context under each way of answering what is undecided, each as likely as any other."""
    free = np.argwhere(undecided)
    for answers in itertools.product((False, True), repeat=len(free)):
        answered = right.copy()
        for (row, party), answer in zip(free, answers, strict=True):
            answered[row, party] = answer
        yield float(np.where(answered, 1, -1).prod(axis=-1).mean())


def test_conventions_against_every_way_of_answering():
    right, undecided = random_answers(60, 6, 0.2, seed=20)
    records = records_of(right, undecided)
    ranges = member_ranges(records)
    tight = 0
    for m in range(60):
        contexts = [list(every_correlator(right[m, c], undecided[m, c])) for c in range(4)]
        low = sum(min(c) for c in contexts[:3]) - max(contexts[3])
        high = sum(max(c) for c in contexts[:3]) - min(contexts[3])
        expected = sum(np.mean(c) for c in contexts[:3]) - np.mean(contexts[3])
        assert ranges.coin_toss[m] == pytest.approx(expected, abs=1e-12)
        assert ranges.low[m] <= low + 1e-12
        assert ranges.high[m] >= high - 1e-12
        assert ranges.low[m] <= ranges.as_they_fell[m] <= ranges.high[m]
        if ranges.tight[m] or not undecided[m].all(axis=-1).any():
            assert (ranges.low[m], ranges.high[m]) == pytest.approx((low, high), abs=1e-12)
        tight += ranges.tight[m]
        assert ranges.decided[m] == (not undecided[m].any())
    assert 5 < tight < 60, "both kinds are among the members"


def test_rows_with_an_undecided_answer_are_within_their_limits():
    right, undecided = random_answers(500, 16, 0.1, seed=21)
    least, most = undecided_rows(records_of(right, undecided))
    rows = undecided.any(axis=-1).sum(axis=2)
    assert (least <= rows).all()
    assert (rows <= most).all()
    assert (least < most).any()


def test_ensemble_under_each_convention():
    right, undecided = random_answers(300, 16, 0.005, seed=22)
    records = records_of(right, undecided)
    found = undecided_conventions(records)
    s = chsh_statistics(records.joint).s
    assert found.members == 300
    assert found.excluded == 0
    assert found.as_they_fell.value == pytest.approx(s.mean(), abs=1e-12)
    assert found.above_two.value == np.mean(s > 2)
    decided = ~records.undecided().any(axis=1)
    assert 0 < found.decided_members == decided.sum() < 300
    assert found.decided_only.value == pytest.approx(s[decided].mean(), abs=1e-12)
    assert found.range_of_mean[0] < found.coin_toss.value < found.range_of_mean[1]
    assert found.range_above_two[0] <= found.above_two.value <= found.range_above_two[1]
    assert "as they fell" in str(found)


def test_without_undecided_answers_all_conventions_agree():
    right, _ = random_answers(40, 16, 0, seed=23)
    found = undecided_conventions(records_of(right, np.zeros_like(right)))
    assert found.as_they_fell == found.coin_toss == found.decided_only
    assert found.range_of_mean == pytest.approx((found.as_they_fell.value,) * 2, abs=1e-12)
    assert found.tight


def test_no_decided_member_is_said_and_not_divided_by():
    right, _ = random_answers(5, 16, 0, seed=24)
    found = undecided_conventions(records_of(right, np.ones_like(right)))
    assert found.decided_members == 0
    assert np.isnan(found.decided_only.value)
    assert found.range_of_mean == (-4, 4)
    assert found.coin_toss.value == 0


def test_diverged_members_take_no_part():
    right, undecided = random_answers(10, 16, 0.1, seed=25)
    records = records_of(right, undecided)
    for column in (records.counts, records.undecided_alice, records.undecided_bob, records.decided_product):
        column[3, 2] = 0
    records.diverged[3, 2] = True
    found = undecided_conventions(records)
    assert (found.members, found.excluded) == (9, 1)
    kept = np.delete(np.arange(10), 3)
    assert found.as_they_fell == undecided_conventions(records.take(kept)).as_they_fell


def test_s_above_two_is_decided_on_the_lattice():
    # Twelve rows: thirds do not add up to 2 in floating point, and S = 2 is not above 2.
    counts = reference.drawn(reference.PR_BOX / 2 + 0.125, 12, np.random.default_rng(26), number=3_000)
    records = records_of(np.ones((1, 4, 12, 2), bool), np.zeros((1, 4, 12, 2), bool))
    products = np.array([1, -1, -1, 1])
    flat = counts.reshape(-1, 4, 4)
    many = records.take(np.zeros(len(flat), int))._replace(
        counts=flat.astype(np.int32), decided_product=(flat @ products).astype(np.int32)
    )
    signed = (flat @ products) @ np.array([1, 1, 1, -1])
    assert (signed == 24).any()
    found = undecided_conventions(many)
    assert found.above_two.value == np.mean(signed > 24)
    assert found.range_above_two == (found.above_two.value,) * 2


def test_records_that_contradict_themselves_are_refused():
    right, undecided = random_answers(3, 16, 0.1, seed=27)
    records = records_of(right, undecided)
    records.decided_product[1, 3] = 40
    with pytest.raises(ValueError, match="member 1, context 22"):
        undecided_conventions(records)


@pytest.mark.parametrize("members", [2**31, 3 * 10**9, 10**18])
def test_more_members_than_32_bits_count(members):
    """SciPy's binomial law is NaN of so many, and the level of the interval was."""
    found = bootstrap_mean([2.0, 1.0], [members - 3, 3])
    limit = gamma.ppf(0.95, 4) / members  # of a probability of which 3 were seen: Poisson's
    assert 2 - found.low == pytest.approx(6 * limit, rel=1e-4, abs=1e-15)
    assert found.high - 2 == pytest.approx(2 * limit, rel=1e-4, abs=1e-15)
