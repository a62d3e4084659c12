"""Words of a report: sentences and the rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncsim.config.fields import named_values, spelled_values
from ncsim.formatting import (
    NOTHING,
    counted,
    no_less,
    p_value_of,
    p_value_text,
    share_text,
    significant,
    table,
    told_apart,
    two_apart,
)
from ncsim.report.summary import CONTEXT_NAMES
from ncsim.report.training import training_lines
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.verdicts import NO_MEMBER, NOT_SHOWN, verdict_on_members


def cell_label(cell: Mapping[str, Any], bare: bool = False) -> str:
    if bare:
        return "\n".join(value.replace("\n", " ") for value in spelled_values(cell).values()) or "all"
    return named_values(cell) or "the ensemble"


def cell_lines(cell: Mapping[str, Any]) -> list[str]:
    along = ["", *(f"  {line}" for line in training_lines(cell["training"]))] if "training" in cell else []
    if "note" in cell:
        return [f"  {cell['note']}", *along]
    lines = ["", *table(["context", "solved", "accuracy A", "accuracy B", "correlator"], context_rows(cell))]
    lines += ["", *table(PROTOCOL_COLUMNS, [protocol_row(p) for p in cell["protocols"]])]
    lines += ["", *(f"  {sentence}" for sentence in sentences(cell))]
    lines += ["", *table(SIGNALLING_COLUMNS, signalling_rows(cell))]
    lines += ["", *(f"  {sentence}" for sentence in sentences_on_tests(cell))]
    return lines + along


def context_rows(cell: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            str(estimate(context["solved"])),
            told_apart(context["accuracy_alice"], 4, 1),
            told_apart(context["accuracy_bob"], 4, 1),
            told_apart(context["correlator"], 4, -1, 1, sign=True),
        ]
        for name in CONTEXT_NAMES
        for context in [cell["contexts"][name]]
    ]


PROTOCOL_COLUMNS = ["protocol", "mean S", "median", "5 % .. 95 %", "P(S > 2)", "P(S > 2.828)", "Delta > 0"]


def protocol_row(protocol: Mapping[str, Any]) -> list[str]:
    """One protocol's numbers in the order of PROTOCOL_COLUMNS."""
    quantiles = protocol["quantiles_s"]
    return [
        protocol["protocol"],
        str(estimate(protocol["mean_s"])),
        f"{quantiles['0.5']:.3f}",
        f"{quantiles['0.05']:.2f} .. {quantiles['0.95']:.2f}",
        str(estimate(protocol["s_above_2"])),
        str(estimate(protocol["s_above_tsirelson"])),
        str(estimate(protocol["sampled_runs_contextual"])),
    ]


def sentences(cell: Mapping[str, Any]) -> list[str]:
    """What a cell's numbers say, in words that they bear."""
    pooled, diverged = cell["pooled"], cell["diverged"]
    result = [
        f"Diverged: {counted(diverged['networks'], 'network')}, in {diverged['members']:,} of "
        f"{counted(cell['members'], 'member')}; diverged networks count nowhere below.",
        *_on_undecided(cell),
    ]
    result.append(
        f"All members pooled: S = {estimate(pooled['s'])}; from accuracies alone {estimate(pooled['s_factorised'])}; "
        f"direct influence {estimate(pooled['influence'])}; contextuality Delta = s_odd - 2 - influence = "
        f"{estimate(pooled['contextuality'])}."
    )
    result.append(cell_verdict(cell))
    for protocol in cell["protocols"]:
        if "law_error" in protocol:
            result.append(
                f"Probabilities under {protocol['protocol']} are within {no_less(protocol['law_error'], '.0e')} of exact."
            )
    return result


def _on_undecided(cell: Mapping[str, Any]) -> list[str]:
    """How many answers are undecided, and how much of S hangs on them: of whole members, which a range is known of."""
    undecided, diverged = cell["undecided"], cell["diverged"]["members"]
    text = (
        f"Undecided: {share_text(undecided['answers'], 2)} of answers have a logit within the tolerance of 0, in "
        f"{share_text(undecided['networks'], 2)} of networks."
    )
    if undecided["mean_s_whatever_they_are"] is None:
        return [f"{text} What S they leave open is not known: every member has a network that diverged."]
    of = f" Of the members without a diverged network ({cell['members'] - diverged:,}):" if diverged else ""
    text += (
        f"{of} {'m' if of else 'M'}ean S as they fell {estimate(undecided['mean_s_as_they_fell'])}, "
        f"as coin tosses {estimate(undecided['mean_s_as_coin_tosses'])}; were each free to be right or wrong, mean S would "
        "be between {} and {}, and S above 2 in between {} and {} of members.".format(
            *map(significant, undecided["mean_s_whatever_they_are"]),
            *map(significant, undecided["members_with_s_above_2_whatever_they_are"]),
        )
    )
    if undecided["mean_s_of_decided_members"] is None:
        return [text, "No member is without undecided answers."]
    share = estimate(undecided["decided_members"])
    return [
        text,
        f"Members without any undecided answer: {share} of {'these' if of else 'all'}; their mean S is "
        f"{estimate(undecided['mean_s_of_decided_members'])}, and "
        f"{estimate(undecided['decided_members_with_s_above_2'])} of them have S > 2.",
    ]


def cell_verdict(cell: Mapping[str, Any]) -> str:
    """What may be said of a cell's S and Delta: of members, of all pooled, and of runs where a protocol's are contextual."""
    numbers = (cell["members_with_s_above_2"], cell["members_contextual"], cell["pooled"]["contextuality"])
    text = verdict_on_members(*(estimate(values) for values in numbers))
    found, protocol, _ = _most_contextual_runs([cell])
    if found is None:
        return text
    return f"{text} Contextual once direct influence is discounted: {found} of runs under {protocol} (Delta > 0)."


def run_verdict(numbers: Mapping[str, Any]) -> list[str]:
    """What may be said of a whole run, in two sentences: of S, and of what is left once direct influence is discounted."""
    trained = [cell for cell in numbers["cells"] if cell["members"]]
    cells = [cell for cell in trained if "note" not in cell]
    if not trained:
        return ["No network is stored yet that S could be computed from."]
    if not cells:
        return ["S of no member is known: every one that is stored has a network that diverged."]
    runs = [(estimate(p["s_above_2"]), p["protocol"], cell_label(c["cell"])) for c in cells for p in c["protocols"]]
    # By the limit that bears the word: of many cells one may be far off by chance.
    best, protocol, at_best = max(runs, key=lambda each: each[0].low)
    known, alone = _with_known_members(cells), len(numbers["cells"]) == 1
    where = "" if alone else f" ({at_best})"
    delta = _verdict_on_delta(trained, alone)
    if not known:
        return [f"{NO_MEMBER}; S is above 2 in {best} of runs under {protocol}{where}.", delta]
    shares = [(estimate(cell["members_with_s_above_2"]), cell_label(cell["cell"])) for cell in known]
    least, at_least = min(shares, key=lambda each: each[0].high)
    most, at_most = max(shares, key=lambda each: each[0].low)
    text = f"S is above 2 in {most} of members"
    if at_least != at_most:
        text = f"S is above 2 in {least} ({at_least}) to {most} ({at_most}) of a cell's members"
    elif len(known) > 1:  # no cell is shown to have fewer or more
        text += f" ({at_most}), whose interval lies within that of each other cell"
    elif not alone:
        text += f" ({at_most})"
    if len(known) < len(trained):
        unknown = f"{len(trained) - len(known)} of {len(trained)} cells"
        text += f" (not known of {unknown}, where every member has a network that diverged)"
    if protocol != cells[0]["protocols"][0]["protocol"]:
        text += f", and in {best} of runs under {protocol}{where}"
    return [f"{text}.", delta]


def _with_known_members(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cells with a member of which no network diverged: of the others a share of members is NaN, from 0 to 1."""
    return [cell for cell in cells if cell["members"] > cell["diverged"]["members"]]


def _most_contextual_runs(cells: Sequence[Mapping[str, Any]]) -> tuple[Estimate | None, str, str]:
    """The share of runs with Delta > 0 whose lower limit is the highest, with its protocol and cell; None where no such limit is
    above 0. A protocol that prefers some networks may make contextual what no member is."""
    found = [
        (estimate(each["sampled_runs_contextual"]), each["protocol"], cell_label(cell["cell"]))
        for cell in cells
        for each in cell["protocols"]
    ]
    most = max(found, key=lambda each: each[0].low)
    return most if most[0].low > NOTHING else (None, "", "")


def _verdict_on_delta(trained: Sequence[Mapping[str, Any]], alone: bool) -> str:
    """Of cells with members, and whether the run has one cell."""
    cells = [cell for cell in trained if "note" not in cell]
    known = _with_known_members(cells)
    members = [(estimate(cell["members_contextual"]), cell_label(cell["cell"])) for cell in known]
    pooled = sum(estimate(cell["pooled"]["contextuality"]).low > 0 for cell in cells)
    of = "" if len(trained) == 1 else f" in {pooled} of {len(trained)} cells"
    maybe = any(cell["pooled"]["contextuality"]["high"] > 0 for cell in cells)
    table = f"pooled over members Delta {f'is above 0{of}' if pooled else NOT_SHOWN if maybe else 'is not above 0'}"
    most_runs, protocol, where_runs = _most_contextual_runs(cells)
    of_runs = "" if most_runs is None else f"{most_runs} of runs under {protocol}{'' if alone else f' ({where_runs})'}"
    but = f"; but {of_runs} have Delta > 0: contextual once direct influence is discounted" if of_runs else ""
    if not known:
        return f"{table[0].upper()}{table[1:]}{but}."
    most, where = max(members, key=lambda each: each[0].low)
    if most.low > 0:
        place = "" if alone else f" ({where})" if len(trained) == 1 else f" ({where}, the most of {len(trained)} cells)"
        more = f", and {of_runs}" if of_runs else ""
        return (
            f"Contextual once direct influence is discounted: {most} of members have Delta > 0{place}{more}; {table}."
        )
    whose = "" if len(trained) == 1 else "a cell's "
    bound = f"at most {no_less(max(each.high for each, _ in members))} of {whose}members, 95 %"
    above = any(cell["members_with_s_above_2"]["value"] > 0 for cell in known)
    explained = "Direct influence explains every member's S above 2: no" if above else "No"
    if len(known) < len(trained):  # which the sentence before has told
        others = f"the other cell{'s' if len(known) > 1 else ''}"
        explained = f"Direct influence explains S above 2 in {others}: no" if above else f"In {others} no"
    return f"{explained} member has Delta > 0 ({bound}), and {table}{but}."


SIGNALLING_COLUMNS = [
    "answer",
    "accuracy beside task 1",
    "beside task 2",
    "mean difference of a member",
    "Holm p across members",
    "Holm p of pooled rows",
]


def signalling_rows(cell: Mapping[str, Any]) -> list[list[str]]:
    """The four no-signalling comparisons in the order of SIGNALLING_COLUMNS."""
    tests = cell["tests"]
    return [
        [
            pooled["answer"],
            *two_apart(pooled["accuracies"], 4),
            "no member" if across["members"] == 0 else f"{estimate(across['difference'])}",
            f"{p_value_text(across['p_holm'])} ({across['method']})",
            f"{p_value_text(pooled['p_holm'])} ({pooled['method']})",
        ]
        for pooled, across in zip(tests["signalling_pooled"], tests["signalling_across_members"], strict=True)
    ]


def sentences_on_tests(cell: Mapping[str, Any]) -> list[str]:
    """What the tests say, across members first, and what the pooled p-values are worth."""
    tests = cell["tests"]
    found = [test["answer"] for test in tests["signalling_across_members"] if test["p_holm"] <= 0.05]
    if found:
        text = f"Across members the accuracy of {', '.join(found)} depends on the other head's task (Holm, 5 %)."
    else:
        text = "Across members no accuracy is shown to depend on the other head's task (Holm, 5 %)."
    locality = tests["locality_pooled"]
    return [
        text,
        f"One joint distribution for all contexts, pooled table: {p_value_of('p', locality['p_value'])} "
        f"({locality['method']}). This and the p-values of pooled rows take {tests['pooled_rows']:,} rows for independent "
        f"draws, which they are not: all members answer the same {cell['rows']} rows, and each member's errors go "
        "together. The tests across members are the ones that count.",
    ]


def estimate(values: Mapping[str, Any]) -> Estimate:
    """An estimate as summary.json holds it."""
    return Estimate(**values)
