"""What is said of a table of joint outcomes: all that is said of an ensemble, as numbers and as lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncsim.errors import DataError
from ncsim.formatting import no_less, p_value_of, significant, significant_limit, table, told_apart
from ncsim.statistics.chsh import SIGNS, chsh_statistics
from ncsim.statistics.contextuality import contextuality_measures
from ncsim.statistics.contextuality_interval import contextuality_interval, s_interval
from ncsim.statistics.inequalities import chained_inequality
from ncsim.statistics.locality_tests import hoeffding_p_value
from ncsim.statistics.quantum import TOLERANCE, quantum_statistics
from ncsim.statistics.scenarios import MAX_ASSIGNMENTS, chain_statistics, contextual_fraction, largest_difference
from ncsim.statistics.signalling_tests import signalling_tests
from ncsim.statistics.verdicts import EXPLAINED, NOT_SHOWN_TO_EXCEED, verdict
from ncsim.tables.reading import JointTable


def describe(joint: JointTable, same_items: bool = False) -> dict[str, Any]:
    """Everything that is said of a table, as numbers and words.

    Args:
        joint: the table.
        same_items: whether all contexts were asked of the same items: errors add up, and there are no `signalling_tests`.

    Returns:
        What is printed, by name; NaN nowhere.

    Raises:
        DataError: more assignments of outcomes to all settings than a linear programme takes.
    """
    m, n, a, b = joint.values.shape
    if (assignments := a**m * b**n) > MAX_ASSIGNMENTS:
        raise DataError(
            f"table: {m} x {n} settings with {a} x {b} outcomes have {assignments:,} assignments; allowed: "
            f"{MAX_ASSIGNMENTS:,}, so choose settings by --alice and --bob"
        )
    found: dict[str, Any] = {"alice": joint.alice, "bob": joint.bob, "outcomes": joint.outcomes}
    # Counts are whole numbers, and are written so.
    found["items"] = joint.values.sum(axis=(2, 3)).astype(np.int64).tolist() if joint.counted else None
    contexts = [(("A", i), ("B", j)) for i in range(len(joint.alice)) for j in range(len(joint.bob))]
    laws = [joint.values[i, j] for (_, i), (_, j) in contexts]
    found["contextual_fraction"] = contextual_fraction(contexts, laws)
    found["largest_difference_of_marginals"] = largest_difference(joint.values)
    if joint.values.shape[2:] != (2, 2):
        return found
    found |= _of_means(joint.joint_counts)
    if joint.values.shape[:2] == (2, 2):
        found |= _of_chsh(joint, same_items)
    elif joint.values.shape[0] == joint.values.shape[1] > 2:
        found |= _of_chain(joint.joint_counts)
    if {"s", "chained"} & found.keys():
        found["minus"] = [joint.alice[-1], joint.bob[-1]]
    if joint.rounding > TOLERANCE and {"s", "chained"} & found.keys():
        off = 2 * len(joint.alice) * joint.rounding  # a correlator per context of the ring; means are in Delta twice
        found["rounding"] = {"decimals": joint.decimals, "s": off, "contextuality": 3 * off}
    return found


def _of_means(counts: np.ndarray) -> dict[str, Any]:
    law = counts / counts.sum(axis=(2, 3), keepdims=True)
    sign = np.array([-1.0, 1.0])
    return {
        "mean_alice": (law.sum(axis=3) @ sign).tolist(),
        "mean_bob": (law.sum(axis=2) @ sign).tolist(),
        "correlator": np.einsum("ijab,a,b->ij", law, sign, sign).tolist(),
    }


def _of_chsh(joint: JointTable, same_items: bool) -> dict[str, Any]:
    counts = joint.joint_counts
    statistics = chsh_statistics(counts)
    measures, kind = contextuality_measures(counts), quantum_statistics(counts)
    largest = int(np.argmax(statistics.s_variants))
    found: dict[str, Any] = {
        name: float(getattr(statistics, name)) for name in ("s", "s_factorised", "s_odd", "influence", "contextuality")
    }
    found["s_odd_signs"] = SIGNS[largest]
    found |= {name: bool(getattr(kind, name)) for name in ("signalling", "local", "quantum_correlators", "level_1")}
    names = ("contextual_fraction", "signalling_fraction", "discounted_fraction", "cnt1", "cnt2", "cnt3", "ncnt2")
    found |= {name: getattr(measures, name) for name in names}
    if not joint.counted:
        return found
    whole = counts.astype(np.int64)
    delta, s = contextuality_interval(whole, same_items=same_items), s_interval(whole, same_items=same_items)
    found["s_interval"], found["contextuality_interval"] = [s.low, s.high], [delta.low, delta.high]
    found["verdict"] = verdict(found["s"], delta)
    if found["s"] <= 2 < found["s_odd"] and delta.low <= 0:  # where the minus stands is a choice of names
        known = EXPLAINED if delta.high <= 0 else NOT_SHOWN_TO_EXCEED
        found["verdict"] += f"; the largest CHSH sum is: {known.removeprefix('S ')}"
    found["locality_p_value"] = float(hoeffding_p_value(whole, same_items=same_items))
    if same_items:  # accuracies on the same items go together, which counts do not tell
        return found
    found["signalling_tests"] = [
        {"answer": test.answer, "p_value": test.p_value, "p_holm": test.p_holm} for test in signalling_tests(whole)
    ]
    return found


def _of_chain(counts: np.ndarray) -> dict[str, Any]:
    """The chained inequality, and Delta of its ring."""
    chain, found = chained_inequality(len(counts)), chain_statistics(counts)
    return {
        "chained": float(chain.value(counts)),
        "chained_classical": chain.classical_bound,
        "chained_quantum": chain.quantum_bound,
        "influence": float(found.influence),
        "contextuality": float(found.contextuality),
    }


def lines(joint: JointTable, found: dict[str, Any]) -> list[str]:
    """What `describe` found, for reading."""
    first, second = (names[0] for names in joint.outcomes)
    text = [
        f"{len(joint.alice)} x {len(joint.bob)} settings, {len(joint.outcomes[0])} x {len(joint.outcomes[1])} outcomes, "
        + ("counts" if joint.counted else "probabilities, so that nothing is said of chance"),
    ]
    if "correlator" in found:
        text += ["", *table(["alice", "bob", "items", "mean A", "mean B", "correlator"], _context_rows(joint, found))]
        text += [f"  +1 is {first} of Alice's outcomes and {second} of Bob's."]
    if "minus" in found:  # the order of a file's rows decides it, and some programs write rows in any order
        value, (alice, bob) = "S" if "s" in found else "The chained sum", found["minus"]
        text += [f"  {value} has its minus at {alice} with {bob}; --alice and --bob order settings."]
    text.append("")
    if "s" in found:
        text += _chsh_lines(joint, found)
    elif "chained" in found:
        text += [
            f"  chained inequality   {told_apart(found['chained'], 4, found['chained_classical'])}  (classical "
            f"{found['chained_classical']:g}, quantum "
            f"{found['chained_quantum']:.4f})",
            f"  direct influence     {told_apart(found['influence'], 4, 0)}",
            f"  Delta of the ring    {told_apart(found['contextuality'], 4, 0)}  (above 0: contextual beyond direct influence)",
        ]
    if "rounding" in found:
        value, off = "S" if "s" in found else "the chained sum", found["rounding"]
        words = f"{value} may be off by {no_less(off['s'])} and Delta by {no_less(off['contextuality'])}"
        text.append(f"  decimals             {off['decimals']} at least; if rounded, {words}; kind takes them as exact")
    text.append(f"  contextual fraction  {significant(found['contextual_fraction'])}  (signalling included)")
    apart = significant_limit(found["largest_difference_of_marginals"])
    text.append(f"  marginals differ by  {apart}  at most, between contexts")
    if "verdict" in found:
        text += ["", f"  {found['verdict'][0].upper()}{found['verdict'][1:]}."]
    return text


def _context_rows(joint: JointTable, found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            other,
            f"{joint.values[i, j].sum():,.0f}" if joint.counted else "",
            *(told_apart(found[of][i][j], 4, -1, 1, sign=True) for of in ("mean_alice", "mean_bob", "correlator")),
        ]
        for i, name in enumerate(joint.alice)
        for j, other in enumerate(joint.bob)
    ]


def _chsh_lines(joint: JointTable, found: dict[str, Any]) -> list[str]:
    def limits(name: str, bound: float) -> str:
        if name not in found:
            return ""
        low, high = (told_apart(limit, 4, bound) for limit in found[name])
        return f"  95 % [{low}, {high}]"

    signs = "".join("+-"[sign < 0] for sign in found["s_odd_signs"])
    kinds = "it signals" if found["signalling"] else "local" if found["local"] else "not local"
    if not found["signalling"] and not found["local"]:
        kinds += (
            ", not excluded by level 1 of the NPA hierarchy" if found["level_1"] else ", and no quantum state has it"
        )
    correlators = "some quantum state has" if found["quantum_correlators"] else "no quantum state has"
    text = [
        f"  S                    {told_apart(found['s'], 4, 2)}{limits('s_interval', 2)}",
        f"  from means alone     {told_apart(found['s_factorised'], 4, 2)}",
        f"  largest CHSH sum     {told_apart(found['s_odd'], 4, 2)}  (signs {signs})",
        f"  direct influence     {told_apart(found['influence'], 4, 0)}",
        f"  Delta                {told_apart(found['contextuality'], 4, 0)}{limits('contextuality_interval', 0)}  "
        "(largest sum - 2 - influence)",
        # Samples of a table that does not signal do, by chance: the tests below say whether that is all.
        f"  {'kind, as counted' if joint.counted else 'kind':<16}     {kinds}; its four correlators {correlators}",
    ]
    if "signalling_tests" in found:
        tests = [p_value_of(t["answer"], t["p_holm"]) for t in found["signalling_tests"]]
        text.append(f"  accuracies alike     p of {', '.join(tests)} (Holm)")
    elif "locality_p_value" in found:
        text.append(
            "  accuracies alike     not told by counts of the same items; ncsim.paired_signalling_tests takes answers"
        )
    if "locality_p_value" in found:
        text.append(f"  one joint law        {p_value_of('p', found['locality_p_value'])} (Hoeffding)")
    return text
