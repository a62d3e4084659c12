"""A report from tallies says what one from members says; what is kept beside parts is theirs, and made again where it is not."""

import dataclasses
import functools
import json
import math
import re
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.errors import StoreError
from ncsim.report.summary import summarise
from ncsim.results import Run
from ncsim.statistics import cell as cells
from ncsim.statistics import loss_order, tally
from ncsim.statistics.cell import Cell
from ncsim.statistics.tally import LossBins, Tally
from ncsim.storage import summaries
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
from ncsim.study import Study
from tests.statistics.test_protocols import made_up
from tests.support.cases import first_fast
from tests.support.report_of_members import numbers_of_cell

CONFIG = ncsim.EnsembleConfig()


def tasks_of(rows):
    """Own tasks on as many rows."""
    features = rows.bit_length() - 1
    first, second = (lambda *x: x[0]), (lambda *x: x[0] & x[1])
    return ncsim.truth_tables([first, second], [second, first], features=features, name=f"of {rows} rows")


def records_of(size, rows=16, seed=0, ties=False, diverged=0.0, undecided=0.0):
    """Records with any tables of so many rows; a low loss goes with many right answers, loosely."""
    generator = np.random.default_rng(seed)
    ease = generator.dirichlet((0.5, 1, 1, 3), (size, 4))
    counts = generator.multinomial(rows, ease).astype(np.int32)
    counts[generator.random((size, 4)) < 0.2] = [0, 0, 0, rows]
    loss = np.round(1 - counts[..., 3] / rows + (0 if ties else generator.random((size, 4))), 1 if ties else 7)
    lost = generator.random((size, 4)) < diverged
    counts[lost] = 0
    product = (counts @ [1, -1, -1, 1]).astype(np.int32)
    # Rows where both were right, of which Alice's answer is undecided.
    doubtful = generator.binomial(counts[..., 3], undecided * generator.random((size, 4))).astype(np.int32)
    doubtful[generator.random((size, 4)) < 0.5] = 0
    loss = np.where(lost, np.nan, loss).astype(np.float32)
    return made_up(size)._replace(
        counts=counts,
        loss=loss,
        margin=loss,
        diverged=lost,
        undecided_alice=doubtful,
        decided_product=product - doubtful,
    )


def assert_close(found, expected, tolerance=1e-9, leave=(), path=""):
    """The same keys, words and whole numbers, and the same numbers within a tolerance."""
    if isinstance(expected, dict):
        assert set(expected) <= set(found), path
        for name in expected:
            if name not in leave:
                assert_close(found[name], expected[name], tolerance, leave, f"{path}/{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        for number, each in enumerate(expected):
            assert_close(found[number], each, tolerance, leave, f"{path}/{number}")
    elif isinstance(expected, float) and not math.isnan(expected) and not math.isinf(expected):
        assert found == pytest.approx(expected, abs=tolerance, rel=tolerance), path
    elif isinstance(expected, float):
        assert str(found) == str(expected), path
    else:
        assert found == expected, path


KINDS = {
    "one member": (CONFIG, functools.partial(records_of, 1)),
    "diverged": (CONFIG, functools.partial(records_of, 300, diverged=0.1, undecided=0.2)),
    "all diverged": (CONFIG, functools.partial(records_of, 20, diverged=1.1)),
    "ties": (CONFIG, functools.partial(records_of, 900, ties=True)),
    "4 rows": (dataclasses.replace(CONFIG, tasks=tasks_of(4)), functools.partial(records_of, 300, 4, undecided=0.3)),
    "common start": (
        dataclasses.replace(CONFIG, common_initialization=True),
        functools.partial(records_of, 300, diverged=0.05, undecided=0.2),
    ),
    "plain": (CONFIG, functools.partial(records_of, 700)),
    "fewer than groups": (CONFIG, functools.partial(records_of, 19, undecided=0.4)),
    "a context of few": (CONFIG, functools.partial(records_of, 40, diverged=0.9)),
    "undecided": (CONFIG, functools.partial(records_of, 300, undecided=0.8)),
    "64 rows": (dataclasses.replace(CONFIG, tasks=tasks_of(64)), functools.partial(records_of, 300, 64, undecided=0.3)),
}


@pytest.fixture(scope="module", params=first_fast(KINDS, 6))
def kind(request):
    """A config, records of it, and the numbers that the slow way gives."""
    config, make = KINDS[request.param]
    records = make()
    config = dataclasses.replace(config, members=records.size)
    return config, records, numbers_of_cell([records], config)


def stored(path, config, records, cuts):
    """A run folder with parts that end at these members."""
    folder = RunFolder.create(path, [config])
    for start, stop in zip([0, *cuts], [*cuts, records.size], strict=True):
        if stop > start:
            folder.write_part(config, records.take(slice(start, stop)))
    return ncsim.open_run(path)


def numbers(run):
    """Of the only cell."""
    (cell,) = summarise(run).numbers["cells"]
    return cell


def test_a_report_is_that_of_members(kind, tmp_path):
    config, records, expected = kind
    assert_close(numbers(Run([config], [records])), expected)
    # Parts of sizes that are no multiples of the groups; then without what was kept beside them, as of an earlier version.
    run = stored(tmp_path, config, records, sorted({min(13, records.size), min(50, records.size)}))
    assert_close(numbers(run), expected)
    shutil.rmtree(tmp_path / "summaries")
    assert_close(numbers(run), expected)
    assert len(list((tmp_path / "summaries").iterdir())) == len(list((tmp_path / "parts").iterdir()))


@pytest.mark.parametrize("rows", [4, 16, 64])
def test_an_accuracy_is_one_number_in_both_tables(rows):
    pairs = {
        "A1": ("alice", "11", "12"),
        "A2": ("alice", "21", "22"),
        "B1": ("bob", "11", "21"),
        "B2": ("bob", "12", "22"),
    }
    config = dataclasses.replace(CONFIG, members=250, tasks=tasks_of(rows))
    for seed in range(4):
        records = records_of(250, rows, seed)
        cell = summarise(Run([config], [records])).numbers["cells"][0]
        for test in cell["tests"]["signalling_pooled"]:
            party, *names = pairs[test["answer"]]
            assert [cell["contexts"][name][f"accuracy_{party}"] for name in names] == list(test["accuracies"])
        for number, context in enumerate(cell["contexts"].values()):
            neither, bob, alice, both = map(int, records.counts[:, number].sum(axis=0))
            exact = Fraction(neither + both - bob - alice, neither + bob + alice + both)
            assert context["correlator"] == float(exact)


def test_a_cell_that_is_kept_gives_the_same(kind, tmp_path, monkeypatch):
    config, records, expected = kind
    monkeypatch.setattr(summaries, "MANY", 0)
    run = stored(tmp_path, config, records, [])
    numbers(run)

    def read(*_):
        raise AssertionError("a member was read")

    monkeypatch.setattr(Cell, "of_ordered", read)
    assert_close(numbers(run), expected)


def test_more_members_than_are_held_at_once(kind, tmp_path, monkeypatch):
    """Of drawn runs there are then others, from the same laws."""
    config, records, expected = kind
    monkeypatch.setattr(summaries, "MOST_IN_ORDER", 0)
    monkeypatch.setattr(cells, "MOST_LOSSES", records.size // 2)
    run = stored(tmp_path, config, records, [min(33, records.size)])
    found = numbers(run)
    assert_close(found, expected, leave=("sampled_runs_contextual", "sampled_largest_contextuality"))
    for ours, theirs in zip(found.get("protocols", ()), expected.get("protocols", ()), strict=True):
        share, other = (each["sampled_runs_contextual"]["value"] for each in (ours, theirs))
        assert abs(share - other) <= 6 * math.sqrt((share * (1 - share) + 1e-4) / 10_000)


def test_losses_in_whole_numbers_of_their_order():
    loss = np.array([-np.inf, -3.5, -1e-45, -0.0, 0.0, 1e-45, 0.7, 0.70000005, 3.4e38, np.inf], np.float32)
    bits = loss_order.ordered_bits(loss)
    assert np.sign(np.diff(bits.astype(np.int64))).tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1]


def test_neighbours_move_limits_by_less_than_a_millionth(monkeypatch):
    """200,000 networks, of which those of a group are told from others' places for 32 at a time."""
    generator = np.random.default_rng(4)
    loss = generator.random(200_000, np.float32)
    table = np.minimum((40 * loss * generator.uniform(0.5, 1.5, loss.size)).astype(np.int64), 49)
    group = np.arange(loss.size) % 32
    members = np.zeros((50, 32), np.int64)
    np.add.at(members, (table, group), 1)
    order = np.sort(loss_order.packed(loss_order.ordered_bits(loss), table, group))
    # As it is, and read in three pieces.
    cuts = np.searchsorted(
        order, [order[60_001] >> np.uint64(32) << np.uint64(32), order[-50] >> np.uint64(32) << np.uint64(32)]
    )
    found = [loss_order.best_of_laws(pieces, 20, members) for pieces in ([order], np.split(order, cuts))]
    monkeypatch.setattr(loss_order, "EXACT", loss.size)
    exact = loss_order.best_of_laws([order], 20, members)
    correlator = np.linspace(-1, 1, 50)

    def error(laws):
        left_out = laws[1:] @ correlator
        return math.sqrt(31 / 32 * np.sum((left_out - left_out.mean()) ** 2))

    for quick in found:
        np.testing.assert_allclose(quick[0], exact[0], atol=1e-12)
        assert abs(error(quick) - error(exact)) < 4e-7
    assert error(exact) > 1e-4
    np.testing.assert_array_equal(loss_order.best_of_laws(np.split(order, cuts), 20, members), exact)


def test_losses_are_cut_where_so_many_networks_are_below():
    bins = LossBins()
    loss = np.random.default_rng(5).lognormal(size=(4, 5_000)).astype(np.float32)
    bins.add(loss, np.zeros(loss.shape, bool))
    for most in (1, 300, 4_000, 10_000):
        limit = bins.limit(2, 3_500)
        spans = bins.spans(2, limit, most)
        assert [span[0] for span in spans] == [0, *(span[1] for span in spans[:-1])]
        assert spans[-1][1] == limit
        bits = loss_order.ordered_bits(loss[2])
        counts = [int(((bits >= low) & (bits < high)).sum()) for low, high in spans]
        assert counts == [bins.within(2, span) for span in spans]
        assert sum(counts) >= 3_500
        one_bin = 1 << 19
        assert all(count <= most or high - low == one_bin for count, (low, high) in zip(counts, spans, strict=True))
        # None could have been longer.
        nexts = [bins.within(2, (high, high + one_bin)) for _, high in spans[:-1]]
        assert all(count + more > most for count, more in zip(counts, nexts, strict=False))


def test_tallies_merge_and_are_stored_as_they_are():
    records = records_of(300, diverged=0.05, undecided=0.3)
    whole, merged = Tally(16), Tally(16)
    whole.add(records)
    for start, stop in ((0, 7), (7, 107), (107, 107), (107, 300)):
        part = Tally(16)
        part.add(records.take(slice(start, stop)))
        merged.merge(Tally.from_arrays(part.arrays()))
    for name, array in whole.arrays().items():
        np.testing.assert_allclose(merged.arrays()[name], array, err_msg=name)
    np.testing.assert_array_equal(whole.counts.sum(axis=0), records.counts.sum(axis=0))


@pytest.mark.parametrize("diverged", [0.0, 0.05])
def test_a_batch_is_tallied_in_pieces(monkeypatch, diverged):
    records = records_of(300, diverged=diverged, undecided=0.3)
    whole, cut = Tally(16), Tally(16)
    whole.add(records)
    monkeypatch.setattr(tally, "PIECE", 37)
    cut.add(records)
    for name, array in whole.arrays().items():
        np.testing.assert_allclose(cut.arrays()[name], array, err_msg=name)


def test_verify_finds_a_flipped_bit_of_a_summary(tmp_path):
    run = stored(tmp_path, dataclasses.replace(CONFIG, members=60), records_of(60), [])
    (file,) = (tmp_path / "summaries").iterdir()
    content = bytearray(file.read_bytes())
    expected = numbers(run)
    assert verify(tmp_path).right
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    (finding,) = verify(tmp_path).findings
    assert (finding.name, finding.problem) == (
        f"summaries/{file.name}",
        "is torn (its checksum is not that of its content)",
    )
    # A report does not believe it, and mends it.
    assert numbers(run) == expected
    assert verify(tmp_path).right


def test_a_summary_of_another_part_is_not_believed(tmp_path):
    config = dataclasses.replace(CONFIG, members=60)
    run = stored(tmp_path, config, records_of(60), [])
    (file,) = (tmp_path / "summaries").iterdir()
    before = file.read_bytes()
    other = records_of(60, seed=1)
    run.storage.remove(f"parts/{file.name}")
    RunFolder.open(tmp_path).write_part(config, other)
    file.write_bytes(before)
    assert_close(numbers(run), numbers_of_cell([other], config))


def test_records_that_contradict_themselves_are_named(tmp_path):
    wrong = records_of(60)
    wrong.decided_product[3, 1] = 40
    run = stored(tmp_path, dataclasses.replace(CONFIG, members=60), wrong, [])
    assert not (tmp_path / "summaries").exists()
    with pytest.raises(StoreError, match="member 3, context 12"):
        summarise(run)


def test_several_folders_are_one_study(tmp_path, capsys):
    config, records = dataclasses.replace(CONFIG, members=90), records_of(90)
    narrow = dataclasses.replace(CONFIG, hidden=2, members=40)
    whole = stored(tmp_path / "whole", config, records, [])
    stored(tmp_path / "a", dataclasses.replace(config, members=33), records.take(slice(0, 33)), [])
    later = dataclasses.replace(config, first_member=33, members=57)
    stored(tmp_path / "b", later, records.take(slice(33, 90)), [])
    stored(tmp_path / "c", narrow, records_of(40, seed=3), [])
    paths = [tmp_path / name for name in "cba"]
    found = summarise(Study(paths)).numbers
    assert found["swept"] == ["hidden"]
    assert [cell["cell"] for cell in found["cells"]] == [{"hidden": 2}, {"hidden": 3}]
    assert (found["members_missing"], found["runs"]) == (0, [str(path) for path in paths])
    assert_close(found["cells"][1] | {"cell": {}}, numbers(whole))
    main(["report", *map(str, paths), "--out", str(tmp_path / "study")])
    assert "hidden=3: 90 members" in capsys.readouterr().out
    assert json.loads((tmp_path / "study" / "summary.json").read_text())["runs"] == found["runs"]
    assert (tmp_path / "study" / "figures" / "laws.svg").exists()


def test_members_that_two_folders_have_are_refused_by_name(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, members=60)
    stored(tmp_path / "a", config, records_of(60), [])
    stored(tmp_path / "b", config, records_of(60), [40])
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    for arguments, message in (
        (["a", "b/../a"], r"a: is there twice; allowed: each folder once\n"),
        (["b", "a", "link"], r"link: is there twice; allowed: each folder once\n"),
        (
            ["a", "b"],
            r"b/parts/members-0000000000-40.parquet: has members that .*a/parts/members-0000000000-60.parquet has",
        ),
        (["a", "b", "--verify"], r"--verify: with 2 folders; allowed: with one"),
        (["a", "b", "--out", "a"], r"--out: .*a holds a run; allowed: another folder"),
        (
            ["a", "b", "--out", "file"],
            r"--out: .*file cannot be written to \(Not a directory\); allowed: a folder that can",
        ),
        (["a", "--out", "b"], r"--out: with one folder, which has its report; allowed: with several"),
    ):
        with pytest.raises(SystemExit):
            main(["report", *(each if each.startswith("--") else str(tmp_path / each) for each in arguments)])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(message, error), error


def test_a_report_starts_without_what_it_does_not_need(tmp_path):
    """In a process of its own: neither JAX, nor scipy.stats, nor pandas."""
    stored(tmp_path, dataclasses.replace(CONFIG, members=90), records_of(90), [])
    code = (
        "import sys; from ncsim.cli.command import main; main(['report', sys.argv[1]]);"
        "print([name for name in ('jax', 'scipy.stats', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"
