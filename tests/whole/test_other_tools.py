"""Users' own tools read a run's files right, and its exports: each in a query of a line or two, as a user would write it.

The grid is of floats, words and booleans. What each query gives is compared with what `open_run` gives.
"""

import ast
import dataclasses
import importlib
import itertools
import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ncsim
import ncsim.text
from ncsim.errors import ConfigError, StoreError
from ncsim.hub.ensemble import export_run
from ncsim.records.members import MemberRecords
from ncsim.statistics.chsh import chsh_statistics
from ncsim.storage.arrow_tables import signed
from ncsim.storage.config_file import FORMAT, described
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from tests.storage.test_part_folder import RECORDING, some_trajectories
from tests.support.tasks import FOUR_ROWS

GRID = ncsim.config_grid(
    learning_rate=[0.003, 0.01], loss=["bce", "squared_error"], common_initialization=[False, True], members=40, steps=5
)
STORED = Path(__file__).parents[1] / "fixtures" / "stored_runs"
#: How a reader finds the files of all cells.
FILES = "run/parts/**/*.parquet"


def made_up(config, seed):
    """Records of a cell, with networks that diverged among them."""
    generator = np.random.default_rng(seed)
    share = generator.dirichlet([0.3, 0.3, 0.3, 2], size=(config.members, 4))
    counts = generator.multinomial(config.tasks.rows, share).astype(np.int32)
    diverged = generator.random((config.members, 4)) < 0.05
    counts[diverged] = 0
    few = generator.integers(0, 5, size=(3, config.members, 4)).astype(np.int32)
    loss = generator.random((2, config.members, 4), np.float32)
    ids = np.arange(config.first_member, config.first_member + config.members, dtype=np.uint64)
    return MemberRecords(ids, counts, loss[0], -loss[1], diverged, few[0], few[1], few[2] - 2)


def written(path, grid=GRID):
    folder = RunFolder.create(path, grid)
    trajectories = TrajectoryFolder(folder)
    for seed, config in enumerate(grid):
        folder.write_part(config, made_up(config, seed))
        trajectories.write_recorded(config, some_trajectories(0, config.members), RECORDING)
    return ncsim.open_run(path)


@pytest.fixture
def run():
    return written("run")


@pytest.fixture
def cells(run):
    """What each cell has: its config, its records, its statistics by `chsh_statistics`."""
    records = [run.records(cell) for cell in range(len(GRID))]
    return [(config, each, chsh_statistics(each.joint)) for config, each in zip(run.configs, records, strict=True)]


def mean_s(cells, **fields):
    """The mean S over the members of some cells in which no network diverged."""
    return np.nanmean(np.concatenate([s.s for config, _, s in cells if fields.items() <= vars(config).items()]))


def above_two(cells):
    return sum(int((s.s > 2).sum()) for _, _, s in cells)


def correlators(cells, context):
    """C of a context, of every member whose network has not diverged in it."""
    values = np.concatenate([s.correlator.reshape(-1, 4)[:, context] for _, _, s in cells])
    return values[np.isfinite(values)]


# ------------------------------------------------------------------------------------------------------------ files


def test_pandas(cells):
    frame = pandas.read_parquet("run/parts")
    assert (frame.learning_rate == 0.003).sum() == 4 * 40
    assert frame[~frame.common_initialization & (frame.loss == "bce")].shape[0] == 2 * 40
    by_rate = frame.groupby("learning_rate")["S"].mean()
    assert by_rate.to_dict() == pytest.approx({rate: mean_s(cells, learning_rate=rate) for rate in (0.003, 0.01)})
    same = frame.counts_12_00 + frame.counts_12_11 - frame.counts_12_01 - frame.counts_12_10
    assert sorted((same / 16)[~frame.diverged_12]) == sorted(correlators(cells, 1))
    assert len(frame.query("S > 2")) == above_two(cells) > 0


def test_polars(cells):
    frame = polars.read_parquet(FILES)
    by_rate = dict(frame.group_by("learning_rate").agg(polars.col("S").mean()).iter_rows())
    assert by_rate == pytest.approx({rate: mean_s(cells, learning_rate=rate) for rate in (0.003, 0.01)})
    words = frame.filter(polars.col("loss") == "squared_error", polars.col("common_initialization"))
    assert words["S"].mean() == pytest.approx(mean_s(cells, loss="squared_error", common_initialization=True))
    c = polars.col
    same = (c("counts_22_00") + c("counts_22_11") - c("counts_22_01") - c("counts_22_10")) / 16
    assert sorted(frame.filter(~c("diverged_22")).select(same).to_series()) == sorted(correlators(cells, 3))
    assert frame.filter(c("S") > 2).height == above_two(cells)  # a NaN would be above 2


def test_duckdb(cells):
    rows = duckdb.sql(f"SELECT learning_rate, avg(S) FROM '{FILES}' GROUP BY learning_rate").fetchall()
    assert dict(rows) == pytest.approx({rate: mean_s(cells, learning_rate=rate) for rate in (0.003, 0.01)})
    one = f"SELECT avg(S) FROM '{FILES}' WHERE learning_rate = 0.01 AND loss = 'bce' AND NOT common_initialization"
    assert duckdb.sql(one).fetchall()[0][0] == pytest.approx(
        mean_s(cells, learning_rate=0.01, loss="bce", common_initialization=False)
    )
    c = f"SELECT (counts_11_00 - counts_11_01 - counts_11_10 + counts_11_11) / 16 FROM '{FILES}' WHERE NOT diverged_11"
    assert sorted(each for (each,) in duckdb.sql(c).fetchall()) == sorted(correlators(cells, 0))
    assert duckdb.sql(f"SELECT count(*) FROM '{FILES}' WHERE S > 2").fetchall() == [(above_two(cells),)]


def test_xarray(run, cells):
    data = run.to_xarray()
    by_rate = data.S.mean(["loss", "common_initialization", "member"])
    assert by_rate.sel(learning_rate=0.01).item() == pytest.approx(mean_s(cells, learning_rate=0.01))
    part = data.sel(loss="bce", common_initialization=True)
    assert part.S.mean().item() == pytest.approx(mean_s(cells, loss="bce", common_initialization=True))
    correlator = (data.counts * data.a * data.b).sum(["a", "b"]) / data.rows
    c21 = correlator.where(~data.diverged).sel(i=2, j=1).values.ravel()
    assert sorted(c21[np.isfinite(c21)]) == sorted(correlators(cells, 2))
    assert int((data.S > 2).sum()) == above_two(cells)


def test_the_queries_of_the_page():
    """docs/reading.md, word for word, on a run with networks that diverged: their correlators were taken for 0 in one of them."""
    grid = ncsim.config_grid(learning_rate=[0.003, 0.03], members=200, steps=5)
    written("runs/rates", grid)
    frame = pandas.read_parquet("runs/rates/parts")
    text = (Path(__file__).resolve().parents[2] / "docs" / "reading.md").read_text()
    blocks = re.findall("```python\n(.*?)```", text, re.S)
    wanted = [each for each in blocks if "read_parquet" in each or "frame.pivot" in each]
    names, found = {}, []
    for statement in ast.parse("".join(wanted)).body:
        source = ast.unparse(statement)
        if isinstance(statement, ast.Expr):
            found.append(eval(source, names))
        else:
            exec(source, names)
    by_rate, correlator, above, s, correlators, difference = found
    rates = {rate: frame[frame.learning_rate == rate] for rate in (0.003, 0.03)}
    assert by_rate.to_dict() == pytest.approx({rate: np.nanmean(cell.S) for rate, cell in rates.items()})

    def mean_correlator(cell, context):
        kept = cell[~cell[f"diverged_{context}"]]
        assert 0 < len(kept) < len(cell)
        return (1 - (kept[f"counts_{context}_01"] + kept[f"counts_{context}_10"]) / 8).mean()

    expected = {rate: mean_correlator(cell, "22") for rate, cell in rates.items()}
    assert dict(correlator.fetchall()) == pytest.approx(expected)
    assert above.height == (frame.S > 2).sum() > 0
    assert s.item() == pytest.approx(np.nanmean(rates[0.03].S))
    each = rates[0.03].S.to_numpy() - rates[0.003].S.to_numpy()
    assert difference["mean"] == pytest.approx(np.nanmean(each))
    assert difference["sem"] == pytest.approx(np.nanstd(each, ddof=1) / np.isfinite(each).sum() ** 0.5)
    for rate, i, j in itertools.product(rates, (1, 2), (1, 2)):
        own = correlators.sel(learning_rate=rate, i=i, j=j).item()
        assert own == pytest.approx(mean_correlator(rates[rate], f"{i}{j}"))


def test_shares_of_members_are_of_those_that_have_an_s(run, cells):
    """Each reader's own way: null and NaN differ, and NaN > 2 is false."""
    whole = sum(int(np.isfinite(s.s).sum()) for _, _, s in cells)
    expected = above_two(cells) / whole
    assert whole < sum(kept.size for _, kept, _ in cells)
    assert (run.to_pandas().dropna(subset="S")["S"] > 2).mean() == pytest.approx(expected)
    data = run.to_xarray()
    assert (data.S > 2).where(data.S.notnull()).mean().item() == pytest.approx(expected)
    assert (run.to_polars()["S"] > 2).mean() == pytest.approx(expected)
    assert duckdb.sql(f"SELECT avg((S > 2)::int) FROM '{FILES}'").fetchall()[0][0] == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------- every column


def test_files_and_exports_have_the_same_columns(run, cells):
    frame, exported = pandas.read_parquet("run/parts"), run.to_pandas()
    pandas.testing.assert_frame_equal(frame, exported[frame.columns])
    assert list(frame.columns) == list(exported.columns) == run.to_polars().columns
    kinds = {str(kind) for name, kind in exported.dtypes.items() if name != "loss"}
    assert kinds == {"float64", "bool", "int64", "int32", "float32"}  # nothing unsigned, and no lists
    records, statistics = cells[0][1:]
    first = exported.iloc[: records.size]
    for name, field in {
        "S": "s",
        "S_factorised": "s_factorised",
        "influence": "influence",
        "Delta": "contextuality",
    }.items():
        assert np.array_equal(first[name], getattr(statistics, field), equal_nan=True)
    solved = records.counts[..., 3] == 16
    assert np.array_equal(first.filter(regex="^solved_"), solved)
    for name in ("loss", "margin", "diverged", "undecided_alice", "undecided_bob", "decided_product"):
        assert np.array_equal(first.filter(regex=rf"^{name}_\d\d$"), getattr(records, name)), name


def test_differences_of_counts_of_a_table_do_not_wrap_around(run, cells):
    """They were unsigned, in 16 bits: mean correlators were in the hundreds, by pandas and polars alike."""
    expected = np.concatenate([kept.counts @ [1, -1, -1, 1] for _, kept, _ in cells])
    table = run.table()
    counts = np.stack(table.to_pandas()["counts"]).reshape(-1, 4, 4)
    assert np.array_equal(counts[..., 0] + counts[..., 3] - counts[..., 1] - counts[..., 2], expected)
    of = polars.col("counts").arr
    found = polars.from_arrow(table).select(of.get(0) + of.get(3) - of.get(1) - of.get(2))
    assert found.to_series().to_list() == expected[:, 0].tolist()
    assert (table.to_pandas()["member"] - 100).min() == -100
    part = next(run.trajectories())
    assert np.array_equal(
        part.joint[..., 1, 1] - part.joint[..., 0, 0], (part.counts @ [-1, 0, 0, 1]).reshape(-1, 2, 2, 2)
    )


def test_whole_numbers_are_signed_and_wide_enough_for_what_they_were():
    """The largest id is 2^32 - 1 and the largest count 2^16 - 1: neither fits the signed type of as many bits."""
    counts = pa.FixedSizeListArray.from_arrays(pa.array([65_535, 0], pa.uint16()), 2)
    given = {
        "member": pa.array([2**32 - 1], pa.uint64()),
        "epoch": pa.array([2**32 - 1], pa.uint32()),
        "count": pa.array([65_535], pa.uint16()),
        "product": pa.array([-32_768], pa.int16()),
        "loss": pa.array([0.5], pa.float32()),
        "counts": counts,
    }
    found = signed(pa.table(given))
    kinds = [pa.int64(), pa.int64(), pa.int32(), pa.int32(), pa.float32(), pa.list_(pa.int32(), 2)]
    assert found.schema.types == kinds
    assert found.to_pylist() == pa.table(given).to_pylist()


def test_the_table_of_a_text_run_is_signed():
    """epoch - 1 was 4294967295 before the first."""
    table = ncsim.text.open_text_run(STORED / "text").table()
    assert polars.from_arrow(table).select(polars.col("epoch") - 1).min().item() == -1
    assert not any(pa.types.is_unsigned_integer(field.type) for field in table.schema)


@pytest.mark.slow
def test_members_of_one_id_start_alike_in_all_cells():
    """So docs/reading.md compares cells by pairs, and says that rows are no independent draws."""
    grid = ncsim.config_grid(loss=["bce", "squared_error"], learning_rate=[0.01, 0.1], members=30, steps=5, hidden=2)
    ncsim.run_ensemble(grid, "pairs", executor="xla", recording=RECORDING)
    counts = ncsim.open_run("pairs").to_datatree()["trajectories"].ds.counts
    first = counts.sel(step=0).values.reshape(4, 30, 16)
    assert (first == first[0]).all()
    assert len(np.unique(first[0], axis=0)) > 10
    last = counts.sel(step=5).values.reshape(4, 30, 16)
    assert not (last == last[0]).all()
    frame = pandas.read_parquet("pairs/parts").query("loss == 'bce'")
    by_rate = frame.pivot(index="member", columns="learning_rate", values="S")  # as the page has it
    found = (by_rate[0.1] - by_rate[0.01]).agg(["mean", "sem"])
    s = ncsim.open_run("pairs").statistics().s[:2]
    assert found.tolist() == pytest.approx([(s[1] - s[0]).mean(), np.std(s[1] - s[0], ddof=1) / 30**0.5])


def test_trajectories_have_axes_and_signed_counts(run):
    frame = pandas.read_parquet("run/trajectories")
    assert frame.groupby("learning_rate").size().to_dict() == {0.003: 320, 0.01: 320}
    assert str(frame.counts_11_00.dtype) == "int32"
    difference = duckdb.sql("SELECT min(counts_11_00 - counts_11_11) FROM 'run/trajectories/**/*.parquet'").fetchall()[
        0
    ]
    assert difference[0] == int((frame.counts_11_00 - frame.counts_11_11).min()) < 0


def test_the_tree(run):
    tree = run.to_datatree()
    assert sorted(tree.children) == ["records", "statistics", "trajectories"]
    seen = tree["trajectories"].ds
    assert seen.counts.dims == ("learning_rate", "loss", "common_initialization", "member", "step", "i", "j", "a", "b")
    part = next(run.trajectories(cell=3))  # 0.003, squared_error, True
    place = {"learning_rate": 0.003, "loss": "squared_error", "common_initialization": True}
    assert np.array_equal(seen.counts.sel(place), part.joint)
    assert np.array_equal(seen.margin.sel(place).sel(step=5, i=2, j=1), part.values["margin"][:, 1, 2])
    assert np.array_equal(tree["records"].ds.training_loss.sel(place).values.reshape(-1, 4), run.records(3).loss)
    assert (tree["records"].ds.counts - 16).max() == 0  # signed


def test_runs_in_memory_and_of_one_cell_have_the_same_exports():
    config = ncsim.EnsembleConfig(members=20, first_member=5)
    run = ncsim.Run([config], [made_up(config, 1)])
    assert run.to_pandas().columns[0] == "member"
    assert run.to_xarray().S.dims == ("member",)
    assert run.to_xarray().member.values.tolist() == list(range(5, 25))
    assert sorted(run.to_datatree().children) == ["records", "statistics"]


def test_training_counts_are_exported():
    config = ncsim.EnsembleConfig(members=3, training_rows=4)
    records = made_up(config, 2)._replace(training_counts=np.full((3, 4, 4), 1, np.int32))
    run = ncsim.Run([config], [records])
    assert run.to_pandas()["training_counts_22_11"].tolist() == [1, 1, 1]
    assert run.to_xarray().training_counts.sizes["a"] == 2


@pytest.mark.parametrize("rows", [[0, 2], [2, 0]])
def test_cells_that_trained_on_all_rows_are_exported_beside_others(rows):
    """What they trained on is all of their rows. Such grids had tracebacks, and data sets without training counts."""
    grid = ncsim.config_grid(training_rows=rows, members=3, steps=5, tasks=[FOUR_ROWS])
    run = ncsim.run_ensemble(grid, out="some", executor="xla")
    whole, some = run.records(rows.index(0)), run.records(rows.index(2))
    assert whole.training_counts is None
    for frame in (run.to_pandas(), run.to_polars().to_pandas()):
        for name, number in (("training_counts_22_11", 15), ("training_counts_11_01", 1)):
            of = frame.set_index("training_rows")[name]
            assert of[0].tolist() == whole.counts.reshape(3, 16)[:, number].tolist()
            assert of[2].tolist() == some.training_counts.reshape(3, 16)[:, number].tolist()
    assert run.table()["training_counts"].null_count == 0
    for data in (run.to_xarray(), run.to_datatree()["records"].ds):
        assert np.array_equal(data.training_counts.sel(training_rows=0).values.reshape(3, 4, 4), whole.counts)
        assert np.array_equal(data.training_counts.sel(training_rows=2).values.reshape(3, 4, 4), some.training_counts)
    export_run(run, "hub")
    members = pq.read_table("hub/data/members.parquet").to_pandas()
    assert members["training_counts_12_10"].tolist() == run.to_pandas()["training_counts_12_10"].tolist()


# ------------------------------------------------------------------------------------------------------- not full


@pytest.mark.parametrize("lack", ["a cell", "members"])
def test_a_grid_that_is_not_full_is_refused_or_filled(lack):
    grid = GRID[:-1] if lack == "a cell" else GRID
    records = [made_up(config, seed) for seed, config in enumerate(grid)]
    if lack == "members":
        records[-1] = records[-1].take(slice(0, 30))
    run = ncsim.Run(grid, records)
    words = "has 7 cells and no full grid" if lack == "a cell" else "its cells have other members"
    with pytest.raises(ConfigError, match=rf"^to_xarray: .*{words}.*; allowed: incomplete='nan', or a complete run$"):
        run.to_xarray()
    data = run.to_xarray(incomplete="nan")
    last = data.sel(learning_rate=0.01, loss="squared_error", common_initialization=True)
    assert int(last.counts.isnull().sum()) == 16 * (40 if lack == "a cell" else 10)
    first = data.sel(learning_rate=0.003, loss="bce", common_initialization=False)
    assert np.array_equal(first.counts.values.reshape(40, 4, 4), records[0].counts)


@pytest.mark.parametrize(
    "ids", [[(0, 20), (0, 20)], [(0, 20), (20, 40)], [(0, 20), None]], ids=["same", "other", "none"]
)
def test_a_run_that_is_not_complete_is_refused_or_filled(ids):
    """Of two cells of forty members, each with twenty or none of its own."""
    grid = ncsim.config_grid(learning_rate=[0.003, 0.01], members=40, steps=5)
    folder, kept = RunFolder.create("part", grid), [made_up(config, seed) for seed, config in enumerate(grid)]
    for config, records, there in zip(grid, kept, ids, strict=True):
        if there is not None:
            folder.write_part(config, records.take(slice(*there)))
            TrajectoryFolder(folder).write_recorded(config, some_trajectories(there[0], 20), RECORDING)
    run = ncsim.open_run("part")
    missing = 60 if None in ids else 40
    for method in (run.to_xarray, run.to_datatree):
        words = f"{method.__name__}: {missing} members are still to be trained; allowed: incomplete='nan', or a complete run"
        with pytest.raises(ConfigError) as caught:
            method()
        assert str(caught.value) == words
    if ids[0] != ids[1]:
        for read in (lambda: run.counts, run.statistics):
            with pytest.raises(
                StoreError, match=r"^part: cells hold different members; resume the run, or use records"
            ):
                read()
    tree = run.to_datatree(incomplete="nan")
    assert sorted(tree.children) == ["records", "statistics", "trajectories"]
    for config, records, there in zip(grid, kept, ids, strict=True):
        for name in ("records", "trajectories"):
            own = tree[name].ds.counts.sel(learning_rate=config.learning_rate)
            held = own.notnull().any([each for each in own.dims if each != "member"])
            assert own.member.values[held].tolist() == ([] if there is None else list(range(*there)))
        if there is not None:
            counts = tree["records"].ds.counts.sel(
                learning_rate=config.learning_rate, member=slice(there[0], there[1] - 1)
            )
            assert np.array_equal(counts.values.reshape(20, 4, 4), records.counts[slice(*there)])


def test_another_word_for_incomplete_is_refused(run):
    with pytest.raises(ConfigError, match=r"^to_xarray: incomplete: 'drop'; allowed: refuse, nan$"):
        run.to_xarray(incomplete="drop")


@pytest.mark.parametrize(
    ("method", "name"),
    [("to_pandas", "pandas"), ("to_polars", "polars"), ("to_xarray", "xarray"), ("to_datatree", "xarray")],
)
def test_a_missing_package_is_named(run, method, name, monkeypatch):
    def without(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigError, match=rf"^{method}: {name} is not installed; allowed after: pip install {name}$"):
        getattr(run, method)()


# ---------------------------------------------------------------------------------------------------------- formats


def test_what_does_not_follow_from_the_counts_is_refused(run):
    """A part that somebody wrote anew with another S, or of another axis value, sealed as ours are."""
    folder = RunFolder.open("run")
    other = dataclasses.replace(GRID[0], learning_rate=0.5)
    from ncsim.storage.parts import MEMBERS, from_bytes, to_bytes

    def part(change):
        layout = dataclasses.replace(
            MEMBERS.layout(), to_table=lambda *given: change(MEMBERS.layout().to_table(*given))
        )
        return to_bytes(layout, MEMBERS.key, run.records(0), GRID[0], run.swept)

    def changed(name, values):
        return lambda table: table.set_column(table.column_names.index(name), name, [values])

    name = folder.parts(GRID[0])[0].name
    assert from_bytes(MEMBERS, part(lambda table: table), name, GRID[0])[1]
    s = run.to_pandas()["S"][:40].to_numpy()
    for change, words in (
        (changed("S", s + 0.125), "has statistics that are not those of its counts"),
        (changed("learning_rate", np.full(40, other.learning_rate)), "has another learning_rate than its config"),
        (lambda table: table.drop_columns("S"), "is torn"),
    ):
        with pytest.raises(ncsim.StoreError, match=words):
            from_bytes(MEMBERS, part(change), name, GRID[0])


def test_a_folder_goes_on_in_the_format_that_it_was_begun_in():
    folder = RunFolder.create("old", GRID)
    stored = json.loads((folder.path / "config.json").read_bytes())
    assert stored["format"] == FORMAT
    stored.pop("checksum")
    (folder.path / "config.json").write_bytes(described(stored | {"format": 2}))
    (folder.path / "config-copy.json").unlink()
    longer = [dataclasses.replace(config, members=50) for config in GRID]
    folder = RunFolder.create("old", longer)
    name = folder.write_part(longer[0], made_up(longer[0], 0))
    assert name.startswith("parts/learning_rate=0.003/")
    assert json.loads((folder.path / "config.json").read_bytes())["format"] == 2
    assert (
        TrajectoryFolder(folder)
        .write_recorded(longer[0], some_trajectories(0, 50), RECORDING)
        .startswith("trajectories/learning_rate=")
    )
    run = ncsim.open_run("old")
    assert np.array_equal(run.records(0).counts, made_up(longer[0], 0).counts)
    assert run.to_pandas()["learning_rate"].tolist() == [0.003] * 50
