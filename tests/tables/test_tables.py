"""Published tables, from a file to what is said of them; and every file that is no table, refused by its row."""

import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import ncsim
from ncsim.cli import main
from ncsim.cli.words import _constant
from ncsim.errors import DataError
from ncsim.statistics.contextuality import contextuality_measures
from ncsim.statistics.locality_tests import STRATEGIES
from ncsim.tables import describe, lines, read_table, reading

PEOPLE = Path(__file__).resolve().parents[2] / "experiments" / "tables" / "animal_acts_people.csv"
HEAD = "alice,bob,++,+-,-+,--\n"
BOX = HEAD + "A,B,4,0,0,4\nA,B',4,0,0,4\nA',B,4,0,0,4\nA',B',0,4,4,0\n"


def made(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_table(tmp_path / name)


def test_people_s_table_to_all_printed_digits():
    """arXiv:2511.21731, table 1, and Delta = -3.357 of Dzhafarov, Zhang and Kujala 2016 from rounded shares."""
    found = describe(read_table(PEOPLE))
    assert found["s"] == pytest.approx(196 / 81)
    assert found["influence"] == pytest.approx(306 / 81)
    assert found["contextuality"] == pytest.approx(-3.3580, abs=5e-5)
    assert found["s_factorised"] == pytest.approx(1.1187, abs=5e-5)
    assert np.round(found["correlator"], 4).tolist() == [[0.6296, 0.6543], [0.358, -0.7778]]
    assert found["signalling"]
    assert found["verdict"] == "S above 2, explained by direct influence"
    assert found["contextuality_interval"][1] < 0
    assert found["items"] == [[81, 81], [81, 81]]


def test_a_pr_box_in_both_forms_and_as_probabilities(tmp_path):
    wide = made(tmp_path, BOX)
    cells = "alice,bob,a,b,{}\n" + "".join(
        f"{a},{b},{x},{y},{{{(x == y) != (a == b == 'second')}}}\n"
        for a in ("first", "second")
        for b in ("first", "second")
        for x in ("yes", "no")
        for y in ("yes", "no")
    )
    counts = made(tmp_path, cells.replace("{}", "count").replace("{True}", "4").replace("{False}", "0"))
    shares = made(
        tmp_path, "# PR box\n" + cells.replace("{}", "probability").replace("{True}", "0.5").replace("{False}", "0")
    )
    for table in (wide, counts, shares):
        found = describe(table)
        assert (found["s"], found["influence"], found["contextuality"]) == (4, 0, 2)
        assert found["contextual_fraction"] == pytest.approx(1)
        assert not found["quantum_correlators"]
        assert ("verdict" in found) == table.counted
    assert "and no quantum state has it" in "\n".join(lines(wide, describe(wide)))
    assert "nothing is said of chance" in "\n".join(lines(shares, describe(shares)))


@pytest.mark.parametrize(("m", "n"), [(2, 2), (3, 3), (2, 3), (3, 2)])
def test_what_is_said_of_any_counts_is_the_definition(tmp_path, m, n):
    """Row by row, in whole numbers and fractions: +1 is the first outcome, 2 of Alice's and yes of Bob's, which are named last."""
    counts = np.random.default_rng(m + 10 * n).integers(1, 30, (m, n, 2, 2)).tolist()  # a = 1, 2; b = no, yes
    cells = itertools.product(range(m), range(n), (0, 1), (1, 0))
    rows = [f"A{i},B{j},{a + 1},{('no', 'yes')[b]},{counts[i][j][a][b]}\n" for i, j, a, b in cells]
    table = made(tmp_path, "alice,bob,a,b,count\n" + "".join(rows))
    found = describe(table)
    assert table.outcomes == (("2", "1"), ("yes", "no"))
    assert json.dumps(found["items"]) == json.dumps(
        [[sum(map(sum, cell)) for cell in row] for row in counts]
    )  # as whole numbers
    marginals = {"A": [[] for _ in range(m)], "B": [[] for _ in range(n)]}
    e = {}
    printed = [line.split() for line in lines(table, found)[4 : 4 + m * n]]
    for i, j in itertools.product(range(m), range(n)):
        items = sum(map(sum, counts[i][j]))
        alice = Fraction(sum(counts[i][j][1]) - sum(counts[i][j][0]), items)
        bob = Fraction(sum(row[1] - row[0] for row in counts[i][j]), items)
        e[i, j] = Fraction(counts[i][j][0][0] + counts[i][j][1][1] - counts[i][j][0][1] - counts[i][j][1][0], items)
        marginals["A"][i].append(alice)
        marginals["B"][j].append(bob)
        assert found["items"][i][j] == items
        numbers = [found[name][i][j] for name in ("mean_alice", "mean_bob", "correlator")]
        assert numbers == pytest.approx([float(alice), float(bob), float(e[i, j])], abs=1e-14)
        assert printed[i * n + j] == [
            f"A{i}",
            f"B{j}",
            str(items),
            *(f"{float(x):+.4f}" for x in (alice, bob, e[i, j])),
        ]
    apart = [max(values) - min(values) for values in marginals["A"] + marginals["B"]]
    assert found["largest_difference_of_marginals"] == pytest.approx(float(max(apart)) / 2)
    assert ("s" in found, "chained" in found, "minus" in found) == (m == n == 2, m == n == 3, m == n)
    if m != n:
        return
    # The ring A1 B1 A2 B2 ... or, of three, A3 B1 A2 B2 A1 B3 A3: each setting is in two of its contexts.
    ring = [(0, 0), (0, 1), (1, 0), (1, 1)] if m == 2 else [(0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 2)]
    sums = {
        signs: sum(sign * e[place] for sign, place in zip(signs, ring, strict=True))
        for signs in itertools.product((1, -1), repeat=len(ring))
        if np.prod(signs) == -1
    }
    # Of each setting the two means in the ring's contexts.
    influence = sum(
        abs(float(means[0] - means[1]))
        for party, of in enumerate("AB")
        for own in range(m)
        for means in [[marginals[of][own][place[1 - party]] for place in ring if place[party] == own]]
    )
    best = max(sums, key=sums.get)
    assert found["s" if m == 2 else "chained"] == pytest.approx(float(sums[(1,) * (len(ring) - 1) + (-1,)]))
    assert found["influence"] == pytest.approx(influence)
    assert found["contextuality"] == pytest.approx(float(sums[best]) - (len(ring) - 2) - influence)
    assert found["minus"] == [f"A{m - 1}", f"B{m - 1}"]
    if m == 2:
        assert (found["s_odd"], found["s_odd_signs"]) == (pytest.approx(float(sums[best])), best)
        measures = contextuality_measures(np.array(counts))  # a = 2 and b = yes are number 1 there, too
        names = ["contextual_fraction", "signalling_fraction", "discounted_fraction", "cnt1", "cnt2", "cnt3", "ncnt2"]
        assert [found[name] for name in names] == pytest.approx([getattr(measures, name) for name in names], abs=1e-9)
        words = f"(signs {''.join('+' if sign > 0 else '-' for sign in best)})"
        assert any("largest CHSH sum" in line and line.endswith(words) for line in lines(table, found))


def test_probabilities_without_signalling_do_not_signal_by_their_rounding(tmp_path):
    """Mixtures of fixed answers, as a program prints them: marginals differ in the last bits."""
    for number, weights in enumerate(np.random.default_rng(0).dirichlet(np.ones(16), 10)):
        law = np.tensordot(weights, STRATEGIES, 1)[..., ::-1, ::-1]
        rows = [",".join([f"A{i}", f"B{j}", *map(repr, law[i, j].ravel().tolist())]) for i, j in np.ndindex(2, 2)]
        found = describe(made(tmp_path, HEAD + "\n".join(rows), f"{number}.csv"))
        assert (found["signalling"], found["local"], found["level_1"]) == (False, True, True)


def of_cells(form, names, cells, head="count"):
    """A file with a row per cell, of a table like a PR box with noise: cells in this order, named so."""
    text = f"alice,bob,a,b,{head}\n"
    for i, j in np.ndindex(2, 2):
        for a, b in cells:
            text += f"A{i},B{j},{names[0][a]},{names[1][b]},{form[int((a == b) != (i == j == 1))]}\n"
    return text


@pytest.mark.parametrize("names", [("+-", "+-"), (("+1", "-1"), ("1", "-1")), (("yes", "no"), ("yes", "no"))])
def test_rows_in_another_order_are_the_same_table(tmp_path, names):
    """Bob's -1 was +1 where the file named it first, and S had the other sign: -2.4 in half of the 24 orders."""
    for cells in itertools.permutations(itertools.product((0, 1), repeat=2)):
        table = made(tmp_path, of_cells((10, 40), names, cells))
        assert describe(table)["s"] == pytest.approx(2.4)
        if names[0][0] != "yes":
            assert table.outcomes == tuple(map(tuple, names))
    mixed = made(tmp_path, of_cells((10, 40), (("no", "yes"), ("+", "-")), [(0, 1), (0, 0), (1, 0), (1, 1)]))
    assert "+1 is no of Alice's outcomes and + of Bob's." in "\n".join(lines(mixed, describe(mixed)))


@pytest.mark.parametrize(
    ("alice", "bob"),
    [
        (("1", "-1"), ("1.0", "-1.0")),  # of a column of whole numbers and one that had a gap
        (("1", "0"), ("True", "False")),
        (("TRUE", "FALSE"), ("true", "false")),  # R and polars
        (("right", "wrong"), ("Right", "Wrong")),
        (("+1", "\u22121"), ("+", "-")),
        (("1", "0"), ("1", "-1")),
    ],
)
def test_outcomes_that_are_written_in_two_ways_are_the_same(tmp_path, alice, bob):
    """Each party's rows decided on its +1: S was -2.4 in half of the orders, which pandas and polars give at random."""
    for cells in itertools.permutations(itertools.product((0, 1), repeat=2)):
        table = made(tmp_path, of_cells((10, 40), (alice, bob), cells))
        assert describe(table)["s"] == pytest.approx(2.4)
        places = [names.index(outcomes[0]) for names, outcomes in zip((alice, bob), table.outcomes, strict=True)]
        assert places[0] == places[1]
        assert alice[0] == "right" or places[0] == 0  # numbers and truth values need no order


def test_names_of_one_party_that_differ_in_writing_alone_are_two_outcomes(tmp_path):
    table = made(tmp_path, of_cells((10, 40), (("h", "H"), ("H", "h")), list(itertools.product((0, 1), repeat=2))))
    assert table.outcomes == (("h", "H"), ("h", "H"))
    assert describe(table)["s"] == pytest.approx(-2.4)


def test_where_the_minus_stands_is_told(tmp_path):
    """pandas' value_counts begins with the most frequent row: S was another sum, and only the signs of the largest said so."""
    rows = [f"A{i},B{j},4,0,0,4" if i + j < 4 else f"A{i},B{j},0,4,4,0" for i in (1, 2) for j in (1, 2)]
    for order in itertools.permutations(range(4)):
        table = made(tmp_path, HEAD + "\n".join(rows[n] for n in order))
        found = describe(table)
        alice, bob = found["minus"]
        assert found["s"] == (4 if (alice, bob) == ("A2", "B2") else 0)
        words = f"  S has its minus at {alice} with {bob}; --alice and --bob order settings."
        assert words in lines(table, found)
        assert describe(table.chosen(["A1", "A2"], ["B1", "B2"]))["s"] == 4
    chain = made(tmp_path, HEAD + "\n".join(f"X{i},Y{j},3,1,1,3" for i in (3, 1, 2) for j in (2, 3, 1)))
    assert "  The chained sum has its minus at X2 with Y1; --alice and --bob order settings." in lines(
        chain, describe(chain)
    )


def test_one_item_in_each_context_is_a_count_where_the_file_says_count(tmp_path):
    """They were taken for probabilities, of which nothing is said of chance."""
    text = "alice,bob,a,b,{}\n" + "".join(
        f"A{i},B{j},{a},{b},{int(a == b == '+')}\n" for i in (1, 2) for j in (1, 2) for a in "+-" for b in "+-"
    )
    found = describe(made(tmp_path, text.replace("{}", "count")))
    assert found["items"] == [[1, 1], [1, 1]]
    assert found["s_interval"][0] < 0 < found["s"] == 2
    assert describe(made(tmp_path, text.replace("{}", "probability")))["items"] is None


def test_lines_without_anything_and_comments_are_passed_over_and_counted(tmp_path):
    first, *rest = BOX.splitlines()
    text = "# a table\n\n" + first + "\n  \n" + "\n#\n\n".join(rest) + "\n\n"
    assert np.array_equal(made(tmp_path, text).values, made(tmp_path, BOX, "plain.csv").values)
    with pytest.raises(DataError, match=r": row 11: 'four'; allowed"):
        made(tmp_path, text.replace("A',B,4", "A',B,four"))


def test_a_largest_sum_that_is_contextual_is_so_wherever_the_minus_stands(tmp_path):
    turned = made(tmp_path, BOX.replace("4", "4000")).chosen(["A'", "A"], ["B'", "B"])
    found = describe(turned)
    assert (found["s"], found["s_odd"]) == (0, 4)
    assert found["verdict"] == "contextual beyond direct influence"


def test_a_file_that_is_too_long_is_not_read_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", len(BOX))
    assert made(tmp_path, BOX).alice == ("A", "A'")
    for more in ("#", "A'',B,4,0,0,4\nA'',B',4,0,0,4\n"):
        with pytest.raises(DataError, match=f"more than {len(BOX)} characters; allowed: a table of joint outcomes"):
            made(tmp_path, BOX + more)


def test_means_that_are_all_but_certain_are_not_shown_as_certain(tmp_path):
    """2 in 100,000 answers of each are others: a mean of -0.99996, and products alike."""
    table = made(tmp_path, HEAD + "".join(f"A{i},B{j},1,1,1,99997\n" for i in (1, 2) for j in (1, 2)))
    assert "A1 B1 100,000 -0.99996 -0.99996 +0.99996" in " ".join("\n".join(lines(table, describe(table))).split())


def test_a_context_of_one_item_beside_others_makes_no_probabilities(tmp_path):
    """Whole numbers are counts unless every context adds up to 1."""
    table = made(tmp_path, HEAD + "A0,B0,1,0,0,0\nA0,B1,3,1,1,3\nA1,B0,0,0,0,1\nA1,B1,2,2,2,2\n")
    assert describe(table)["items"] == [[1, 8], [1, 8]]


def test_a_largest_sum_above_2_is_in_the_verdict_wherever_the_minus_stands(tmp_path):
    """S is 0 and another of the eight sums 2.4: with the settings in another order S itself is that."""
    table = made(tmp_path, of_cells((10, 40), ("+-", "+-"), list(itertools.product((0, 1), repeat=2))))
    turned = describe(table.chosen(["A1", "A0"], ["B1", "B0"]))
    assert turned["s"] <= 2 < turned["s_odd"]
    assert turned["verdict"] == "S not above 2; the largest CHSH sum is: above 2, not shown to exceed direct influence"
    assert describe(table)["verdict"] == "S above 2, not shown to exceed direct influence"


def test_what_rounding_may_do_is_told_and_is_enough(tmp_path):
    """Tables without signalling at Tsirelson's bound, rounded: S, Delta and means are off by no more than is said."""
    rng = np.random.default_rng(5)
    for number in range(30):
        c = np.array([[1, 1], [1, -1]]) * np.sqrt(0.5) * rng.uniform(0.8, 1)
        a, b = rng.uniform(-0.1, 0.1, 2), rng.uniform(-0.1, 0.1, 2)
        x, y = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
        law = (1 + a[:, None, None] * x + b[None, :, None] * y + c[..., None] * x * y) / 4
        rows = [",".join([f"A{i}", f"B{j}", *(f"{value:.3f}" for value in law[i, j])]) for i, j in np.ndindex(2, 2)]
        table = made(tmp_path, HEAD + "\n".join(rows), f"{number}.csv")
        found, off = describe(table), describe(table)["rounding"]
        assert off["decimals"] == 3
        true = c[0, 0] + c[0, 1] + c[1, 0] - c[1, 1]
        assert abs(found["s"] - true) <= off["s"] <= 0.02
        assert abs(found["contextuality"] - (true - 2)) <= off["contextuality"] == pytest.approx(3 * off["s"])
        assert "if rounded, S may be off by 0.0" in "\n".join(lines(table, found))
    words = "0.1000000000,0.4000000000,0.4000000000,0.1000000000"
    exact = made(tmp_path, HEAD + "".join(f"A{i},B{j},{words}\n" for i in "01" for j in "01"))
    no_sum = made(tmp_path, HEAD + "".join(f"A{i},B{j},0.1,0.4,0.4,0.1\n" for i in "01" for j in "012"))
    assert no_sum.rounding == pytest.approx(0.2)
    assert "rounding" not in describe(no_sum)  # neither S nor a chained sum is said
    assert "rounding" not in describe(exact)


def test_each_cell_is_rounded_to_its_own_decimals(tmp_path):
    """A cell with many decimals made all others exact: S was "off by 0.0008" where 0.4 might be 0.449 and 0.1 be 0.051."""
    rng = np.random.default_rng(7)
    worst = 0.0
    for number in range(20):
        e = rng.uniform(-0.049, 0.049, 4)
        law = np.stack([0.4 + e, 0.1 - e, 0.2 + 0 * e, 0.3 + 0 * e], axis=-1)
        rows = [f"A{n // 2},B{n % 2},{row[0]:.1f},{row[1]:.1f},{row[2]:.4f},{row[3]:.4f}" for n, row in enumerate(law)]
        found = describe(made(tmp_path, HEAD + "\n".join(rows), f"{number}.csv"))
        c = law @ [1, -1, -1, 1]
        off = abs(found["s"] - (c[0] + c[1] + c[2] - c[3]))
        assert off <= found["rounding"]["s"]
        assert found["rounding"]["decimals"] == 1
        worst = max(worst, off)
    assert worst > 8 * 1e-4  # which four decimals in each cell leave open
    mixed = made(tmp_path, HEAD + "".join(f"A{i},B{j},0.4,0.1000,0.1000,0.4000\n" for i in "01" for j in "01"))
    assert mixed.rounding == pytest.approx(0.05 + 3 * 0.00005)
    whole = made(tmp_path, HEAD + "".join(f"A{i},B{j},0.93,0.070,0,0\n" for i in "01" for j in "01"))
    assert whole.rounding == pytest.approx(3 * 0.005 + 0.0005)


def test_words_on_a_largest_sum_follow_from_the_interval(tmp_path):
    """Delta is below 0 and its interval reaches above: that direct influence explains S is not shown."""
    rows = ["A0,B0,60,15,5,20", "A0,B1,44,6,6,44", "A1,B0,44,6,6,44", "A1,B1,12,38,38,12"]
    found = describe(made(tmp_path, HEAD + "\n".join(rows)))
    assert found["s"] > 2
    assert found["contextuality_interval"][0] < found["contextuality"] < 0 < found["contextuality_interval"][1]
    assert found["verdict"] == "S above 2, not shown to exceed direct influence"


def test_fixed_answers_are_not_rounded_and_an_exponent_may_be_any(tmp_path):
    """S of a table of 0 and 1 might have been "off by 8 and Delta by 24"; an exponent that decimal has not was a traceback."""
    fixed = made(tmp_path, HEAD + "".join(f"A{i},B{j},1,0,0,0\n" for i in "01" for j in "01"))
    assert (fixed.decimals, describe(fixed)["s"], describe(fixed)["items"]) == (None, 2, None)
    assert "rounding" not in describe(fixed)
    for tiny in ("1e-99999999999999999999", "0e-" + "9" * 5000):
        half, none = "0.500000000000", "0.000000000000"
        text = HEAD + "".join(f"A{i},B{j},{half},{tiny},{none},{half}\n" for i in "01" for j in "01")
        table = made(tmp_path, text)
        assert describe(table)["s"] == 2
        assert "rounding" not in describe(table)


@pytest.mark.parametrize(
    ("correlator", "bias", "kind"),
    [
        (0.5, 0.0, "local; its four correlators some quantum state has"),
        (
            0.7,
            0.0,
            "not local, not excluded by level 1 of the NPA hierarchy; its four correlators some quantum state has",
        ),
        (0.8, 0.0, "not local, and no quantum state has it; its four correlators no quantum state has"),
        (0.5, 0.2, "it signals; its four correlators some quantum state has"),
        (0.8, 0.2, "it signals; its four correlators no quantum state has"),
    ],
)
def test_the_kind_of_a_noisy_pr_box(tmp_path, correlator, bias, kind):
    """S of four times the correlator: local up to 2, quantum up to 2 sqrt 2 (Tsirelson 1980). With a bias Alice tells Bob's setting."""
    rows = ""
    for i, j in np.ndindex(2, 2):
        c, a = correlator * (1 - 2 * (i and j)), bias * j
        cells = [(1 + a * x + c * x * y) / 4 for x in (1, -1) for y in (1, -1)]
        rows += f"A{i},B{j}," + ",".join(f"{cell:.12f}" for cell in cells) + "\n"
    table = made(tmp_path, HEAD + rows)
    assert f"  kind                 {kind}" in lines(table, describe(table))


def test_the_kind_of_counts_is_of_what_was_counted(tmp_path):
    """One item more on one side: counts signal, as nearly all samples do, and no test finds that accuracies differ."""
    table = made(tmp_path, HEAD + "A0,B0,21,9,10,20\nA0,B1,20,10,10,20\nA1,B0,20,10,10,20\nA1,B1,10,20,20,10\n")
    found = describe(table)
    assert min(test["p_holm"] for test in found["signalling_tests"]) == 1
    assert "  kind, as counted     it signals; its four correlators some quantum state has" in lines(table, found)


def test_settings_are_chosen_and_ordered():
    """Another order moves the minus: S is one of the eight sums, and Delta stays."""
    table = read_table(PEOPLE)
    turned = describe(table.chosen(["Horse/Bear", "Tiger/Cat"], None))
    assert turned["s"] == pytest.approx(0.6296 + 0.358 - 0.7778 - 0.6543, abs=1e-3)
    assert turned["contextuality"] == pytest.approx(-3.3580, abs=5e-5)
    one = table.chosen(["Horse/Bear"], None)
    assert (one.alice, one.bob) == (("Horse/Bear",), ("Snorts/Meows", "Growls/Whinnies"))
    assert np.array_equal(one.values, table.values[table.alice.index("Horse/Bear")][None])
    for wrong in (["Dog"], ["Tiger/Cat", "Tiger/Cat"]):
        with pytest.raises(DataError, match=r"^--alice: .*allowed: each of Tiger/Cat, Horse/Bear once"):
            table.chosen(wrong, None)


def test_the_same_items_have_p_values_of_their_own(tmp_path):
    """They were those of four independent samples, beside intervals that said otherwise."""
    table = made(tmp_path, BOX.replace("4", "40"))
    apart, same = describe(table), describe(table, same_items=True)
    assert apart["locality_p_value"] == pytest.approx(np.exp(-80 * 4 / 8))
    assert same["locality_p_value"] == pytest.approx(np.exp(-80 * 4 / 32))
    assert "signalling_tests" in apart
    assert "signalling_tests" not in same
    text = "\n".join(lines(table, same))
    assert "accuracies alike     not told by counts of the same items" in text
    assert "one joint law        p = 4.5e-05 (Hoeffding)" in text


def test_a_table_of_more_settings_than_can_be_tried_is_one_line(tmp_path, capsys):
    """Nine settings and more ended in a traceback."""
    rows = "".join(f"{i},{j},4,0,0,4\n" for i in range(9) for j in range(9))
    table = made(tmp_path, HEAD + rows)
    assert describe(table.chosen("01", "01"))["s"] == 2
    with pytest.raises(SystemExit) as caught:
        main(["table", str(tmp_path / "table.csv")])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "9 x 9 settings with 2 x 2 outcomes have 262,144 assignments; allowed: 65,536, so choose settings by --alice and --bob"
    )


def test_three_settings_are_chained(tmp_path):
    """Quantum angles of the chained inequality of three settings: 6 cos(pi / 6), Delta 1.196, which is the ring's."""
    rows = []
    for i in range(3):
        for j in range(3):
            # A_i at (2 - i) pi / 3, B_j at (j + 1/2) pi / 3: neighbours of the ring are pi / 6 apart.
            c = np.cos((2 - i) * np.pi / 3 - (j + 0.5) * np.pi / 3)
            rows.append(
                f"{i},{j}," + ",".join(f"{x:.9f}" for x in ((1 + c) / 4, (1 - c) / 4, (1 - c) / 4, (1 + c) / 4))
            )
    table = made(tmp_path, HEAD + "\n".join(rows) + "\n")
    found = describe(table)
    assert found["chained"] == pytest.approx(6 * np.cos(np.pi / 6), abs=1e-6)
    assert found["contextuality"] == pytest.approx(found["chained"] - 4, abs=1e-6)
    assert found["influence"] == pytest.approx(0, abs=1e-6)
    assert "chained inequality   5.1962" in "\n".join(lines(table, found))


def test_three_outcomes(tmp_path):
    text = "alice,bob,a,b,count\n"
    for a in "XY":
        for b in "UV":
            for x in range(3):
                for y in range(3):
                    text += f"{a},{b},{x},{y},{6 * ((x + (a + b == 'YV')) % 3 == y)}\n"
    table = made(tmp_path, text)
    found = describe(table)
    assert found["contextual_fraction"] == pytest.approx(1)
    assert "s" not in found
    assert lines(table, found)
    with pytest.raises(ValueError, match="two each"):
        _ = table.joint_counts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 rows"),
        (HEAD, "table.csv: 1 row; allowed: a first row of names and at least one other"),
        (
            "alice;bob;a;b;probability\nA;B;+;+;0,5\n",
            "its first row is alice;bob;a;b;probability; allowed: alice,bob,a,b,count or ",
        ),
        ("alice,bob,count\nA,B,4\n", "its first row is alice,bob,count; allowed: "),
        (BOX.replace("4,0,0,4", "4,0,0", 1), "row 2 has 5 cells; allowed: 6"),
        (BOX.replace("A,B,4,0,0,4", "A", 1), "row 2 has 1 cell; allowed: 6"),
        (BOX.replace("A,B,4", "A,B,-4", 1), "row 2: '-4'; allowed: a number, 0 or above"),
        (BOX.replace("A,B,4", "A,B,four", 1), "row 2: 'four'"),
        (BOX.replace("A,B,4", "A,B,nan", 1), "row 2: 'nan'"),
        (BOX.replace("A',B',0,4,4,0", "A',B',0,0,0,0"), "row 5: A', B' has no items"),
        (
            BOX.replace("A',B',0,4,4,0\n", ""),
            "no row of A', B', +, +; allowed: every outcome in every pair of settings",
        ),
        (
            "alice,bob,a,b,count\nA,B,x,u,3\nA,B,x,v,1\nA,B,y,v,1\nA,B,z,u,1\nA,B,z,v,1\n",
            "no row of A, B, y, u; allowed",
        ),
        (BOX.replace("A,B',4", "A,B,4", 1), "row 3: A, B, "),
        (BOX.replace("A,B,4,0,0,4", "A,B,0.5,0,0,0.4", 1), "row 2: A, B adds up to 0.9; allowed"),
        (BOX.replace("4", "1e20"), "8e+20 items; allowed: fewer than 2^53 in all, or probabilities"),
        (BOX.replace("A,B,4", "A,B," + "4" * 140_000, 1), "row 2 has a cell of more than 131,072 characters; allowed"),
        (BOX.replace("A,B,4", ",B,4", 1), "row 2: a setting or outcome without a name"),
        ("alice,bob,a,b,count\nA,B,x,x,3\n", "Alice has one outcome alone (x); allowed: two or more"),
        ("alice,bob,a,b,count\nA,B,x,x,3\nA,B,x,y,1\n", "Alice has one outcome alone (x); allowed: two or more"),
        ("alice,bob,a,b,count\nA,B,x,y,3\nA,B,y,y,1\n", "Bob has one outcome alone (y); allowed: two or more"),
        ("alice,bob,a,b,probability\nA,B,x,x,3\nA,B,x,y,1\nA,B,y,x,1\nA,B,y,y,1\n", "row 2: A, B adds up to 6"),
    ],
)
def test_what_is_no_table_is_one_line_that_names_the_row(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        made(tmp_path, text)
    assert words in str(caught.value)
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"alice,\xff")
    for name, words in [("none.csv", "No such file"), ("latin.csv", "not UTF-8"), (".", "directory")]:
        with pytest.raises(DataError, match=words):
            read_table(tmp_path / name)


def test_the_commands(tmp_path, capsys):
    main(["table", str(PEOPLE)])
    printed = capsys.readouterr().out
    assert "  S                    2.4198  95 % [2.0141, 2.7601]" in printed
    assert printed.endswith("S above 2, explained by direct influence.\n")
    main(["table", str(PEOPLE), "--json", "--bob", "Growls/Whinnies", "Snorts/Meows"])
    assert json.loads(capsys.readouterr().out)["bob"] == ["Growls/Whinnies", "Snorts/Meows"]
    (tmp_path / "text.txt").write_text("the cat and the dog and the bird saw it, and it saw the cat " * 30)
    main(["words", str(tmp_path / "text.txt"), "--splits", "2"])
    printed = capsys.readouterr().out
    assert printed.startswith("450 words of 7 kinds; energy (rank - 1)^1, in all ")
    main(["words", str(tmp_path / "text.txt"), "--splits", "2", "--json", "--exponent", "0.8"])
    found = json.loads(capsys.readouterr().out)
    assert found["exponent"] == 0.8
    assert set(found["held_out"]) == {"bose_einstein", "maxwell_boltzmann", "zipf_mandelbrot"}


def test_constants_of_a_long_text_have_digits(tmp_path, capsys):
    """Counts that fall by 100 a rank are exp(-E / D) / C with C = 1 / 90,000 and D = 1 / ln 100. C was printed as 0.00001, which is
    100,000 words."""
    (tmp_path / "long.txt").write_text("a " * 90_000 + "b " * 900 + "c " * 9)
    main(["words", str(tmp_path / "long.txt"), "--splits", "2"])
    c, d = re.search(r"exp\(-E / D\) / C, C = (\S+), D = (\S+)\n", capsys.readouterr().out).groups()
    assert float(c) == pytest.approx(1 / 90_000, rel=1e-4)
    assert float(d) == pytest.approx(1 / math.log(100), rel=1e-4)
    numbers = {0.344518: "0.34452", 17.42: "17.420", 57509.5344: "57509.534", 2e-7: "2.0000e-07"}
    assert {number: _constant(number) for number in numbers} == numbers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table", "none.csv"], "none.csv: cannot be read (No such file or directory)"),
        (["table", str(PEOPLE), "--bob", "Barks"], "--bob: Barks; allowed: each of Snorts/Meows, Growls/Whinnies once"),
        (["words", "none.txt"], "none.txt: cannot be read"),
        (["words", str(PEOPLE), "--exponent", "0"], "--exponent: 0; allowed: a number above 0 and at most 3"),
        (["words", str(PEOPLE), "--splits", "1"], "--splits: 1; allowed: a whole number from 2 to 1000"),
        (["words", str(PEOPLE), "--seed", "-1"], "--seed: -1; allowed"),
        (["words", str(PEOPLE), "--seed", "x"], "--seed: x; allowed: a whole number, 0 or above"),
        (["words", str(PEOPLE), "--splits", "1.5"], "--splits: 1.5; allowed: a whole number from 2 to 1000"),
        (["words", str(PEOPLE), "--exponent", "x"], "--exponent: x; allowed: a number above 0 and at most 3"),
    ],
)
def test_wrong_commands_are_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ncsim: error: {words}")


def test_a_text_of_one_kind_of_word_is_told_what_it_lacks(tmp_path, capsys):
    """It said "1 words of 1 kinds; allowed: above 0 and below 0"."""
    for text, words in [("rose", "1 word"), ("rose rose", "2 words")]:
        (tmp_path / "rose.txt").write_text(text)
        with pytest.raises(SystemExit):
            main(["words", str(tmp_path / "rose.txt")])
        said = "allowed: above 0 and below that of equal counts, of two kinds or more"
        assert capsys.readouterr().err.endswith(f"energy: 0 for {words} of 1 kind; {said}\n")


def test_a_p_value_that_no_float_has_stands_behind_one_sign(tmp_path):
    """It was "p = < 1e-300"."""
    table = made(tmp_path, BOX.replace("4", "400000").replace("400000,0", "400000,1", 1))
    text = "\n".join(lines(table, describe(table)))
    assert "one joint law        p < 1e-300 (Hoeffding)" in text
    table = made(tmp_path, BOX.replace("4", "400000").replace("0,0,400000", "0,0,1", 1))
    text = "\n".join(lines(table, describe(table)))
    assert "accuracies alike     p of A1 < 1e-300, A2 = 1, B1 < 1e-300, B2 = 1 (Holm)" in text
    assert "= <" not in text


def test_statistics_are_those_of_the_functions():
    counts = read_table(PEOPLE).joint_counts
    assert float(ncsim.chsh_statistics(counts).s) == describe(read_table(PEOPLE))["s"]


@pytest.mark.parametrize(
    ("last", "s", "delta", "said"),
    [
        # Three contexts of correlator 1; the fourth is less by 2 in 50,000: S is above 2 by as much, and no accuracy differs.
        ("499990000000,10000000,10000000,499990000000", "2.00004 ", "4e-05 ", "Contextual beyond direct influence"),
        ("500000000000,0,0,500000000000", "2.0000 ", "0.0000 ", "S not above 2"),
    ],
)
def test_what_a_verdict_is_about_is_shown(tmp_path, last, s, delta, said):
    alike = "500000000000,0,0,500000000000"
    table = made(tmp_path, f"{HEAD}A,B,{alike}\nA,B',{alike}\nA',B,{alike}\nA',B',{last}\n")
    text = lines(table, describe(table))
    shown = {line.strip().split("  ")[0]: line[23:] for line in text if line.startswith("  ")}
    assert shown["S"].startswith(s)
    assert shown["Delta"].startswith(delta)
    assert text[-1] == f"  {said}."
    low, high = (float(word.strip("[,]")) for word in shown["S"].split()[3:5])
    assert (low > 2) == (said != "S not above 2")
    assert (low <= 2 <= high) == (said == "S not above 2")
