"""A run in words, tables and pictures: what `ncsim report` prints, summary.json, figures/ and report.html.

Words follow from intervals. "Contextual" is said only where the lower bound of contextuality, or of the share of
members that have it, is above 0.
"""

from __future__ import annotations

import html
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncsim.report.figures import plot_means, plot_runs_and_laws
from ncsim.report.summary import CONTEXT_NAMES, Summary, summarise
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.locality_tests import p_value_text
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.storage.files import StoreError, reason


def write_report(run: Run, figure_names: tuple[str, str] = ("laws", "means")) -> Summary:
    """Write summary.json, figures/ and report.html into the run's folder, and give the summary.

    The figures are S of some runs with its exact law, and the means; `figure_names` are their files' names.

    Raises:
        StoreError: the run is in memory, or its folder cannot be written to.
    """
    if run.storage is None:
        raise StoreError("the run is in memory only; allowed: a run with a folder, run_ensemble(..., out=PATH)")
    summary = summarise(run)
    try:
        run.storage.write("summary.json", json.dumps(summary.numbers, indent=1).encode())
        # Drawn elsewhere and then stored, so that a figure is there whole or not at all, also in an object store.
        with tempfile.TemporaryDirectory(prefix="ncsim-") as drawn:
            for path in _draw(run, summary, Path(drawn), figure_names):
                run.storage.write(f"figures/{path.name}", path.read_bytes())
        run.storage.write("report.html", _page(run, summary, figure_names).encode())
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None
    return summary


def _draw(run: Run, summary: Summary, folder: Path, names: tuple[str, str]) -> list[Path]:
    with_laws = [n for n, laws in enumerate(summary.laws) if laws]
    if not with_laws:
        return []
    labels = [_cell_label(summary.numbers["cells"][n]["cell"], bare=True) for n in with_laws]
    axis_label = _axis_label(run.swept)
    laws = [[summary.laws[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    dots = [[summary.dots[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    return [
        *plot_runs_and_laws(laws, dots, labels, axis_label, folder / names[0]),
        *plot_means(laws, labels, axis_label, folder / names[1]),
    ]


def _axis_label(swept: Sequence[str]) -> str:
    names = {"hidden": "hidden units n"}
    return ", ".join(names.get(name, name.replace("_", " ")) for name in swept) or "ensemble"


def _cell_label(cell: Mapping[str, Any], bare: bool = False) -> str:
    if bare:
        return "\n".join(str(value) for value in cell.values()) or "all"
    return ", ".join(f"{name}={value}" for name, value in cell.items()) or "the ensemble"


def printed(summary: Summary) -> str:
    """The report as text for a terminal."""
    numbers = summary.numbers
    lines = []
    if numbers["members_missing"]:
        lines.append(f"Not complete: {numbers['members_missing']:,} members are still to be trained.")
    for cell in numbers["cells"]:
        lines += [f"\n{_cell_label(cell['cell'])}: {cell['members']:,} members", *_cell_lines(cell)]
    return "\n".join(lines).lstrip("\n")


def _cell_lines(cell: Mapping[str, Any]) -> list[str]:
    if "note" in cell:
        return [f"  {cell['note']}"]
    lines = ["", *table(["context", "solved", "accuracy A", "accuracy B", "correlator"], _context_rows(cell))]
    lines += ["", *table(PROTOCOL_COLUMNS, [protocol_row(p) for p in cell["protocols"]])]
    lines += ["", *(f"  {sentence}" for sentence in sentences(cell))]
    lines += ["", *table(SIGNALLING_COLUMNS, signalling_rows(cell))]
    lines += ["", *(f"  {sentence}" for sentence in sentences_on_tests(cell))]
    return lines


def _context_rows(cell: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            str(estimate(context["solved"])),
            f"{context['accuracy_alice']:.4f}",
            f"{context['accuracy_bob']:.4f}",
            f"{context['correlator']:+.4f}",
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
    undecided, pooled = cell["undecided"], cell["pooled"]
    diverged = cell["diverged"]
    result = [
        f"Diverged: {diverged['networks']:,} networks, in {diverged['members']:,} of {cell['members']:,} members; "
        "they count nowhere below.",
        f"Undecided: {undecided['answers']:.2%} of answers have a logit within the tolerance of 0, in "
        f"{undecided['networks']:.2%} of networks. Mean S as they fell {estimate(undecided['mean_s_as_they_fell'])}, "
        f"as coin tosses {estimate(undecided['mean_s_as_coin_tosses'])}; were each free to be right or wrong, mean S would "
        "be between {:.3f} and {:.3f}, and S above 2 in between {:.3f} and {:.3f} of members.".format(
            *undecided["mean_s_whatever_they_are"], *undecided["members_with_s_above_2_whatever_they_are"]
        ),
    ]
    share = estimate(undecided["decided_members"])
    if undecided["mean_s_of_decided_members"] is None:
        result.append("No member is without undecided answers.")
    else:
        result.append(
            f"Members without any undecided answer: {share} of all; their mean S is "
            f"{estimate(undecided['mean_s_of_decided_members'])}, and "
            f"{estimate(undecided['decided_members_with_s_above_2'])} of them have S > 2."
        )
    result.append(
        f"All members pooled: S = {estimate(pooled['s'])}; from accuracies alone {estimate(pooled['s_factorised'])}; "
        f"direct influence {estimate(pooled['influence'])}; contextuality Delta = s_odd - 2 - influence = "
        f"{estimate(pooled['contextuality'])}."
    )
    result.append(verdict(cell))
    return result


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
            *(f"{accuracy:.4f}" for accuracy in pooled["accuracies"]),
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
        f"One joint distribution for all contexts, pooled table: p = {p_value_text(locality['p_value'])} "
        f"({locality['method']}). This and the p-values of pooled rows take {tests['pooled_rows']:,} rows for independent "
        f"draws, which they are not: all members answer the same {cell['rows']} rows, and each member's errors go "
        "together. The tests across members are the ones that count.",
    ]


def verdict(cell: Mapping[str, Any]) -> str:
    """One sentence on S above 2 and contextuality, member by member and pooled."""
    above, contextual = estimate(cell["members_with_s_above_2"]), estimate(cell["members_contextual"])
    pooled = estimate(cell["pooled"]["contextuality"])
    text = f"S is above 2 in {above} of members. "
    if contextual.low > 0:
        text += f"Contextual once direct influence is discounted: {contextual} of members (Delta > 0)."
    elif above.value == 0:
        text += f"No member has Delta > 0 (at most {_upper(contextual)} of members, 95 %)."
    else:
        text += (
            "S above 2, explained by direct influence: no member has Delta > 0 "
            f"(at most {_upper(contextual)} of members, 95 %)."
        )
    text += f" Pooled over members, Delta {'is above 0: contextual' if pooled.low > 0 else 'is not above 0'}."
    return text


def _upper(fraction: Estimate) -> str:
    return f"{fraction.high:.2g}"


def estimate(values: Mapping[str, Any]) -> Estimate:
    """An estimate as summary.json holds it."""
    return Estimate(**values)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Columns of text under a header, as lines."""
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return [(indent + "  ".join(line)).rstrip() for line in lines]


def _page(run: Run, summary: Summary, figure_names: tuple[str, str]) -> str:
    """The report as one HTML page that shows the figures beside it."""
    title = html.escape(f"ncsim: {run.location.rpartition('/')[2]}" if run.location else "ncsim")
    body = [f"<h1>{title}</h1>"]
    if any(summary.laws):
        texts = ("S of 50 runs and its exact law, by protocol", "Mean S and mean correlators, by protocol")
        for name, text in zip(figure_names, texts, strict=True):
            body.append(f'<figure><img src="figures/{name}.svg" alt="{text}"><figcaption>{text}</figcaption></figure>')
    if summary.numbers["members_missing"]:
        body.append(f"<p>Not complete: {summary.numbers['members_missing']:,} members are still to be trained.</p>")
    for cell in summary.numbers["cells"]:
        body.append(f"<h2>{html.escape(_cell_label(cell['cell']))}: {cell['members']:,} members</h2>")
        if "note" in cell:
            body.append(f"<p>{html.escape(cell['note'])}</p>")
            continue
        body.append(html_table(["context", "solved", "accuracy A", "accuracy B", "correlator"], _context_rows(cell)))
        body.append(html_table(PROTOCOL_COLUMNS, [protocol_row(p) for p in cell["protocols"]]))
        body += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences(cell)]
        body.append(html_table(SIGNALLING_COLUMNS, signalling_rows(cell)))
        body += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences_on_tests(cell)]
    return html_page(title, body)


def html_page(title: str, body: Sequence[str]) -> str:
    """A page of its own, in our style."""
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}"
        "td{font-variant-numeric:tabular-nums}img{max-width:100%}figure{margin:1em 0}"
    )
    return f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style>' + "\n".join(body) + "\n"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as HTML."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line("th", header) + "".join(line("td", row) for row in rows) + "</table>"
