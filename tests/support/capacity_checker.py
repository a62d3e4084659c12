"""Checks certificates that no layer of n ReLU units has both heads right on all 16 rows (docs/capacity.md). It shares no
code with the search that found them, and decides nothing in floating point.

A unit is an affine form l of the four bits. Where l is at least 0 on a set of rows and at most 0 on the others, l is a
sum, with weights of at least 0, of the extreme forms of that kind, and relu(l) is the same sum of their relu: there are
273 extreme vectors relu(l) on the rows, and the sets are the threshold functions. So a signed unit is a threshold function
and the signs of its two weights in the heads; `ratio` is |Bob's weight| / |Alice's weight|.

A certificate is a pair of weights y >= 0 on the rows, one for each head, with sum of y * target sign 0 for both. For any
network the sum over rows and heads of y * target sign * logit is above 0 if all answers are right. It is also a sum over
units. A unit is *refuted* at a ratio where its part is at most 0 for every extreme vector: if all units are, the network is
impossible.
"""

import itertools

import numpy as np

ROWS = np.array(list(itertools.product((0, 1), repeat=4)))
XOR_12, X_3, XOR_34 = ROWS[:, 0] ^ ROWS[:, 1], ROWS[:, 2], ROWS[:, 2] ^ ROWS[:, 3]
#: A unit's signs: of its weight in Alice's head, of that in Bob's.
SIGNS = tuple(itertools.product((-1, 1), repeat=2))


def determinant(rows):
    """Of whole numbers, by the first row."""
    if len(rows) == 1:
        return rows[0][0]
    return sum(
        (-1) ** j * entry * determinant([row[:j] + row[j + 1 :] for row in rows[1:]])
        for j, entry in enumerate(rows[0])
        if entry
    )


def extreme_forms():
    """Values [forms, 16] on the rows of every affine form that is 0 on four rows in general position, both signs."""
    points = [[*map(int, row), 1] for row in ROWS]
    found = set()
    for four in itertools.combinations(points, 4):
        form = [(-1) ** j * determinant([row[:j] + row[j + 1 :] for row in four]) for j in range(5)]
        if any(form):
            form = np.array(form) // np.gcd.reduce(form)
            found |= {tuple(form), tuple(-form)}
    return np.array(sorted(found)) @ np.array(points).T


def threshold_functions():
    """Rows where some form is above 0, bool[1881, 16], without the unit that is 0 everywhere. Weights of at most 3 give
    all 1,882 threshold functions of four bits (Muroga; OEIS A000609)."""
    found = set()
    for weights in itertools.product(range(-3, 4), repeat=4):
        sums = ROWS @ weights
        found |= {tuple(sums >= level) for level in sums}
    return np.array(sorted(found))


class Units:
    """All signed units: 4 for each threshold function, numbered 4 * function + sign."""

    def __init__(self):
        forms = extreme_forms()
        self.functions = threshold_functions()
        self.vectors, number = np.unique(np.maximum(forms, 0), axis=0, return_inverse=True)
        number = number.ravel()
        fits = [((forms >= 0) | ~on).all(axis=1) & ((forms <= 0) | on).all(axis=1) for on in self.functions]
        self.extremes = [np.unique(number[fit]) for fit in fits]
        self.number = {tuple(map(int, on)): place for place, on in enumerate(self.functions)}

    def __len__(self):
        return 4 * len(self.functions)

    def largest(self, values):
        """The largest [certificates, functions] of values [certificates, vectors] over each function's extremes."""
        starts = np.cumsum([0, *map(len, self.extremes)])[:-1]
        return np.maximum.reduceat(values[:, np.concatenate(self.extremes)], starts, axis=1)

    def refuted(self, signed, ratios):
        """Whether [certificates, units] each signed certificate refutes each unit at all these ratios (alpha, beta)."""
        alice, bob = signed[:, :16] @ self.vectors.T, signed[:, 16:] @ self.vectors.T
        found = np.ones((len(signed), len(self.functions), 4), bool)
        for place, (a, b) in enumerate(SIGNS):
            for alpha, beta in ratios:
                found[:, :, place] &= self.largest(a * alpha * alice + b * beta * bob) <= 0
        return found.reshape(len(signed), -1)


def symmetries(alice, bob):
    """Relabellings of bits, and of parties, that keep the pair of targets up to complements.

    Yields:
        (where each row goes, whether parties change places, the heads' factors +-1)."""
    targets = np.stack([2 * alice - 1, 2 * bob - 1])
    place = {tuple(row): number for number, row in enumerate(ROWS)}
    for order in itertools.permutations(range(4)):
        for flips in itertools.product((0, 1), repeat=4):
            goes = np.array([place[tuple(row[list(order)] ^ np.array(flips))] for row in ROWS])
            moved = np.empty_like(targets)
            moved[:, goes] = targets
            for exchanged in (False, True):
                there = targets[::-1] if exchanged else targets
                factors = [
                    1 if (m == t).all() else -1 if (m == -t).all() else 0 for m, t in zip(moved, there, strict=True)
                ]
                if all(factors):
                    yield goes, exchanged, factors


def images(certificate, group):
    """All distinct images [*, 32] of a certificate."""
    found = set()
    for goes, exchanged, _ in group:
        parts = np.empty((2, 16), int)
        parts[:, goes] = np.reshape(certificate, (2, 16))
        found.add(tuple((parts[::-1] if exchanged else parts).ravel()))
    return np.array(sorted(found))


def unit_images(units, group):
    """Where each symmetry takes each signed unit, int[symmetries, units]."""
    tables = []
    for goes, exchanged, (alice, bob) in group:
        moved = np.empty_like(units.functions)
        moved[:, goes] = units.functions
        functions = [units.number[tuple(map(int, on))] for on in moved]
        signs = [(a * alice, b * bob) for a, b in SIGNS]
        places = [SIGNS.index(pair[::-1] if exchanged else pair) for pair in signs]
        tables.append((4 * np.array(functions)[:, None] + places).ravel())
    return np.array(tables)


def signed(certificates, alice, bob):
    """Certificates times the targets' signs, once it is clear that they are certificates.

    Raises:
        AssertionError: a weight below 0, no weight above 0, or a head whose sum is not 0."""
    certificates = np.atleast_2d(certificates).astype(np.int64)
    assert (certificates >= 0).all()
    assert certificates.any(axis=1).all()
    found = certificates * np.concatenate([2 * alice - 1, 2 * bob - 1])
    assert not found.reshape(-1, 2, 16).sum(axis=2).any()
    return found


def digits(text):
    """The weights of a certificate of the file: a digit in base 36 for each row and head, or a list."""
    return [int(digit, 36) for digit in text] if isinstance(text, str) else text


def numbered(units, unit):
    """The number of a signed unit of the file: rows where it is on, and the signs of its weights in the heads."""
    on, *signs = unit
    return 4 * units.number[tuple(map(int, on))] + SIGNS.index(tuple(signs))


def check_cell(units, numbers, ratios, corners, alice, bob):
    """That one cell of ratios is impossible for these signed units.

    One unit has the ratio 1. Others have the ratios between `low` and `high`: (alpha, beta) = s low + t high with s, t at
    least 0. The certificate is linear in each unit's (s, t), with a corner of the file for each choice of s or t. A unit's
    part is a polynomial in all (s, t), of degree 2 in its own; each coefficient must be at most 0.

    Raises:
        AssertionError: it is not."""
    split = [place for place, ends in enumerate(ratios) if len(ends) == 2]
    assert len(split) == len(ratios) - 1
    corners = signed(corners, alice, bob).reshape(*[2] * len(split), 32)
    for place, (number, ends) in enumerate(zip(numbers, ratios, strict=True)):
        vectors = units.vectors[units.extremes[number // 4]].T
        a, b = SIGNS[number % 4]

        def part(weights, end, a=a, b=b, vectors=vectors):
            return (a * end[0] * weights[..., :16] + b * end[1] * weights[..., 16:]) @ vectors

        assert all(min(end) >= 0 and max(end) > 0 for end in ends)
        if place not in split:
            assert ends == [[1, 1]]
            assert (part(corners, ends[0]) <= 0).all()
        else:
            first, second = np.moveaxis(corners, split.index(place), 0)
            low, high = ends
            assert (part(first, low) <= 0).all()
            assert (part(second, high) <= 0).all()
            assert (part(first, high) + part(second, low) <= 0).all()


def check_line(cells):
    """That the cells of a pair of units cover all ratios of the second unit's ratio to the first's, from 0 to infinity.

    Raises:
        AssertionError: they do not."""
    spans = []
    for first, second in cells:
        assert (len(first), len(second)) in ((1, 2), (2, 1))
        (low, high) = second if len(second) == 2 else [end[::-1] for end in first[::-1]]
        spans.append((low, high))
    spans.sort(key=lambda span: span[0][1] / span[0][0] if span[0][0] else np.inf)
    assert spans[0][0] == [1, 0]
    assert spans[-1][1] == [0, 1]
    for (_, (p, q)), ((r, s), _) in itertools.pairwise(spans):
        assert r * q - p * s >= 0, "a gap between two cells"


def check_pairs(data, alice, bob):
    """That no two units have both heads right: each pair of signed units is refuted by the pool or has a case.

    Returns:
        Number of pairs that the pool leaves, and of cases.

    Raises:
        AssertionError: a pair is left, or a certificate is none."""
    units = Units()
    group = list(symmetries(alice, bob))
    refuted = np.zeros((len(units), len(units)), bool)
    for text in data["pool"]:
        found = signed(images(digits(text), group), alice, bob)
        one, all_ratios = units.refuted(found, [(1, 1)]), units.refuted(found, [(1, 0), (0, 1)])
        # Counts of certificates, at most a few hundred: exact as float32.
        refuted |= (one.T.astype(np.float32) @ all_ratios.astype(np.float32)) > 0
    refuted |= refuted.T
    left = np.argwhere(np.triu(~refuted))
    done = set()
    tables = unit_images(units, group)
    for case in data["cases"]:
        numbers = [numbered(units, unit) for unit in case["units"]]
        check_line([cell["ratios"] for cell in case["cells"]])
        for cell in case["cells"]:
            check_cell(units, numbers, cell["ratios"], [digits(text) for text in cell["rows"]], alice, bob)
        done |= set(map(tuple, np.sort(tables[:, numbers], axis=1).tolist()))
    assert all(tuple(pair) in done for pair in left.tolist())
    return len(left), len(data["cases"])


class Pool:
    """Certificates with all their images, and at which ratios each refutes a unit."""

    def __init__(self, units, certificates, group, alice, bob):
        found = np.unique(np.vstack([images(digits(text), group) for text in certificates]), axis=0)
        found = signed(found, alice, bob)
        self.units = units
        self.alice, self.bob = found[:, :16] @ units.vectors.T, found[:, 16:] @ units.vectors.T
        self.known = {}

    def interval(self, number):
        """Certificates that refute the unit at some ratio, and the least and largest such ratio.

        Quotients of whole numbers below 2**26 that differ are different floats in the same order, so nothing is lost."""
        if number not in self.known:
            extremes = self.units.extremes[number // 4]
            a, b = SIGNS[number % 4]
            fixed, slope = a * self.alice[:, extremes], b * self.bob[:, extremes]
            with np.errstate(divide="ignore", invalid="ignore"):
                root = -fixed / slope
            never = (slope == 0) & (fixed > 0)
            high = np.where(slope > 0, root, np.where(never, -1, np.inf)).min(axis=1)
            low = np.where(slope < 0, root, 0).max(axis=1).clip(0)
            some = np.flatnonzero(low <= high)
            self.known[number] = some, low[some], high[some]
        return self.known[number]

    def refutes(self, numbers, most=120):
        """Whether the pool refutes these three units at all ratios, as far as `most` cells for each start show."""
        spans = [self.interval(number) for number in numbers]
        common = spans[0][0]
        for some, _, _ in spans[1:]:
            common = np.intersect1d(common, some, assume_unique=True)
        at = [np.searchsorted(some, common) for some, _, _ in spans]
        low = [span[1][place] for span, place in zip(spans, at, strict=True)]
        high = [span[2][place] for span, place in zip(spans, at, strict=True)]
        starts = [[[FULL] * place + [ONE] + [FULL] * (2 - place)] for place in range(3)]
        return any(
            all(_covered(low, high, cell, limit) for cell in cells)
            for cells, limit in [*((start, 15) for start in starts), (median_cells(), most)]
        )


ONE, FULL = [[1, 1]], [[1, 0], [0, 1]]


def median_cells():
    """All ratios of three units: one has the middle ratio, which is 1, another less, another more. Six cells."""
    cells = []
    for below, middle, above in itertools.permutations(range(3)):
        cell = [None] * 3
        cell[below], cell[middle], cell[above] = [[1, 0], [1, 1]], ONE, [[1, 1], [0, 1]]
        cells.append(cell)
    return cells


def _quotient(end):
    return end[1] / end[0] if end[0] else np.inf


def _covered(low, high, cell, most):
    """Whether each part of the cell has a certificate that refutes all units there. A part without one is cut in two."""
    parts = [cell]
    for _ in range(most):
        if not parts:
            return True
        cell = parts.pop()
        holds = [(lo <= _quotient(e[0])) & (hi >= _quotient(e[-1])) for lo, hi, e in zip(low, high, cell, strict=True)]
        if np.logical_and.reduce(holds).any():
            continue
        choices = []
        for place, ends in enumerate(cell):
            if len(ends) == 2:
                middle = [ends[0][0] + ends[1][0], ends[0][1] + ends[1][1]]
                others = holds[place - 1] & holds[place - 2]
                halves = [[ends[0], middle], [middle, ends[1]]]
                good = sum(
                    bool((others & (low[place] <= _quotient(one)) & (high[place] >= _quotient(two))).any())
                    for one, two in halves
                )
                width = abs(np.arctan2(*ends[0]) - np.arctan2(*ends[1]))
                choices.append((good, width, place, halves))
        _, _, place, halves = max(choices, key=lambda choice: choice[:3])
        parts += [[*cell[:place], half, *cell[place + 1 :]] for half in halves]
    return not parts


def alone_refutes(units, certificates, head, alice, bob):
    """Certificates of one head alone, [*, 16]: which [certificates, units] each refutes, whatever the other head does."""
    both = np.zeros((len(certificates), 32), np.int64)
    both[:, 16 * head : 16 * head + 16] = certificates
    signs = np.concatenate([2 * alice - 1, 2 * bob - 1])
    assert (both >= 0).all()
    assert not (both * signs).sum(axis=1).any()
    found = units.refuted(both * signs, [(1, 0) if head == 0 else (0, 1)])
    return np.unique(found, axis=0).astype(np.float32)


def triples_left(first, orbit, alone):
    """Triples with this unit that no certificate of one head alone refutes; the other two lie in no orbit before its own."""
    others = np.flatnonzero(orbit >= first)
    left = np.ones((len(others), len(others)), bool)
    for refuted in alone:
        there = refuted[refuted[:, first] > 0][:, others]
        distinct, place = np.unique(there, axis=1, return_inverse=True)
        left &= ((distinct.T @ distinct) == 0)[place.ravel()[:, None], place.ravel()]
    pairs = others[np.argwhere(np.triu(left))]
    return np.hstack([np.full((len(pairs), 1), first), pairs])


def check_triples(data, alice, bob, every=1):
    """That no three units have both heads right, for targets that are alike under exchange of the parties.

    Args:
        every: of the orbits of triples that need both heads, each so-many-th is checked; 1 checks all.

    Returns:
        Number of triples that certificates of one head alone leave, of their orbits, and of orbits refuted by a case.

    Raises:
        AssertionError: a triple is left, or a certificate is none."""
    units = Units()
    group = list(symmetries(alice, bob))
    tables = unit_images(units, group)
    orbit = tables.min(axis=0)
    either = np.vstack([images(digits(text) + [0] * 16, group) for text in data["alone"]])
    heads = [either[either[:, :16].any(axis=1), :16], either[either[:, 16:].any(axis=1), 16:]]
    alone = [alone_refutes(units, found, head, alice, bob) for head, found in enumerate(heads)]
    left = np.vstack([triples_left(first, orbit, alone) for first in np.unique(orbit)[::every]])
    least = None
    for table in tables:
        triple = np.sort(table[left], axis=1).astype(np.int64)
        number = (triple[:, 0] * len(units) + triple[:, 1]) * len(units) + triple[:, 2]
        least = number if least is None else np.minimum(least, number)
    orbits = np.unique(least)
    cases = {}
    for case in data["cases"]:
        numbers = [numbered(units, unit) for unit in case["units"]]
        assert [cell["ratios"] for cell in case["cells"]] == median_cells()
        for cell in case["cells"]:
            check_cell(units, numbers, cell["ratios"], [digits(text) for text in cell["rows"]], alice, bob)
        a, b, c = np.sort(tables[:, numbers], axis=1).astype(np.int64).T
        cases[int(((a * len(units) + b) * len(units) + c).min())] = case
    pool = Pool(units, [*data["pool"], *(text + "0" * 16 for text in data["alone"])], group, alice, bob)
    by_case = 0
    for number in orbits[::every].tolist():
        rest, third = divmod(number, len(units))
        if number in cases:
            by_case += 1
        else:
            triple = (*divmod(rest, len(units)), third)
            assert pool.refutes(triple), f"units {triple} are left"
    return len(left), len(orbits), by_case
