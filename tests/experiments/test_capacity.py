"""Certificates and networks of docs/capacity.md, checked by code that shares nothing with what found them."""

import gzip
import json
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest

from experiments import capacity
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS, PAPER_TASKS, S_SIGNS, encoded_inputs
from ncsim.training.network import Architecture
from tests.support import capacity_checker as checker
from tests.support.cases import first_fast


@pytest.fixture(scope="module")
def one_unit():
    return capacity.one_unit()


DATA = json.loads((capacity.FOLDER / "data" / "capacity.json").read_text())
FEW_WRONG = json.loads(gzip.decompress((capacity.FOLDER / "data" / "capacity-few-wrong.json.gz").read_bytes()))


def logits(network, rows):
    """In fractions, from the definition."""
    found = []
    for row in rows:
        hidden = [max(sum(map(Fraction.__mul__, unit[:4], row)) + unit[4], Fraction(0)) for unit in network[0]]
        found.append([sum(map(Fraction.__mul__, head[:-1], hidden)) + head[-1] for head in network[1:]])
    return found


def fractions(network):
    """Units, Alice's head, Bob's head."""
    heads = [list(map(Fraction, head)) for head in (network.alice, network.bob)]
    return [list(map(Fraction, unit)) for unit in network.units], *heads


def right(network, context, rows):
    """Right answers [16][2]."""
    targets = zip(PAPER_TASKS.alice[context[0]], PAPER_TASKS.bob[context[1]], strict=True)
    return [
        [logit > 0 if target else logit < 0 for logit, target in zip(pair, answers, strict=True)]
        for pair, answers in zip(logits(network, rows), targets, strict=True)
    ]


BITS = [list(map(Fraction, row)) for row in PAPER_TASKS.inputs]


@pytest.mark.parametrize("context", CONTEXTS)
def test_each_context_is_solved_by_so_many_units(context):
    network = fractions(capacity.SOLVED[context])
    assert len(network[0]) == 2 + sum(context)
    assert all(map(all, right(network, context, BITS)))


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_coding_by_signs_does_the_same(context):
    """x = (1 + s) / 2 is affine, feature by feature: half the weight, and the rest to the bias. What a unit does not see stays 0."""
    units, *heads = fractions(capacity.SOLVED[context])
    units = [[*(weight / 2 for weight in unit[:4]), unit[4] + sum(unit[:4]) / 2] for unit in units]
    signs = [list(map(Fraction, map(int, row))) for row in encoded_inputs(PAPER_TASKS, "sign")]
    assert logits((units, *heads), signs) == logits(fractions(capacity.SOLVED[context]), BITS)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("shared", range(5))
def test_the_overlapping_topology_needs_as_many_units_but_without_a_shared_one(context, shared):
    """The networks lie in the topology's connections. Without a shared unit Alice has half the units, rounded up."""
    network = capacity.SOLVED[context]
    width = len(network.units) + (context == (0, 1) and shared == 0)
    if shared > width:
        return
    units = [*network.units[:1], *[(0, 0, 0, 0, 0)] * (width - len(network.units)), *network.units[1:]]
    spare = [0] * (width - len(network.units))
    heads = [[*head[:1], *spare, *head[1:-1]] for head in (network.alice, network.bob)]
    there = Architecture.of(EnsembleConfig(hidden=width, topology="overlap", shared=shared)).connections()
    assert (there.hidden_kernel.T | (np.array(units)[:, :4] == 0)).all()
    assert (there.head_kernel[:, 0] | (np.array(heads) == 0)).all()


@pytest.mark.parametrize(
    ("width", "context", "answers", "rows"),
    [(1, (0, 0), 28, 12), (2, (0, 1), 30, 14), (2, (1, 0), 30, 14), (2, (1, 1), 29, 13), (3, (1, 1), 31, 15)],
)
def test_so_many_answers_are_right_with_fewer_units(width, context, answers, rows):
    network = capacity.NEARLY[width, context]
    found = right(fractions(network), context, BITS)
    assert len(network.units) == width
    assert sum(map(sum, found)) == answers
    assert sum(map(all, found)) == rows


def test_four_networks_of_two_units_are_a_pr_box():
    s = 0
    for sign, context in zip(S_SIGNS, CONTEXTS, strict=True):
        found = right(fractions(capacity.PR_BOX[context]), context, BITS)
        assert len(capacity.PR_BOX[context].units) == 2
        assert [sum(head) for head in zip(*found, strict=True)] == [8, 8]
        s += int(sign) * sum(1 if a == b else -1 for a, b in found)
    assert s == 4 * 16


def test_one_unit_reaches_3_25_and_delta_0_75(one_unit):
    """What is found and what is not excluded have the same maxima. Delta is checked against the package's."""
    tables = one_unit
    for place in (0, 1):
        both = {context: found[place] for context, found in tables.items()}
        assert capacity.largest_s_and_delta(both) == (3.25, 0.75)
    for found, most in tables.values():
        assert found <= most
    assert [max(table[3] for table in tables[context][1]) for context in CONTEXTS] == [12, 10, 10, 8]
    assert [max(table[3] for table in tables[context][0]) for context in CONTEXTS] == [12, 10, 10, 8]


def test_one_unit_solves_nothing(one_unit):
    """Rows with both heads right are 12 at most even in context 11: the two answers of one unit are nested."""
    for found in one_unit.values():
        assert all(table[3] < 16 for table in found[1])


def test_there_are_as_many_units_as_are_known():
    units = checker.Units()
    assert len(units.functions) == 1881
    assert len(units.vectors) == 273
    # A threshold function's own forms have it as the rows where they are above 0, at some extreme form each.
    for on, extremes in zip(units.functions, units.extremes, strict=True):
        assert (units.vectors[extremes].any(axis=0) == on).all()
        assert len(extremes) >= 1


@pytest.mark.slow
def test_two_units_solve_neither_12_nor_21():
    """Of 21 by certificates; 12 is 21 with the parties exchanged."""
    left, cases = checker.check_pairs(DATA["A2 B1, two units"], checker.XOR_12, checker.X_3)
    assert (left, cases) == (1904, 87)


@pytest.mark.parametrize(
    ("every", "found"),
    first_fast([(19, (9_114, 4_795, 0)), (1, (182_992, 100_544, 36))], 0, slow=0),  # all: six minutes
)
def test_three_units_do_not_solve_22(every, found):
    data = DATA["A2 B2, three units"]
    assert checker.check_triples(data, checker.XOR_12, checker.XOR_34, every) == found


BOB = {"A2 B1": checker.X_3, "A2 B2": checker.XOR_34}


def turned(case):
    """Targets where the answers that a case lets be wrong are turned over: "A2 B2, wrong A0 B5" is Alice's on row 0 and Bob's on row 5."""
    context, _, wrong = case.partition(", wrong ")
    heads = checker.XOR_12.copy(), BOB[context].copy()
    for answer in wrong.split():
        heads["AB".index(answer[0])][int(answer[1:])] ^= 1
    return heads


def of_all_wrong_answers(context, number):
    """The sets of so many wrong answers, one of each orbit under the symmetries of the tasks, as a set of sets per orbit."""
    group = list(checker.symmetries(checker.XOR_12, BOB[context]))
    answers = list(product("AB", range(16)))
    left, orbits = set(map(frozenset, combinations(answers, number))), []
    while left:
        some = next(iter(left))
        orbit = {
            frozenset(("BA"["AB".index(head)] if exchanged else head, int(goes[row])) for head, row in some)
            for goes, exchanged, _ in group
        }
        orbits.append(orbit)
        left -= orbit
    return orbits


@pytest.mark.parametrize(("context", "number", "orbits"), [("A2 B1", 1, 2), ("A2 B2", 1, 1), ("A2 B2", 2, 14)])
def test_cases_are_of_all_orbits_of_wrong_answers(context, number, orbits):
    found = of_all_wrong_answers(context, number)
    assert len(found) == orbits
    wrong = [
        frozenset((answer[0], int(answer[1:])) for answer in case.partition(", wrong ")[2].split())
        for case in FEW_WRONG
        if case.startswith(context)
    ]
    assert all(any(one in orbit for one in wrong) for orbit in found)


@pytest.mark.parametrize("case", first_fast(sorted(FEW_WRONG), 0, slow=0))  # some ten seconds each
def test_two_units_have_no_fewer_wrong_answers(case):
    """Certificates are of the targets with the wrong answers turned over, of which all 32 are right. A logit of 0 on such a row is covered as
    well: a little more or less of the head's bias makes it right or wrong, and all other answers stay."""
    left, cases = checker.check_pairs(FEW_WRONG[case], *turned(case))
    assert cases == len(FEW_WRONG[case]["cases"]) <= left


@pytest.mark.slow
def test_certificates_of_other_wrong_answers_are_refused():
    with pytest.raises(AssertionError):
        checker.check_pairs(FEW_WRONG["A2 B1, wrong A0"], *turned("A2 B1, wrong B0"))


@pytest.mark.thorough
def test_a_triple_that_is_left_is_found():
    data = DATA["A2 B2, three units"]
    with pytest.raises(AssertionError, match="are left"):
        checker.check_triples({**data, "pool": data["pool"][1:2], "cases": []}, checker.XOR_12, checker.XOR_34, 19)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["pool", "cases"])
def test_what_is_missing_is_found(missing):
    data = dict(DATA["A2 B1, two units"])
    data[missing] = data[missing][1:]
    with pytest.raises(AssertionError):
        checker.check_pairs(data, checker.XOR_12, checker.X_3)


def test_a_broken_certificate_is_found():
    units = checker.Units()
    case = DATA["A2 B1, two units"]["cases"][0]
    numbers = [checker.numbered(units, unit) for unit in case["units"]]
    ratios = [cell["ratios"] for cell in case["cells"]]
    checker.check_line(ratios)
    for broken in (ratios[1:], ratios[:1]):
        with pytest.raises(AssertionError):
            checker.check_line(broken)
    rows = [checker.digits(text) for text in case["cells"][0]["rows"]]
    checker.check_cell(units, numbers, ratios[0], rows, checker.XOR_12, checker.X_3)
    unbalanced = [[rows[0][0] + 1, *rows[0][1:]], rows[1]]
    for broken in ([[0] * 32, rows[1]], unbalanced, [[-weight for weight in rows[0]], rows[1]]):
        with pytest.raises(AssertionError):
            checker.check_cell(units, numbers, ratios[0], broken, checker.XOR_12, checker.X_3)
    # A certificate of these units is none of their opposites.
    opposite = [4 * (number // 4) + 3 - number % 4 for number in numbers]
    with pytest.raises(AssertionError):
        checker.check_cell(units, opposite, ratios[0], rows, checker.XOR_12, checker.X_3)


def test_solved_networks_are_refuted_by_no_certificate():
    """The checker's own check: the units of a network that solves its context are never all refuted."""
    units = checker.Units()
    network = capacity.SOLVED[1, 0]
    hidden = np.maximum(capacity.ROWS @ np.array(network.units)[:, :4].T + np.array(network.units)[:, 4], 0)
    group = list(checker.symmetries(checker.XOR_12, checker.X_3))
    for text in DATA["A2 B1, two units"]["pool"]:
        found = checker.signed(checker.images(checker.digits(text), group), checker.XOR_12, checker.X_3)
        parts = np.array([found[:, :16] @ hidden * network.alice[:-1] + found[:, 16:] @ hidden * network.bob[:-1]])
        assert (parts.max(axis=-1) > 0).all()
    for a, b in product((-1, 1), repeat=2):
        assert (a, b) in checker.SIGNS
    assert len(units) == 4 * 1881
