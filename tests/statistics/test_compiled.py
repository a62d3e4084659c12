"""What C adds up has the bits of what NumPy adds up, of any members and however they lie in memory; without a compiler NumPy does it."""

import numpy as np
import pytest

import ncsim
from ncsim import c_compiler
from ncsim.errors import ConfigError
from ncsim.records.members import MemberRecords
from ncsim.records.trajectories import by_column, by_member
from ncsim.statistics import compiled, loss_order
from ncsim.statistics import outcomes as outcomes_module
from ncsim.statistics.member_statistics import member_statistics
from ncsim.statistics.outcomes import LossesAndTables, Outcomes, dense_places
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, Protocol, _drawn_tables, draw_runs, weights
from ncsim.statistics.tally import GROUPS, Tally
from ncsim.statistics.trajectory_tally import TrajectoryTally, _edges, loss_bins
from tests.statistics.test_trajectory_tally import made_up
from tests.support.cases import first_fast

pytestmark = pytest.mark.skipif(compiled.library(compiled.MANY) is None, reason="there is no C compiler")


@pytest.fixture
def both(monkeypatch):
    """Something computed by NumPy, and by C however few members there are."""

    def each(action):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "SOME", np.inf)
            assert compiled.library(10**9) is None
            slow = action()
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "SOME", 0)
            patch.setattr(compiled, "MANY", 0)
            assert compiled.library(1) is not None
            return slow, action()

    return each


def assert_same_bits(slow, fast):
    assert slow.keys() == fast.keys()
    for name, expected in slow.items():
        assert (expected.dtype, expected.shape) == (fast[name].dtype, fast[name].shape), name
        assert expected.tobytes() == fast[name].tobytes(), name


def members(size, rows, diverged=0.1, seed=0):
    """Records of any tables, with undecided answers that fit them."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(rows, generator.dirichlet((0.5, 1, 1, 3), (size, 4)))
    counts[generator.random((size, 4)) < 0.3] = [0, 0, 0, rows]
    lost = generator.random((size, 4)) < diverged
    counts[lost] = 0
    # Some right answers of both heads are Alice's last moment's, and some of those of neither are Bob's.
    alice = np.where(generator.random((size, 4)) < 0.5, 0, generator.integers(0, counts[..., 3] + 1))
    bob = np.where(generator.random((size, 4)) < 0.7, 0, generator.integers(0, counts[..., 0] + 1))
    product = counts @ np.array([1, -1, -1, 1]) - alice - bob
    loss = (10.0 ** generator.uniform(-9, 5, (size, 4))).astype(np.float32)
    loss[generator.random((size, 4)) < 0.1] *= -1
    loss[generator.random((size, 4)) < 0.1] = -0.0
    loss[lost] = np.nan
    whole = (np.asarray(each, np.int32) for each in (alice, bob, product))
    ids = np.arange(size, dtype=np.uint64)
    return MemberRecords(ids, counts.astype(np.int32), loss, loss, lost, *whole)


@pytest.mark.parametrize("rows", first_fast([12, 4, 16, 32]))
@pytest.mark.parametrize("diverged", [0.1, 0])
def test_tallies_of_members_have_the_same_bits(both, rows, diverged):
    records = members(20_011, rows, diverged)

    def add():
        tally = Tally(rows)
        for first in (0, 5_001, 5_002):  # of another group of the jackknife each
            last = {0: 5_001, 5_001: 5_002}.get(first)
            tally.add(records.take(slice(first, last)))
        return tally

    slow, fast = both(add)
    assert_same_bits(slow.arrays(), fast.arrays())
    assert fast.undecided.decided_members > 100
    assert fast.whole == (~records.diverged).all(axis=1).sum()


def test_records_of_more_rows_and_of_other_types_are_numpys(both):
    wide = members(500, 64)
    assert_same_bits(*(each.arrays() for each in both(lambda: added(wide, 64))))
    other = wide._replace(counts=wide.counts.astype(np.int64))
    assert compiled.tally(other, 64, 32, 0, 100, 19) is None
    assert_same_bits(added(wide, 64).arrays(), added(other, 64).arrays())


def added(records, rows):
    tally = Tally(rows)
    tally.add(records)
    return tally


@pytest.mark.parametrize(
    ("column", "value"), [("counts", 3), ("undecided_alice", -1), ("undecided_bob", 17), ("decided_product", 17)]
)
def test_records_that_contradict_themselves_are_told_in_the_same_words(both, column, value):
    records = members(5_000, 16, diverged=0)
    broken = getattr(records, column).copy()
    broken[4_321].flat[0] = value if column != "counts" else broken[4_321].flat[0] + 1
    records = records._replace(**{column: broken})

    def words():
        with pytest.raises(ValueError, match=r"records|counts") as error:
            added(records, 16)
        return str(error.value)

    slow, fast = both(words)
    assert slow == fast
    assert "4321" in slow


@pytest.mark.parametrize("rows", [16, 12, 64])
def test_statistics_of_members_have_the_same_bits(both, rows):
    counts = members(5_000, rows).counts
    assert_same_bits(*both(lambda: member_statistics(counts, rows)))


def in_columns(trajectories):
    """As they lie in memory after a run, and not as they are made here."""

    def moved(array):
        columns = np.ascontiguousarray(by_column(array))
        return by_member(columns.reshape(*columns.shape[:-1], *array.shape[:2]))

    values = {name: moved(each) for name, each in trajectories.values.items()}
    return trajectories._replace(counts=moved(trajectories.counts), values=values)


@pytest.mark.parametrize("rows", first_fast([16, 4, 64]))
@pytest.mark.parametrize("diverged", [0.1, 0])
@pytest.mark.parametrize("order", [in_columns, lambda trajectories: trajectories])
def test_tallies_of_trajectories_have_the_same_bits(both, monkeypatch, rows, diverged, order):
    monkeypatch.setattr("ncsim.statistics.trajectory_tally.PIECE", 1_000)  # several pieces
    trajectories = made_up(1_234, rows, diverged)
    trajectories.values["alice_norm"] = np.abs(trajectories.values["cosine"])  # one that has no infinities
    trajectories = order(trajectories)

    def add():
        tally = TrajectoryTally.like(trajectories, rows)
        tally.add(trajectories.take(slice(0, 777)))
        tally.add(trajectories.take(slice(777, None)))
        return tally.arrays()

    assert_same_bits(*both(add))


def test_counts_of_other_rows_are_refused_alike(both):
    trajectories = made_up(50)
    trajectories.counts[7, 2, 1, 3] += 1

    def words():
        with pytest.raises(ValueError, match=r"^trajectories: counts that are neither all zero nor of 16 rows$"):
            TrajectoryTally.like(trajectories, 16).add(trajectories)

    both(words)


def test_every_loss_is_in_the_bin_that_its_logarithm_says():
    lowest, edges = _edges()
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 2**20, dtype=np.uint32)
    near = edges[1:-1].view(np.uint32)
    losses = np.concatenate([bits, near - 1, near, near + 1]).view(np.float32)
    losses = losses[np.isfinite(losses)]
    found = lowest[losses.view(np.uint32) >> 16]
    found = found + (losses >= edges[found + 1])
    assert found.tolist() == loss_bins(losses.astype(np.float64)).tolist()


@pytest.mark.usefixtures("quickly")
def test_a_run_is_added_up_in_c_where_it_is_large_enough(both, tmp_path):
    config = ncsim.EnsembleConfig(hidden=2, members=300, steps=20)
    recording = ncsim.Recording(points=6)

    def files():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ncsim.run_ensemble(config, out=folder, executor="xla", recording=recording)
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}

    slow, fast = both(files)
    assert len(slow) == 4
    assert slow == fast


def test_without_a_compiler_numpy_adds_up(monkeypatch):
    def refused(text):
        raise ConfigError("no")

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_loaded", [])
        compiled._library.cache_clear()
        patch.setattr(c_compiler, "loaded", refused)
        assert compiled.library(compiled.MANY) is None
        compiled._library.cache_clear()
        patch.setattr(c_compiler, "compiler", lambda: None)
        assert compiled.library(compiled.MANY) is None
    compiled._library.cache_clear()
    monkeypatch.setattr(compiled, "_loaded", [])
    assert compiled.library(compiled.SOME) is None  # not worth compiling
    assert compiled.library(compiled.MANY) is not None
    assert compiled.library(compiled.SOME) is not None  # it is there now
    assert compiled.library(compiled.SOME - 1) is None


def in_some_order(size, diverged, ties):
    """Outcomes of members of whom many have equal losses, or few."""
    records = members(size, 16, diverged, seed=5)
    loss = records.loss.copy()
    if ties:
        loss = np.round(np.abs(loss), 1)
        loss[: size // 2] = 0.25
    return records._replace(loss=loss)


@pytest.mark.parametrize("diverged", [0.1, 0])
@pytest.mark.parametrize("ties", [False, True])
def test_networks_are_in_the_same_order(both, ties, diverged):
    records = in_some_order(20_011, diverged, ties)
    slow, fast = both(lambda: Outcomes([records], ncsim.EnsembleConfig()))
    assert_same_bits(arrays_of(slow), arrays_of(fast))
    for context in fast.contexts:
        assert (np.diff(context.bits.astype(np.int64)) >= 0).all()
        same = context.bits[1:] == context.bits[:-1]
        assert same.any()
        assert (np.diff(context.member.astype(np.int64))[same] > 0).all()


def test_members_and_tables_of_any_number_are_in_the_same_order(both):
    """Both together need not fit into 32 bits."""
    generator = np.random.default_rng(0)
    loss, lost = generator.random(70_000).astype(np.float32), generator.random(70_000) < 0.1
    for tables in (1, 2, 2**12, 2**20):
        code = generator.integers(0, tables, 70_000).astype(np.int32)
        places = generator.permutation(tables).astype(np.int32)
        _, fast = both(lambda: compiled.in_order(loss, lost, code, places))  # noqa: B023
        order = np.flatnonzero(~lost)[np.argsort(loss[~lost], kind="stable")]
        np.testing.assert_array_equal(fast[1], order)
        np.testing.assert_array_equal(fast[2], places[code[order]])
        np.testing.assert_array_equal(fast[0], loss_order.ordered_bits(loss[order]))


def test_no_network_is_in_no_order(both):
    slow, fast = both(lambda: Outcomes([in_some_order(7, 1.1, False)], ncsim.EnsembleConfig()))
    assert_same_bits(arrays_of(slow), arrays_of(fast))
    assert all(len(context.member) == 0 for context in fast.contexts)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "protocol", [*STANDARD_PROTOCOLS, Protocol("retry_alice", 3), Protocol("best_loss", 1)], ids=str
)
def test_the_same_runs_are_drawn(both, protocol, ties):
    outcomes = Outcomes([in_some_order(20_011, 0.1, ties)], ncsim.EnsembleConfig())
    slow, fast = both(lambda: {"runs": draw_runs(protocol, outcomes, 5_000, seed=3)})
    assert_same_bits(slow, fast)
    if protocol.tries > 1:
        slow, fast = both(lambda: {"weights": weights(protocol, outcomes.contexts[2])})
        assert_same_bits(slow, fast)


def test_the_last_network_is_drawn_by_the_largest_number(both):
    """The largest number below 1, times a sum, may be the sum itself; in NumPy too it is the last one then."""
    outcomes = Outcomes([in_some_order(641, 0, False)], ncsim.EnsembleConfig())
    context = outcomes.contexts[0]
    largest = np.array([np.nextafter(1, 0), 0.0])
    slow, fast = both(lambda: {"runs": _drawn_tables(Protocol("best_loss", 20), context, largest)})
    assert_same_bits(slow, fast)
    assert fast["runs"][1] == context.table[0]


@pytest.mark.parametrize("tries", [1, 2, 20, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_laws_of_the_best_by_loss_are_the_same(both, monkeypatch, tries, ties):
    monkeypatch.setattr(loss_order, "EXACT", 1_000)
    monkeypatch.setattr(outcomes_module, "EXACT", 1_000)
    monkeypatch.setattr(loss_order, "_PIECE", 2**10)  # several pieces
    outcomes = Outcomes([in_some_order(20_011, 0.1, ties)], ncsim.EnsembleConfig())
    slow, fast = both(lambda: outcomes.best_of_laws(tries))
    for expected, found in zip(slow, fast, strict=True):
        assert expected.shape == found.shape
        assert len(found) == 1 + GROUPS
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("span", [(0, 2**32), (2**31, 2**31 + 2**30), (5, 6)])
def test_networks_of_a_span_are_the_same(both, span):
    kept = LossesAndTables.of(in_some_order(20_011, 0.1, False), 16)
    tally = Tally(16)
    tally.add(in_some_order(20_011, 0.1, False))
    places = dense_places(tally.tables[1])
    slow, fast = both(lambda: {"networks": kept.packed(1, span, places, before=3)})
    assert_same_bits(slow, fast)
    if span == (0, 2**32):
        assert len(fast["networks"]) == tally.networks[1]


def arrays_of(outcomes):
    found = {"whole": outcomes.whole}
    for number, context in enumerate(outcomes.contexts):
        found |= {f"{name} {number}": getattr(context, name) for name in ("member", "bits", "table")}
    return found
