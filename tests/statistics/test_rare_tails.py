"""Rare tails: against enumeration, against ensembles drawn from known laws, and with contexts of several ensembles."""

import itertools
import math

import numpy as np
import pytest

import ncsim
from ncsim.records.members import MemberRecords, concatenated
from ncsim.statistics import rare_tails
from ncsim.statistics.intervals import fraction_estimate
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, Protocol, ProtocolLaw
from ncsim.statistics.rare_tails import (
    Joined,
    as_context_22,
    loss_of_a_wrong_answer,
    probability_given,
    probability_of,
    product_error,
    tail,
    unseen_probability,
    unseen_weight,
)
from tests.statistics.test_protocols import made_up
from tests.support.cases import first_fast, sizes

CONFIG = ncsim.EnsembleConfig()
BOUNDS = (0.0, 2.0, 2 * math.sqrt(2), 3.25, 3.5)
#: Laws of wrong answers of one head alone, the other being right: then k is all that is wrong. 22 reaches 12 rarely.
WRONG = loss_of_a_wrong_answer(CONFIG)
LAWS = np.zeros((4, 17))
LAWS[:3, [0, 1, 4, 8]] = [[0.8, 0.1, 0.05, 0.05], [0.3, 0.3, 0.3, 0.1], [0.3, 0.2, 0.3, 0.2]]
LAWS[3, [4, 8, 11, 13, 14]] = [0.5, 0.4, 0.09, 0.006, 0.004]


def test_probabilities_are_those_of_an_enumeration():
    generator = np.random.default_rng(0)
    laws = generator.dirichlet(np.ones(5), size=4)  # four rows
    for bound in (-4.0, -1.0, 0.5, 1.0, 2.0, 3.0, 4.0):
        expected = np.zeros((4, 5))
        for ks in itertools.product(range(5), repeat=4):
            s = sum(sign * (1 - 2 * k / 4) for sign, k in zip((1, 1, 1, -1), ks, strict=True))
            if s >= bound:
                for context in range(4):
                    others = (laws[n, ks[n]] for n in range(4) if n != context)
                    expected[context, ks[context]] += math.prod(others)
        np.testing.assert_allclose(probability_given(laws, bound), expected, atol=1e-14)
        np.testing.assert_allclose((laws * expected).sum(axis=1), probability_of(laws, bound), atol=1e-14)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_tail_is_that_of_the_law_of_s(bound):
    outcomes = Outcomes([made_up(500, seed=3)], CONFIG)
    for protocol in STANDARD_PROTOCOLS:
        law = ProtocolLaw(protocol, outcomes)
        found = tail(law, outcomes, bound)
        assert found.probability.value == pytest.approx(law.law.between(bound, 4.0), rel=1e-9, abs=1e-15)
        assert found.probability.low <= found.probability.value <= found.probability.high
        _, low, high, *_ = found.probability
        half = (high - low) / 2
        assert found.reach == (half / found.probability.value if found.probability.value else np.inf)


def drawn(members, generator, laws=LAWS):
    """An ensemble whose contexts have these laws of k; a head is wrong alone, and the loss is what wrong answers add, and a little by
    chance."""
    k = np.stack([generator.choice(17, size=members, p=law) for law in laws], axis=1)
    zero = np.zeros_like(k)
    counts = np.stack([zero, k, zero, 16 - k], axis=-1).astype(np.int32)
    loss = ((k + 0.9 * generator.random(k.shape)) * WRONG).astype(np.float32)
    lost, none = zero.astype(bool), zero.astype(np.int32)
    product = (counts @ [1, -1, -1, 1]).astype(np.int32)
    return MemberRecords(np.arange(members, dtype=np.uint64), counts, loss, loss, lost, none, none, product)


def truth(protocol, bound, laws=LAWS):
    """The probability under a protocol of that population."""
    laws = laws.copy()
    for law in laws:
        if protocol.kind == "retry":
            failed = (1 - law[0]) ** protocol.tries
            law[1:] *= failed / max(1 - law[0], 1e-300)
            law[0] = 1 - failed
        if protocol.kind in ("best_accuracy", "best_loss"):  # the fewest wrong answers, by both
            law[:] = np.diff(np.append((np.cumsum(law[::-1])[::-1]) ** protocol.tries, 0) * -1)
    return probability_of(laws, bound)


def found_in(samples, members, laws, protocol, bound):
    """The tails of so many ensembles of that population, and in how many the interval holds the truth, as a share."""
    expected, found = truth(protocol, bound, laws), []
    for seed in range(samples):
        outcomes = Outcomes([drawn(members, np.random.default_rng(seed), laws)], CONFIG)
        found.append(tail(ProtocolLaw(protocol, outcomes), outcomes, bound, WRONG))
    return found, np.mean([each.probability.low <= expected <= each.probability.high for each in found])


@pytest.mark.parametrize("samples", sizes(150, 1_000))
def test_intervals_hold_the_truth_as_often_as_they_say(samples):
    protocols = (Protocol("single"), Protocol("retry", 20), Protocol("best_accuracy", 3), Protocol("best_loss", 3))
    held, values = np.zeros((len(protocols), 2)), []
    for seed in range(samples):
        outcomes = Outcomes([drawn(4_000, np.random.default_rng(seed))], CONFIG)
        for number, protocol in enumerate(protocols):
            law = ProtocolLaw(protocol, outcomes)
            for place, bound in enumerate((2 * math.sqrt(2), 3.5)):
                found = tail(law, outcomes, bound, WRONG).probability
                held[number, place] += found.low <= truth(protocol, bound) <= found.high
                if number == 0 and place == 1:
                    values.append(found.value)
    print("\n", dict(zip([protocol.label for protocol in protocols], (held / samples).tolist(), strict=True)))
    assert held.min() / samples > 0.95 - 3 * math.sqrt(0.95 * 0.05 / samples)
    # And the error is that of the delta method, smaller than that of counted members.
    true = truth(protocols[0], 3.5)
    assert np.std(values) == pytest.approx(product_error(LAWS, 3.5, 4_000), rel=4 / math.sqrt(2 * samples))
    assert np.mean(values) == pytest.approx(true, abs=4 * np.std(values) / math.sqrt(samples))
    assert np.std(values) < 0.7 * math.sqrt(true / 4_000)


@pytest.mark.parametrize("rate", [0.3, 2.0])
def test_a_context_that_may_be_solved_though_none_of_these_networks_has(rate):
    """In the mean `rate` of 400 networks solve context 21. Where none does, a hundred tries may still end with one that does."""
    samples, laws, protocol = 40, LAWS.copy(), Protocol("retry", 100)
    laws[2] = 0
    laws[2, [0, 4, 8]] = [rate / 400, 0.6, 0.4 - rate / 400]
    _, held = found_in(samples, 400, laws, protocol, 3.25)
    assert held > 0.95 - 3 * math.sqrt(0.95 * 0.05 / samples)


def test_what_is_unseen_in_several_contexts_by_trying_all():
    """All sets of contexts, and in each of these every k, on three rows."""
    generator = np.random.default_rng(3)
    for bound in (0.0, 2.0, 10 / 3, 4.0):
        laws, weights = generator.dirichlet(np.ones(4) / 3, size=4), generator.random((4, 4))
        laws[:2] = [[0, 0, 0, 1], [0, 0, 1, 0]]
        expected = 0.0
        for chosen in itertools.product((False, True), repeat=4):
            each = []
            for ks in itertools.product(*(range(4) if unseen else [None] for unseen in chosen)):
                mixed = [laws[c] if k is None else np.eye(4)[k] * weights[c, k] for c, k in enumerate(ks)]
                each.append(probability_of(np.array(mixed), bound))
            expected += max(each) if any(chosen) else 0
        assert unseen_probability(laws, weights, bound) == pytest.approx(expected, rel=1e-9)


def test_an_event_that_needs_rare_outcomes_of_two_contexts():
    """One network in a hundred of 11 is right on all rows, and one in a hundred of 22 fails. Most ensembles of 64 show one of them or
    neither: the event is then not excluded, though no single unseen outcome gives it."""
    samples, laws, protocol = 40, np.zeros((4, 17)), Protocol("single")
    laws[0, [0, 8]] = laws[3, [14, 4]] = 0.01, 0.99
    laws[1:3, [0, 4]] = 0.9, 0.1
    found, held = found_in(samples, 64, laws, protocol, 3.5)
    nothing = sum(not each.given.any() for each in found)  # whatever k one of the contexts has
    assert nothing > samples / 8
    assert held > 0.95 - 3 * math.sqrt(0.95 * 0.05 / samples)


@pytest.mark.parametrize("number", [0.5, 20])
def test_the_best_of_many_by_what_few_networks_have(number):
    """In the mean so many of 300 networks have what all of twenty tries need: their share to the power of twenty, which is known far
    less well than by an error that is taken for linear."""
    samples, laws, protocol = 40, np.zeros((4, 17)), Protocol("best_accuracy", 20)
    laws[:3, 0] = laws[:3, 6] = 0.5
    laws[3, [4, 8, 14]] = 0.6, 0.4 - number / 300, number / 300
    _, held = found_in(samples, 300, laws, protocol, 3.5)
    assert held > 0.95 - 3 * math.sqrt(0.95 * 0.05 / samples)


def test_a_tail_is_ordered_and_monotone():
    """S is -4 or more for certain, also where sums of 16 and more laws round to a little over 1."""
    for seed in range(3):
        outcomes = Outcomes([drawn(40, np.random.default_rng(seed))], CONFIG)
        for protocol in (Protocol("single"), Protocol("retry", 20), Protocol("best_accuracy", 20)):
            law = ProtocolLaw(protocol, outcomes)
            found = [tail(law, outcomes, bound, WRONG).probability for bound in np.arange(-4, 4.01, 0.125)]
            assert all(0 <= each.low <= each.value <= each.high <= 1 for each in found)
            assert found[0].value == pytest.approx(1)
            assert all(one.value >= other.value * (1 - 1e-12) for one, other in itertools.pairwise(found))


@pytest.mark.parametrize(
    "protocol", [Protocol("retry", 5), Protocol("retry", 20), Protocol("best_accuracy", 5)], ids=str
)
def test_a_power_of_what_one_network_has_is_not_bounded_from_below(protocol):
    """In the mean three of ten ensembles have one network that does not solve 22. It is taken for one in 300, and a failure of all tries
    for a power of that: the truth is far below, by 3 to the power of the tries and more."""
    samples, laws = 100, np.zeros((4, 17))
    laws[:3, 0] = laws[:3, 6] = 0.5
    laws[3, [0, 14]] = 1 - 0.3 / 300, 0.3 / 300
    found, held = found_in(samples, 300, laws, protocol, 3.5)
    assert sum(each.probability.value > 0 for each in found) > samples / 6
    assert held > 0.95 - 3 * math.sqrt(0.95 * 0.05 / samples)


def test_networks_of_all_contexts_become_those_of_context_22():
    batches = [made_up(96, seed=1, diverged=0.1), made_up(64, seed=2, diverged=0.1)]
    pooled = as_context_22(batches, 16)
    columns = [
        np.concatenate([getattr(each, name)[:, n] for each in batches for n in range(4)])
        for name in ("loss", "diverged")
    ]
    counts = np.concatenate([each.counts.reshape(-1, 4, 4)[:, n] for each in batches for n in range(4)])
    kept = ~columns[1]
    assert [int(tables.members.sum()) for tables in pooled.tally.tables] == [0, 0, 0, kept.sum()]
    # The same by hand: each network as context 22 of a member of its own.
    whole = concatenated([*batches] * 4)
    zero = np.zeros((len(kept), 4), np.int32)
    by_hand = MemberRecords(
        np.arange(len(kept), dtype=np.uint64),
        np.repeat(counts[:, None], 4, axis=1).astype(whole.counts.dtype),
        np.repeat(columns[0][:, None], 4, axis=1),
        np.repeat(columns[0][:, None], 4, axis=1),
        np.repeat(columns[1][:, None], 4, axis=1),
        zero,
        zero,
        (np.repeat(counts[:, None], 4, axis=1) @ [1, -1, -1, 1]).astype(np.int32),
    )
    plain, base = Outcomes([by_hand], CONFIG), Outcomes([made_up(300, seed=4)], CONFIG)
    joined = Joined([base, base, base, pooled])
    assert joined.networks == 300
    for protocol in STANDARD_PROTOCOLS:
        found, expected, others = (ProtocolLaw(protocol, each).context_laws for each in (joined, plain, base))
        np.testing.assert_allclose(found[3], expected[3], rtol=1e-9, atol=1e-15)
        np.testing.assert_array_equal(found[:3], others[:3])


def test_what_no_network_has():
    outcomes = Outcomes([made_up(1_000, seed=3)], CONFIG)
    once, twenty = (1 - 0.025 ** (n / 1_000) for n in (1, 20))
    np.testing.assert_allclose(unseen_weight(Protocol("single"), outcomes, 3), once)
    np.testing.assert_allclose(unseen_weight(Protocol("retry", 20), outcomes, 3), once)
    for kind in ("best_loss", "best_accuracy_alice", "retry_alice"):
        np.testing.assert_allclose(unseen_weight(Protocol(kind, 20), outcomes, 3), twenty)
    by_accuracy = unseen_weight(Protocol("best_accuracy", 20), outcomes, 3)
    assert by_accuracy[0] == pytest.approx(20 * once * (1 + once) ** 19)
    assert (np.diff(by_accuracy) <= 0).all()
    assert by_accuracy[12] < 1e-6  # twenty tries with 20 right answers at most
    # By loss: at least k wrong answers, of ln 2 / 16 each, in all twenty tries.
    by_loss = unseen_weight(Protocol("best_loss", 20), outcomes, 3, WRONG)
    loss = made_up(1_000, seed=3).loss[:, 3]
    for k in (0, 4, 12, 16):
        as_bad = (loss >= k * math.log(2) / 16 * (1 - 1e-5)).mean()
        assert by_loss[k] == pytest.approx(min(20 * once * (as_bad + once) ** 19, 1))
    assert (by_loss[12:] < twenty / 10).all()
    shared = Outcomes([made_up(100)], ncsim.EnsembleConfig(common_initialization=True))
    with pytest.raises(ValueError, match="contexts that start apart"):
        tail(ProtocolLaw(Protocol("single"), shared), shared, 3.5)


@pytest.mark.parametrize("given", first_fast([{}, {"loss": "squared_error"}, {"alice_weight": 0.5}], 1, slow=1))
def test_no_network_has_a_smaller_loss_than_its_wrong_answers_allow(given):
    """Of trained networks, of all numbers of wrong answers; some come near, so that a bound twice as large would be wrong."""
    config = ncsim.EnsembleConfig(hidden=2, members=100, steps=200, **given)
    records = ncsim.run_ensemble(config, executor="xla").records()
    wrong = records.counts.reshape(-1, 4) @ [2, 1, 1, 0]
    least = loss_of_a_wrong_answer(config)
    assert (records.loss.reshape(-1) >= least * wrong * (1 - 1e-5)).all()
    assert (records.loss.reshape(-1) < 2 * least * wrong).any()
    assert loss_of_a_wrong_answer(ncsim.EnsembleConfig(training_rows=8)) == 0


def test_tiny_values_have_the_same_interval():
    """Where both ways can be computed, they agree; and a value of 10^-18 has an interval as its error says."""
    left_out = 5e-11 * (1 + 0.1 * np.sin(np.arange(32)) / math.sqrt(31 / 2))
    found = rare_tails._interval(5e-11, left_out, 31)
    plain = fraction_estimate(5e-11, left_out, 10**15, 1, freedom=31)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-3)
    tiny = rare_tails._interval(5e-18, left_out * 1e-7, 31)
    assert (tiny.low * 1e7, tiny.high * 1e7) == pytest.approx((found.low, found.high), rel=1e-9)
