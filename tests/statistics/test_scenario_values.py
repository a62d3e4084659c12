"""Values and contextuality of scenarios: by trying everything, against linear programmes, and against those of two by two."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

import ncsim
from ncsim.config.scenarios import chained_contexts
from ncsim.config.tasks import CONTEXTS
from ncsim.records.members import MemberRecords
from ncsim.records.scenarios import ScenarioRecords
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.pooled import pooled_estimates
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, Protocol, ProtocolLaw
from ncsim.statistics.scenario_laws import ScenarioLaw, ScenarioOutcomes
from ncsim.statistics.scenario_values import (
    Question,
    connections,
    correlators,
    cycle_of,
    cycle_statistics,
    explained_by_certainty,
    is_certain,
    means,
    pooled_delta,
    questions,
    values,
    values_of_accuracies,
)
from ncsim.statistics.scenarios import excess_mismatch
from tests.support.scenarios import THREE, as_dictionaries, delta_of_ring, local_values, value


def of(tasks, name):
    """The question of a name."""
    return next(question for question in questions(tasks) if question.name.startswith(name))


@pytest.mark.parametrize("settings", range(2, 7))
def test_bounds_of_chained_values(settings):
    """Local by trying every strategy up to m = 4, and by the programme's own enumeration beyond; a ring of PR boxes."""
    tasks = ncsim.chained_tasks(settings)
    question = of(tasks, "chained")
    assert question.signs.tolist() == [1] * (2 * settings - 1) + [-1]
    if settings <= 4:
        weights = np.zeros((settings, settings), int)
        weights[tuple(np.array(tasks.contexts).T)] = question.signs
        assert max(local_values(weights)) == 2 * settings - 2
    assert question.inequality.classical_bound == 2 * settings - 2
    assert question.inequality.quantum_bound == pytest.approx(2 * settings * math.cos(math.pi / (2 * settings)))
    box = np.array([[8, 0, 0, 8]] * (2 * settings - 1) + [[0, 8, 8, 0]])
    assert values(box, question.signs) == 2 * settings == question.inequality.algebraic_bound
    found = cycle_statistics(box, cycle_of(tasks))
    assert (found.s_odd, found.influence, found.contextuality) == (2 * settings, 0, 2)


def test_values_of_three_parties():
    """GHZ correlations have 4 in Mermin's inequality, and deterministic strategies 2; Svetlichny's are 4."""
    tasks = ncsim.three_party_tasks()
    for name, bound in (("Mermin", 2), ("Svetlichny", 4)):
        question = of(tasks, name)
        weights = np.zeros((2, 2, 2), int)
        weights[tuple(np.array(tasks.contexts).T)] = question.signs
        assert max(local_values(weights)) == bound == question.inequality.classical_bound
    mermin = of(tasks, "Mermin")
    parity = np.prod(list(itertools.product((-1, 1), repeat=3)), axis=1)
    ghz = np.array([4 * (parity == (sign or 1)) for sign in mermin.signs])
    assert values(ghz, mermin.signs) == 4
    assert means(ghz).max() == means(ghz).min() == 0
    contexts = [context for context, sign in zip(tasks.contexts, mermin.signs, strict=True) if sign]
    names = [[f"{'ABC'[p]}{task}" for p, task in enumerate(context)] for context in contexts]
    used = ghz[mermin.signs != 0].reshape(-1, 2, 2, 2)
    assert excess_mismatch(names, list(used)) == pytest.approx(1)
    assert not explained_by_certainty(ghz[mermin.signs != 0], contexts)


@pytest.mark.parametrize("tasks", [ncsim.chained_tasks(3), ncsim.three_party_tasks()], ids=lambda t: t.name)
def test_values_are_sums_of_fractions(tasks):
    generator = np.random.default_rng(3)
    counts = generator.integers(0, 7, (40, len(tasks.contexts), 2**tasks.parties)) + 1
    for question in questions(tasks):
        weights = dict(zip(tasks.contexts, question.signs, strict=True))
        found = values(counts, question.signs)
        for table, here in zip(counts, found, strict=True):
            assert here == float(value(as_dictionaries(table, tasks.parties), tasks.contexts, weights))
    expected = np.prod(means(counts), axis=-1)
    question = questions(tasks)[0]
    np.testing.assert_allclose(values_of_accuracies(counts, question.signs), (expected * question.signs).sum(axis=1))


def test_contexts_that_are_not_there_cannot_be_asked():
    few = dataclasses.replace(ncsim.chained_tasks(3), contexts=chained_contexts(3)[:-1])
    assert questions(few) == ()
    assert cycle_of(few) is None
    every = dataclasses.replace(few, contexts=tuple(itertools.product(range(3), repeat=2)))
    assert of(every, "chained").signs.sum() == 4  # the others do not enter
    assert cycle_of(every) is None
    assert cycle_of(THREE) is None


def test_an_empty_context_has_no_value():
    counts = np.full((4, 4), 4)
    counts[2] = 0
    signs = of(ncsim.chained_tasks(2), "chained").signs
    assert np.isnan(values(counts, signs))
    assert values(counts, signs * [1, 1, 0, 1]) == 0
    assert np.isnan(correlators(counts)).tolist() == [False, False, True, False]
    assert not is_certain(counts).any()


@pytest.mark.parametrize("settings", [2, 3])
def test_delta_of_a_cycle_is_twice_the_programme_s_excess(settings):
    """Random systems with signalling, most of them on the noncontextual side, some boxes mixed in; and by trying all signs."""
    tasks = ncsim.chained_tasks(settings)
    cycle, generator = cycle_of(tasks), np.random.default_rng(settings)
    box = np.array([[8, 0, 0, 8]] * (2 * settings - 1) + [[0, 8, 8, 0]])
    names = [[f"A{i}", f"B{j}"] for i, j in tasks.contexts]
    seen = set()
    for weight in (0, 1, 2, 4):
        counts = weight * box + generator.integers(0, 4, (2 * settings, 4)) + (weight == 0)
        delta = float(cycle_statistics(counts, cycle).contextuality)
        assert delta == pytest.approx(float(delta_of_ring(cycle.ring(counts))), abs=1e-12)
        assert excess_mismatch(names, list(counts.reshape(-1, 2, 2))) == pytest.approx(max(delta, 0) / 2, abs=1e-8)
        seen.add(delta > 0)
    assert seen == {True, False}


def test_excess_refuses_what_it_is_not_about():
    table = np.ones((2, 2))
    with pytest.raises(ValueError, match="more than two contexts"):
        excess_mismatch([("a", "b"), ("a", "c"), ("a", "d")], [table] * 3)
    with pytest.raises(ValueError, match="other than two outcomes"):
        excess_mismatch([("a", "b")], [np.ones((2, 3))])
    with pytest.raises(ValueError, match="assignments"):
        excess_mismatch([(k, k + 1) for k in range(9)], [table] * 9)


def certain_at(counts, context, party, right):
    """The counts with one head's outcome the same on all rows of a context."""
    shape = (2,) * (counts.shape[-1].bit_length() - 1)
    cells = counts[..., context, :].reshape(*counts.shape[:-2], *shape)
    axis = cells.ndim - len(shape) + party
    total = cells.sum(axis=axis, keepdims=True)
    zeros = np.zeros_like(total)
    made = np.concatenate([zeros, total] if right else [total, zeros], axis=axis)
    found = counts.copy()
    found[..., context, :] = made.reshape(*counts.shape[:-2], -1)
    return found


@pytest.mark.parametrize("settings", [2, 3, 6])
def test_one_certain_head_leaves_no_delta_in_a_cycle_of_any_length(settings):
    """Also where all else is a box; and Delta is at most 2 (1 - the largest |mean|)."""
    tasks = ncsim.chained_tasks(settings)
    cycle, generator = cycle_of(tasks), np.random.default_rng(settings)
    box = np.array([[8, 0, 0, 8]] * (2 * settings - 1) + [[0, 8, 8, 0]])
    counts = box + (generator.random((300, 2 * settings, 4)) < 0.1)
    delta = cycle_statistics(counts, cycle).contextuality
    assert (delta > 0).any()
    assert (delta <= 2 * (1 - np.abs(means(counts)).max(axis=(1, 2))) + 1e-12).all()
    for context, party, right in itertools.product((0, 2 * settings - 1), (0, 1), (False, True)):
        made = certain_at(counts, context, party, right)
        assert explained_by_certainty(made, tasks.contexts).all()
        assert (cycle_statistics(made, cycle).contextuality <= 0).all()
    assert not explained_by_certainty(counts[~is_certain(counts).any(axis=(1, 2))], tasks.contexts).any()


@pytest.mark.parametrize("settings", [2, 3, 6])
def test_products_have_no_delta_in_a_cycle_of_any_length(settings):
    """Whatever the means of each context: c = a b in all of them, near to certainty and far from it."""
    generator, size = np.random.default_rng(settings), 2 * settings
    right = generator.integers(0, 17, (400, size, 2)) * generator.integers(0, 2, (400, 1, 1)) // 2 + 8
    wrong = 16 - right
    counts = np.stack([one[..., 0] * other[..., 1] for one in (wrong, right) for other in (wrong, right)], axis=-1)
    np.testing.assert_allclose(correlators(counts), means(counts).prod(axis=-1))
    delta = cycle_statistics(counts, cycle_of(ncsim.chained_tasks(settings))).contextuality
    assert (delta <= 0).all()


def test_certain_heads_in_mermin_s_contexts():
    """There one, two or three certain heads are not enough where they leave a ring, and the programme finds what is left."""
    tasks = ncsim.three_party_tasks()
    mermin = of(tasks, "Mermin")
    contexts = [context for context, sign in zip(tasks.contexts, mermin.signs, strict=True) if sign]
    assert len(connections(contexts)) == 6  # each context joined with each
    names = [[f"{'ABC'[p]}{task}" for p, task in enumerate(context)] for context in contexts]
    parity = np.prod(list(itertools.product((-1, 1), repeat=3)), axis=1)
    ghz = np.array([4 * (parity == sign) for sign in mermin.signs if sign])

    def excess(counts):
        return excess_mismatch(names, list(counts.reshape(-1, 2, 2, 2)))

    # A head that is certain in context 0: joint outcomes of the other two keep what they were.
    fixed = ghz.copy()
    fixed[0] = [0, 0, 0, 0, 8, 0, 0, 8]
    assert is_certain(fixed).sum() == 1
    assert not explained_by_certainty(fixed, contexts)
    assert excess(fixed) > 0.4
    # All of context 0 certain: a ring of three is left, and it is a box.
    solved = ghz.copy()
    solved[0] = [0, 0, 0, 0, 0, 0, 0, 16]
    assert not explained_by_certainty(solved, contexts)
    # Two solved contexts leave one join, and nothing.
    two = solved.copy()
    two[1] = solved[0]
    assert explained_by_certainty(two, contexts)
    assert excess(two) == pytest.approx(0, abs=1e-8)


def test_contexts_that_share_no_task_are_explained():
    apart = [(0, 0), (1, 1)]
    assert explained_by_certainty(np.ones((3, 2, 4), int), apart).tolist() == [True] * 3


@pytest.mark.slow
def test_no_ring_is_never_contextual():
    """Random tables with certain heads: where the theorem speaks, the programme agrees."""
    tasks = ncsim.three_party_tasks()
    mermin = of(tasks, "Mermin")
    contexts = [context for context, sign in zip(tasks.contexts, mermin.signs, strict=True) if sign]
    names = [[f"{'ABC'[p]}{task}" for p, task in enumerate(context)] for context in contexts]
    generator, spoken = np.random.default_rng(5), 0
    for _ in range(12):
        counts = generator.integers(0, 5, (4, 8)) + 1
        for _ in range(4):
            counts = certain_at(counts, generator.integers(4), generator.integers(3), bool(generator.integers(2)))
        if explained_by_certainty(counts, contexts):
            spoken += 1
            assert excess_mismatch(names, list(counts.reshape(-1, 2, 2, 2))) == pytest.approx(0, abs=1e-8)
    assert spoken > 2


# ------------------------------------------------------------------------------------------------------ laws


def made_up(members, seed=0):
    """Records of four contexts on sixteen rows, as an ensemble has them and as a scenario of two settings has them."""
    generator = np.random.default_rng(seed)
    right = generator.random((members, 4, 1, 2, 1)) < 0.2
    outcomes = (generator.random((members, 4, 16, 2, 1)) < 0.8) | right
    alice, bob = outcomes[..., 0, 0], outcomes[..., 1, 0]
    counts = np.stack([np.sum((alice == a) & (bob == b), axis=2) for a in (0, 1) for b in (0, 1)], axis=-1)
    loss = generator.integers(0, 50, (members, 4)).astype(np.float32) - counts[..., 3]
    diverged = generator.random((members, 4)) < 0.05
    counts = np.where(diverged[..., None], 0, counts).astype(np.int32)
    zero, member = np.zeros((members, 4), np.int32), np.arange(members, dtype=np.uint64)
    ours = MemberRecords(member, counts, loss, loss, diverged, zero, zero, counts @ np.array([1, -1, -1, 1]))
    return ours, ScenarioRecords(member, counts, loss, loss, diverged, np.zeros((members, 4, 2), np.int32))


@pytest.mark.parametrize("common", [False, True])
def test_laws_of_two_settings_are_those_of_s(common):
    """Every protocol: the law, its mean, probabilities and their intervals."""
    ours, theirs = made_up(300)
    plain = ncsim.EnsembleConfig(members=300, common_initialization=common)
    config = dataclasses.replace(plain, tasks=ncsim.chained_tasks(2))
    outcomes, expected = ScenarioOutcomes(theirs, config), Outcomes([ours], plain)
    signs = of(config.tasks, "chained").signs
    for protocol in (*STANDARD_PROTOCOLS, Protocol("best_accuracy_alice", 20), Protocol("retry_alice", 20)):
        law, s = ScenarioLaw(protocol, outcomes), ProtocolLaw(protocol, expected)
        lattice, laws = law.law(signs)
        np.testing.assert_allclose(lattice, s.law.values)
        np.testing.assert_allclose(laws[0], s.law.probabilities, atol=1e-12)
        for one, other in (
            (law.mean(signs), s.mean),
            (law.above(signs, 2), s.above(2)),
            (law.above(signs, -1), s.above(-1)),
        ):
            np.testing.assert_allclose(one[:3], other[:3], atol=1e-9)


@pytest.mark.parametrize("whole", [1, 2, 5])
def test_few_whole_members_that_start_alike_have_few_degrees_of_freedom(whole):
    """Networks of every context are in nearly all groups of the jackknife, whole members in so many."""
    ours, theirs = made_up(64)
    diverged = np.zeros((64, 4), bool)
    diverged[np.arange(whole, 64), np.arange(whole, 64) % 4] = True
    ours, theirs = (each._replace(diverged=diverged, counts=made_up(64, 3)[0].counts) for each in (ours, theirs))
    plain = ncsim.EnsembleConfig(members=64, common_initialization=True)
    config = dataclasses.replace(plain, tasks=ncsim.chained_tasks(2))
    law = ScenarioLaw(Protocol("single"), ScenarioOutcomes(theirs, config))
    s = ProtocolLaw(Protocol("single"), Outcomes([ours], plain))
    signs = of(config.tasks, "chained").signs
    for one, other in ((law.mean(signs), s.mean), (law.above(signs, 1), s.above(1))):
        np.testing.assert_allclose(one[:3], other[:3], atol=1e-9)


def test_values_of_drawn_runs_follow_the_law():
    _, records = made_up(200, 1)
    config = ncsim.EnsembleConfig(members=200, tasks=ncsim.chained_tasks(2))
    signs = of(config.tasks, "chained").signs
    law = ScenarioLaw(Protocol("best_loss", 5), ScenarioOutcomes(records, config))
    found = law.fraction(lambda counts: values(counts, signs) > 1, runs=20_000)
    assert found.value == pytest.approx(law.above(signs, 1).value, abs=0.015)
    assert found.low < law.above(signs, 1).value < found.high
    with pytest.raises(ValueError, match=r"^signs: \[2, 0, 0, 0\]; allowed: -1, 0 and 1$"):
        law.law(np.array([2, 0, 0, 0]))


def test_laws_of_three_parties_by_trying_all_runs():
    """Two members, eight contexts: 256 equally likely runs."""
    generator = np.random.default_rng(2)
    tasks = ncsim.three_party_tasks(shared=True)
    counts = generator.multinomial(16, [1 / 8] * 8, (2, 8)).astype(np.int32)
    flat = np.arange(16, dtype=np.float32).reshape(2, 8)
    records = ScenarioRecords(np.arange(2), counts, flat, flat, flat < 0, np.zeros((2, 8, 3), np.int32))
    law = ScenarioLaw(Protocol("single"), ScenarioOutcomes(records, ncsim.EnsembleConfig(members=2, tasks=tasks)))
    for question in questions(tasks):
        runs = [counts[list(chosen), range(8)] for chosen in itertools.product((0, 1), repeat=8)]
        found = values(np.array(runs), question.signs)
        assert law.mean(question.signs).value == pytest.approx(found.mean())
        assert law.above(question.signs, 0.5).value == pytest.approx((found > 0.5).mean())


def test_no_network_no_law():
    _, records = made_up(5)
    records.diverged[:, 2] = True
    config = ncsim.EnsembleConfig(members=5, tasks=ncsim.chained_tasks(2))
    with pytest.raises(ValueError, match=r"^a context has no network that did not diverge"):
        ScenarioLaw(Protocol("single"), ScenarioOutcomes(records, config))


def test_pooled_delta_holds_the_truth_as_often_as_it_says():
    """Members of a known law, near the kink of no influence: 200 samples."""
    cycle, generator = cycle_of(ncsim.chained_tasks(3)), np.random.default_rng(7)
    box = np.array([[8, 0, 0, 8]] * 5 + [[0, 8, 8, 0]]) / 16
    law = 0.7 * box + 0.3 / 4
    truth = float(cycle_statistics(law, cycle).contextuality)
    held = 0
    for _ in range(200):
        counts = np.stack([generator.multinomial(16, each, 60) for each in law], axis=1)
        found = pooled_delta(counts, cycle)
        held += found.low <= truth <= found.high
        assert found.low <= found.value <= found.high <= 2
    assert held >= 195


@pytest.mark.parametrize("settings", [2, 3, 6])
def test_pooled_delta_has_no_limit_beyond_what_is_possible(settings):
    """Every task right in one of its contexts and wrong in the other: correlators are +-1, an even number of them -1, so that 2 m - 2 of
    2 m are as they should be, and influence is 2 a task. That is the least; two members show nothing more."""
    cycle = cycle_of(ncsim.chained_tasks(settings))
    size = 2 * settings
    turned = np.zeros((size, 2, 2), np.int64)
    for place, number in enumerate(cycle.order):  # the first task right, the second wrong, as the ring goes
        turned[number][(0, 1) if cycle.turned[place] else (1, 0)] = 16
    least = pooled_delta(np.stack([turned.reshape(size, 4)] * 2), cycle)
    assert (least.value, least.low) == (-2 * size, -2 * size)
    generator = np.random.default_rng(settings)
    tables = generator.multinomial(16, generator.dirichlet([0.2] * 4, (2000, size)))
    assert cycle_statistics(tables, cycle).contextuality.min() >= -2 * size
    found = pooled_delta(tables[:2], cycle)
    assert -2 * size <= found.low <= found.value <= found.high <= 2


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_intervals_of_two_members_hold_what_several_contexts_lack(share):
    """By all ensembles of two members, whose networks are of one of two kinds. Twenty tries find a kind that both may lack, in each
    of four contexts: the mean of the best of 20 was held in half of them, and a probability in two thirds."""
    config = ncsim.EnsembleConfig(tasks=ncsim.chained_tasks(2))
    question, rows = questions(config.tasks)[0], config.tasks.rows
    solved, half = np.array([0, 0, 0, rows]), np.array([0, rows // 2, rows // 2, 0])
    zero = np.zeros((2, 4), np.float32)
    held = dict.fromkeys(["S", *STANDARD_PROTOCOLS[:4:2], STANDARD_PROTOCOLS[3]], 0.0)
    above = dict.fromkeys(held, 0.0)
    for kinds in itertools.product((0, 1), repeat=8):
        rare = np.array(kinds).reshape(2, 4)
        chance = share ** rare.sum() * (1 - share) ** (8 - rare.sum())
        counts = np.where(rare[..., None], solved, half).astype(np.int32)
        records = ScenarioRecords(np.arange(2), counts, zero, zero, zero > 0, np.zeros((2, 4, 2), np.int32))
        outcomes = ScenarioOutcomes(records, config)
        for protocol in list(held)[1:]:
            law, reached = ScenarioLaw(protocol, outcomes), 1 - (1 - share) ** protocol.tries
            mean, found = law.mean(question.signs), law.above(question.signs, 2)
            held[protocol] += chance * (
                mean.low <= 2 * (2 * reached - 1) + 1e-12 and mean.high >= 2 * (2 * reached - 1)
            )
            above[protocol] += chance * (found.low <= reached**3 * (1 - reached) + 1e-12 <= found.high + 1e-12)
        # In context 22, whose sign is turned, the rare kind is the other one: what is lacking adds up.
        counts[:, 3] = np.where(rare[:, 3, None], half, solved)
        pooled = pooled_estimates(counts, 2)["s"]
        held["S"] += chance * (pooled.low <= 4 * (2 * share - 1) <= pooled.high + 1e-12)
    assert min(held.values()) >= 0.95, held
    assert min(list(above.values())[1:]) >= 0.95, above


def test_pooled_delta_of_two_by_two_is_delta():
    ours, theirs = made_up(400)
    kept = ~theirs.diverged.any(axis=1)
    counts = theirs.counts[kept]
    found = pooled_delta(counts, cycle_of(ncsim.chained_tasks(2)))
    table = counts.sum(axis=0).reshape(2, 2, 2, 2)
    assert found.value == pytest.approx(float(ncsim.chsh_statistics(table).contextuality), abs=1e-12)
    assert ours.size == theirs.size
    assert chained_contexts(2) == CONTEXTS


def test_questions_are_named_as_inequalities():
    question = of(ncsim.three_party_tasks(), "Svetlichny")
    assert isinstance(question, Question)
    assert question.inequality.hybrid_bound == 4
