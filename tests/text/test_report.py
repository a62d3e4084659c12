"""What the report of a text run says, from counts whose truth is known."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact, hypergeom

from ncsim.statistics.contextuality_interval import contextuality_interval, s_interval
from ncsim.text.config import TextConfig
from ncsim.text.report import figures, write
from ncsim.text.report.figures import look, plot_s_and_test_accuracy, plot_s_by_epoch, plot_s_by_rank
from ncsim.text.report.summary import TextSummary, mean_slope, slope_window, summarise_text
from ncsim.text.report.write import DATA_COLUMNS, UNUSUAL, context_rows, data_rows, printed_text, sentences
from ncsim.text.results import open_text_run

STORED = Path(__file__).parents[1] / "fixtures" / "stored_runs" / "text"


@pytest.fixture
def told(monkeypatch):
    """The report's numbers where every evaluation has these joint counts, [i, j, a, b]."""
    run = open_text_run(STORED)
    shape = run.counts.shape[:4]

    def of(table):
        monkeypatch.setattr(run, "counts_and_missing", lambda: (np.broadcast_to(table, (*shape, 2, 2, 2, 2)), 0))
        return summarise_text(run).numbers

    return of


def with_wrong(items, alice, bob, both):
    """Counts of a context in which so many items are wrong, the same in all four contexts."""
    table = np.array([[both, alice - both], [bob - both, items - alice - bob + both]])
    return np.broadcast_to(table, (2, 2, 2, 2))


@pytest.mark.parametrize(("items", "alice", "bob"), [(256, 2, 12), (256, 4, 6), (64, 6, 1), (64, 20, 20), (256, 0, 9)])
def test_pairs_put_together_at_random_are_seldom_called_dependent(told, items, alice, bob):
    """Every way to pair the items of two heads with so many wrong answers, by its exact probability. Three standard errors were passed
    by 9 in 100 of them."""
    chance = 0.0
    for both in range(min(alice, bob) + 1):
        numbers = told(with_wrong(items, alice, bob, both))
        called = f"in 4 of 4 contexts (Fisher's exact test, p < {UNUSUAL}; pairing: shuffled)" in sentences(numbers)[1]
        assert called or "in 0 of 4 contexts" in sentences(numbers)[1]
        chance += called * hypergeom.pmf(both, items, alice, bob)
    assert chance <= UNUSUAL


def test_wrong_answers_on_the_same_items_are_called_dependent(told):
    numbers = told(with_wrong(256, 6, 6, 5))
    assert "in 4 of 4 contexts" in sentences(numbers)[1]
    # Five of six at once: C(6, 5) C(250, 1) / C(256, 6), and all six.
    expected = (6 * 250 + 1) / math.comb(256, 6)
    assert context_rows(numbers, "train")[0][-1] == f"{expected:.2g}"


def in_fractions(table):
    """What the report says of one table of counts, by its definitions."""
    found, means, correlators = {}, {}, {}
    for i, j in np.ndindex(2, 2):
        (neither, bob), (alice, both) = table[i, j].tolist()
        items = neither + bob + alice + both
        right = Fraction(alice + both, items), Fraction(bob + both, items)
        means[i, j] = one, other = 2 * right[0] - 1, 2 * right[1] - 1
        correlators[i, j] = Fraction(neither + both - bob - alice, items)
        found[f"A{i + 1}B{j + 1}"] = {
            "items": items,
            "accuracy_alice": right[0],
            "accuracy_bob": right[1],
            "correlator": correlators[i, j],
            "product_of_accuracies": one * other,
            "excess": correlators[i, j] - one * other,
            "excess_error": math.sqrt((1 - one**2) * (1 - other**2) / items),
            "excess_p": fisher_exact(table[i, j]).pvalue,
        }
    products = {place: one * other for place, (one, other) in means.items()}
    signs = {(0, 0): 1, (0, 1): 1, (1, 0): 1, (1, 1): -1}
    influence = sum(abs(means[i, 0][0] - means[i, 1][0]) + abs(means[0, i][1] - means[1, i][1]) for i in (0, 1))
    total = sum(correlators.values())
    odd = max(abs(total - 2 * c) for c in correlators.values())
    whole = {
        "s": sum(sign * correlators[place] for place, sign in signs.items()),
        "s_factorised": sum(sign * products[place] for place, sign in signs.items()),
        "influence": influence,
    }
    return found, whole, odd - 2 - influence


@pytest.mark.parametrize("seed", range(3))
def test_every_number_of_a_cell_is_that_of_its_counts(told, seed):
    shares = np.random.default_rng(seed).dirichlet(np.ones(4), 4)
    table = np.random.default_rng(seed).multinomial(97, shares).reshape(2, 2, 2, 2)
    contexts, whole, delta = in_fractions(table)
    for cell in told(table)["cells"]:
        assert list(cell["contexts"]) == list(contexts)
        for name, expected in contexts.items():
            assert cell["contexts"][name] == pytest.approx({key: float(value) for key, value in expected.items()})
        assert {key: cell[key] for key in whole} == pytest.approx({key: float(value) for key, value in whole.items()})
        assert cell["contextuality"]["value"] == pytest.approx(float(delta))


@pytest.mark.parametrize(("name", "interval"), [("s_interval", s_interval), ("contextuality", contextuality_interval)])
def test_intervals_are_of_contexts_that_have_items_in_common(told, name, interval):
    """Of the same items errors are not independent: limits are those that add them up, which are wider."""
    table = with_wrong(256, 20, 30, 6)
    (low, high), (near_low, near_high) = (
        (found.low, found.high) for found in (interval(table, same_items=same) for same in (True, False))
    )
    for cell in told(table)["cells"]:
        assert (cell[name]["low"], cell[name]["high"]) == (low, high)
        assert cell[name]["low"] < near_low < near_high < cell[name]["high"]


def test_the_mean_slope_of_a_rank_is_of_all_its_seeds(monkeypatch):
    """S rises by the same with each epoch; where a seed has none at the end, the rank has no mean."""
    run = open_text_run(STORED)
    run.config = dataclasses.replace(run.config, ranks=(4,), seeds=2)
    counts = np.broadcast_to(with_wrong(64, 6, 6, 1), (1, 2, len(run.epochs), 2, 2, 2, 2, 2)).copy()
    counts[:, 1, -1] = with_wrong(64, 0, 0, 0)
    monkeypatch.setattr(run, "counts_and_missing", lambda: (counts, 0))
    (slope,) = summarise_text(run).numbers["mean_slope_of_s"]
    rise = 2 - 2 * (1 - 2 * 10 / 64)
    assert slope == {
        "rank": 4,
        "seeds": pytest.approx([0, rise / run.epochs[-1]]),
        "mean": pytest.approx(rise / run.epochs[-1] / 2),
    }
    counts[0, 0, -1, :, 0, 1] = 0
    (slope,) = summarise_text(run).numbers["mean_slope_of_s"]
    assert (np.isnan(slope["seeds"][0]), slope["mean"]) == (True, None)


@pytest.mark.parametrize(
    ("epochs", "every", "last"), [(100, 7, 77), (80, 1, 80), (90, 40, 80), (12, 5, 12), (50, 50, 50), (100, 90, 0)]
)
def test_the_window_of_a_slope_ends_where_something_was_evaluated(epochs, every, last):
    """S = epoch^2 / 1000 rises by the window's length / 1000 per epoch."""
    evaluated = TextConfig(epochs=epochs, evaluate_every=every).evaluated_epochs
    assert slope_window(evaluated) == last
    slope = mean_slope(evaluated, np.square(evaluated) / 1000)
    np.testing.assert_allclose(slope, last / 1000 if last else np.nan)


def test_an_adapter_that_diverged_is_not_called_untrained(told):
    """Context 12 has no counts: of a run that is whole it has diverged, whatever the split. The other three are healthy."""
    table = with_wrong(256, 6, 6, 1).copy()
    table[0, 1] = 0
    numbers = told(table)
    why = "A1B2 diverged: a logit was not finite"
    said = sentences(numbers)
    assert said[:2] == [f"r=2 seed 0, train pairs: {why}.", f"r=2 seed 0, test pairs: {why}."]
    assert "not trained yet" not in printed_text(numbers)


def test_the_page_of_a_run_that_diverged_does_not_wait_for_it(monkeypatch):
    run = open_text_run(STORED)
    for missing, verdict in ((0, "of each some adapter diverged"), (4, "has all four contexts yet")):
        monkeypatch.setattr(run, "counts_and_missing", lambda n=missing: (np.zeros_like(run.counts), n))
        page = write._page(run, summarise_text(run), dict.fromkeys(write.FIGURES, ""))
        assert verdict in page
        assert ("not trained yet" in page) == bool(missing)


def test_what_follows_plus_minus_is_said(told):
    """sqrt((1 - a^2) (1 - b^2) / n) of means a, b = 1 - 2 x 6 / 256, beside a table whose other limits are at 95 %."""
    numbers = told(with_wrong(256, 6, 6, 1))
    mean = 1 - 2 * 6 / 256
    assert context_rows(numbers, "train")[0][-2].endswith(f"+- {(1 - mean**2) / 16:.4f}")
    assert "+- is one standard error" in sentences(numbers)[-1]


def test_majority_rates_are_those_of_training_and_of_test_items(told):
    numbers = told(with_wrong(256, 6, 6, 1))
    numbers["data"]["tasks"]["A1"]["majority_rate"] = {"train": 0.558, "test": 0.509}
    row = dict(zip(DATA_COLUMNS, data_rows(numbers)[0], strict=True))
    assert (row["majority rate"], row["of test items"]) == ("55.8%", "50.9%")


@pytest.mark.parametrize(("epochs", "words"), [(1, "1 epoch"), (2, "2 epochs"), (1_200, "1,200 epochs")])
def test_one_epoch_is_one(epochs, words):
    run = open_text_run(STORED)
    summary = summarise_text(run)
    summary.numbers["epochs"] = epochs
    assert f"Test pairs, after {words}:\n" in printed_text(summary.numbers)
    assert f", after {words}. " in write._page(run, summary, dict.fromkeys(write.FIGURES, ""))


def test_ranks_are_told_apart_in_figures():
    """The paper's ten ranks, of which the seventh had the line of the first; and an update without a rank, which is not rank 0."""
    for ranks in (2, 6, 7, 10, 30):
        assert len({look(number, ranks) for number in range(ranks)}) == ranks


@pytest.mark.parametrize("plot", [plot_s_by_rank, plot_s_by_epoch, plot_s_and_test_accuracy])
def test_each_figure_says_of_which_pairs_its_s_is(tmp_path, plot):
    run = open_text_run(STORED)
    plot(run, summarise_text(run), tmp_path / "figure")
    assert ">S on training pairs</text>" in (tmp_path / "figure.svg").read_text()


def drawn_of(run, monkeypatch, tmp_path, plot, counts, **fields):
    """The axes of a plot of a run with other counts, [ranks, seeds, i, j, a, b], at every epoch and split."""
    run.config = dataclasses.replace(run.config, **fields)
    shape = (*counts.shape[:2], len(run.epochs), 2, 2, 2, 2, 2)
    counts = np.broadcast_to(counts[:, :, None, None], shape)
    monkeypatch.setattr(run, "counts_and_missing", lambda: (counts, 0))
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_: kept.extend(figure.axes))
    plot(run, summarise_text(run), tmp_path / "figure")
    return kept


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_what_accuracies_alone_give_stands_beside_its_own_seed(tmp_path, monkeypatch, seeds):
    """S is 2 (1 - 2 n / 64) with n of 64 unequal in all contexts. With three seeds a cross was nearer to the next seed's dot."""
    tables = [with_wrong(64, 2 + n, 2, 1) for n in range(seeds)]
    axes = drawn_of(
        open_text_run(STORED), monkeypatch, tmp_path, plot_s_by_rank, np.array([tables]), ranks=(4,), seeds=seeds
    )
    marks = {kind: [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == kind] for kind in "ox"}
    apart = np.abs(np.subtract.outer(marks["x"], marks["o"]))
    assert apart.shape == (seeds, seeds)
    assert (apart.argmin(axis=1) == np.arange(seeds)).all()
    assert (np.diff(marks["o"]) > 0).all()
    assert apart.diagonal().min() > 0.01, "and not behind it"


def test_a_rank_of_which_a_seed_diverged_keeps_its_place_beside_the_others(tmp_path, monkeypatch):
    tables = np.array([[with_wrong(64, 6, 6, 1)] * 2] * 2)
    tables[1, 0, 0, 1] = 0
    run = open_text_run(STORED)
    _, right = drawn_of(run, monkeypatch, tmp_path, plot_s_by_epoch, tables, ranks=(4, 8), seeds=2)
    assert [patch.get_height() == 0 for patch in right.patches] == [True, False], "S does not rise, and has no mean"
    low, high = right.get_xlim()
    assert (low, high) == (-0.6, 1.6)
    assert "as far as all of them have S" in write.FIGURES["figure4"]


def test_an_epoch_that_alone_has_s_is_drawn(tmp_path, monkeypatch):
    """As where adapters diverge after epoch 0: a line of one point shows nothing."""
    run = open_text_run(STORED)
    counts = run.counts.copy()
    counts[:, :, 1:] = 0
    monkeypatch.setattr(run, "counts_and_missing", lambda: (counts, 0))
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_: kept.extend(figure.axes))
    plot_s_by_epoch(run, summarise_text(run), tmp_path / "figure")
    marked = [line for line in kept[0].lines if line.get_marker() == "o"]
    assert [np.isfinite(line.get_ydata()).sum() for line in marked] == [1]


def test_no_table_without_rows_is_printed_or_on_the_page(told):
    """Of a run of which all adapters diverged."""
    numbers = told(np.zeros((2, 2, 2, 2), int))
    run = open_text_run(STORED)
    page = write._page(run, TextSummary(numbers, None), dict.fromkeys(write.FIGURES, ""))
    for place in ("all", "contexts"):
        assert f'"{place}"' not in page, "no section"
        assert f"#{place}" not in page, "and nothing that leads to it"
    assert '<section id="data-sets">' in page
    assert "<script>" not in page, "it sorts and searches rows"
    printed = printed_text(numbers)
    assert "pairs, after" not in printed
    assert "accuracy A" not in printed
    assert "r=2 seed 0, test pairs: A1B1, A1B2, A2B1, A2B2 diverged" in printed


def test_whole_updates_are_called_full_in_figures(told, tmp_path, monkeypatch):
    run = open_text_run(STORED)
    counts = run.counts
    run.config = dataclasses.replace(run.config, adaptation="full", ranks=(0,))
    monkeypatch.setattr(run, "counts_and_missing", lambda: (counts, 0))
    summary = summarise_text(run)
    for plot in (plot_s_by_rank, plot_s_by_epoch, plot_s_and_test_accuracy):
        plot(run, summary, tmp_path / plot.__name__)
        drawn = (tmp_path / f"{plot.__name__}.svg").read_text()
        assert ">full</text>" in drawn
        assert "r = 0" not in drawn
