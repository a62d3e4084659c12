"""Claims of docs/results.md and docs/seeds.md stand beside an interval, or with a link to a proof, a certificate or a table.

A claim is a list item, or a paragraph that opens in bold. What only says what a word means, or what was expected, is none. That links and
their anchors lead somewhere is asked in test_prose.py.
"""

import re
from pathlib import Path

import pytest

DOCS = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists()) / "docs"
PAGES = ("results.md", "seeds.md")
#: Openings in bold or italics of what claims nothing: expectations, definitions, limits, and the words before a table.
NO_CLAIMS = "|".join(
    (
        *("Expected", "Limits", "The picture", "Where that reason ends", "Learning equilibrium"),
        *("Foreign share", "Entropy of functions", "Cross kernel", "Network given the context", "Shuffled pairs"),
    )
)
NUMBER = r"-?\d[\d,.]*(?:e-?\d+)?%?"
#: What a claim may rest on, by name.
EVIDENCE = {
    "an interval": rf"\[{NUMBER}, {NUMBER}\]",
    "a standard error": rf"\+- ?{NUMBER}",
    "a limit": rf"\b(?:at most|at least|to within) (?:10\^)?{NUMBER}(?! tries)\b|\b{NUMBER} or (?:more|less)\b",
    "a p-value": rf"\bp = {NUMBER}",
    "all or none of so many": r"\b(?:all|none|\d[\d,]*) of (?:the )?\d[\d,]*\b",
    "a link": r"\]\([^)\s]+\)",
}


def sections(page):
    """Headings of the second level, and what stands below each."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def claims(text):
    """List items, and paragraphs that open in bold, but for those that claim nothing."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.match(r"\s{4}|\||!\[|#|\(", paragraph):
            continue
        for item in re.split(r"\n(?=- )", paragraph.strip("\n")):
            opens = re.match(r"(- )?(\*\*|\*)?(.*)", item)
            if (opens[1] or opens[2] == "**") and not re.match(NO_CLAIMS, opens[3]):
                found.append(" ".join(item.split()))
    return found


def rests_on(claim):
    """Names of what stands behind a claim."""
    return [name for name, pattern in EVIDENCE.items() if re.search(pattern, claim)]


@pytest.mark.parametrize("page", PAGES)
def test_every_claim_rests_on_something(page):
    bare = [claim for _, text in sections((DOCS / page).read_text()) for claim in claims(text) if not rests_on(claim)]
    assert not bare, f"docs/{page}: an interval, a limit or a link is missing: {bare[:3]} ({len(bare)} in all)"


@pytest.mark.parametrize("page", PAGES)
def test_every_section_has_an_interval_or_a_link(page):
    for heading, text in sections((DOCS / page).read_text()):
        assert {"an interval", "a standard error", "a limit", "a link"} & set(rests_on(text)), f"docs/{page}: {heading}"


def test_every_verdict_leads_to_its_section():
    page = (DOCS / "seeds.md").read_text()
    rows = re.findall(r"^\| (?!claim|---)(.+) \|$", page.partition("\n## ")[0], re.MULTILINE)
    assert len(rows) >= 11
    for row in rows:
        assert re.fullmatch(r"\[[^\]]+\]\(#[\w-]+\)", row.split(" | ")[-1]), row


@pytest.mark.parametrize(
    ("claim", "evidence"),
    [
        ("- **S is below 2.** It always is.", []),
        ("- S is 1.79, and 1.72 from accuracies alone.", []),
        ("- S is 1.79 [1.77, 1.81].", ["an interval"]),
        ("- Three units [cannot](capacity.md) solve it.", ["a link"]),
        ("**None is contextual**: 0 of 3,000 (at most 1e-3).", ["a limit", "all or none of so many"]),
        ("- Delta is -2.0 +- 0.1, p = 0.04.", ["a standard error", "a p-value"]),
    ],
)
def test_what_a_claim_rests_on(claim, evidence):
    assert claims(claim) == [claim]
    assert rests_on(claim) == evidence


@pytest.mark.parametrize(
    "text",
    ["**Expected** was more.", "Plain words lead to a table.", "| a | **b** |", "    code", "(2026-11-28, two cores.)"],
)
def test_what_is_no_claim(text):
    assert claims(text) == []
