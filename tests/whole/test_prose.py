"""The pages are plain to read: short sentences, "per" for "a", no dead links. For many readers English is a second language."""

import re
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
#: Words per sentence of a page, in the mean.
LONGEST_MEAN = 20
#: Sentences that a page has at least before its mean says something.
FEWEST = 5

#: What is counted, and the singular that stands behind "a" in its wrong use: "100,000 networks a context".
COUNTED = (
    "accuracies answers adapters bytes columns correlators entries epochs files heads items labels lines "
    "logits members milliseconds minutes networks network-steps numbers operations pairs panels parts percent points "
    "programs rows runs samples seconds steps tasks times tokens units"
).split()
PER = (
    "adapter block call cell chip claim class column config context core device epoch file group head item lane layer "
    "machine member minute network page panel part party program protocol rank row run second seed side step suite "
    "task token turn unit vector width worker"
).split()
FORBIDDEN = {
    '"a" for "per"': re.compile(
        rf"(?<!= )\b(?:one|two|three|four|five|twelve|sixteen|(?:\d[\d,.e]*)|(?:{'|'.join(COUNTED)})) (?:a|an) (?:{'|'.join(PER)})\b"
        # "members a part is made of": a verb behind it makes it another use.
        r"(?! (?:that|which|of|in|as|with|can|may|must|\w+s)\b)"
    ),
    'a free relative ("of whomever", "by whoever")': re.compile(r"\b(?:whomever|whoever)\b|\bwhat there is to\b", re.I),
    'a bare "who" as the subject': re.compile(r"\b(?:[Oo]nly )?[Ff]or who\b|(?:^|[.;] )Who \w+s\b(?![^.]*\?)"),
}


def without_markup(text):
    """The page's running text: code, tables, headings, HTML, link targets and formulas on lines of their own are left out."""
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    lines, block_before, in_list = [], True, False
    for line in text.split("\n"):
        item = re.match(r"\s*(?:[-*+]|\d+\.)\s+", line)
        in_list = bool(item) or (in_list and (not line.strip() or line.startswith("  ")))
        # Indented by four after an empty line is code, and by two more inside a list.
        indent = len(line) - len(line.lstrip())
        code = block_before and line.strip() and not item and indent >= (6 if in_list else 4)
        if code:
            continue  # what follows directly is code as well: block_before stays
        block_before = not line.strip()
        if line.startswith(("#", "|", ">>>")):
            lines.append("")
        elif item:
            lines += ["", line[item.end() :]]
        else:
            lines.append(line)
    text = "\n".join(lines)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"</?[a-z][^>\n]*>", " ", text)


def sentences(text):
    """Sentences, as lists of words. What stands in backticks is one word, however long. A paragraph ends a sentence, and
    so does a list item."""
    found = []
    for paragraph in re.split(r"\n\s*\n", without_markup(text)):
        plain = re.sub(r"`[^`]+`", "code", " ".join(paragraph.split()))
        plain = re.sub(r"\b(e\.g|i\.e|vs|etc|cf|al)\.", r"\1", plain)
        for sentence in re.split(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'(*_]*[A-Z0-9a-z])", plain):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if words:
                found.append(words)
    return found


def mean_length(text):
    """Words per sentence, in the mean; 0 for a page of fewer than FEWEST sentences."""
    found = sentences(text)
    return sum(map(len, found)) / len(found) if len(found) >= FEWEST else 0.0


def links(text):
    """Targets of links and pictures, without addresses of other sites."""
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text):
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_sentences_are_short(page):
    mean = mean_length(page.read_text())
    longest = " ".join(max(sentences(page.read_text()), key=len))
    assert mean < LONGEST_MEAN, f"{named(page)}: {mean:.1f} words per sentence; the longest: {longest}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_words_are_plain(page):
    # Tables are read as well; code is not.
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = " ".join(re.sub(r"`[^`]*`", "code", text).split())
    found = [(kind, match.group()) for kind, pattern in FORBIDDEN.items() for match in pattern.finditer(text)]
    assert not found, f"{named(page)}: {found}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        assert other.exists(), f"{named(page)}: {target}"
        if anchor:
            assert anchor in anchors(other.read_text()), f"{named(page)}: {target}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target).resolve() for target in links(index.read_text()) if "#" not in target}
    for page in (ROOT / "docs").glob("*.md"):
        assert page == index or page.resolve() in listed, f"docs/index.md does not list {page.name}"


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("One two. Three four five.", [2, 3]),
        ("# A heading\n\nOne two\nthree.\n", [3]),
        ("- one two\n- three\n  four\n", [2, 2]),
        ("Two words:\n\n    code is none of these\n    nor is this\n\nThree more words", [2, 3]),
        ("Before\n```text\nnot this. nor this.\n```\nafter", [1, 1]),
        ("| a | table |\n|---|---|\n\nSee [this page](docs/very/long.md#x) at 3.5 %.", [5]),
        ("Ends with `a b c`. Then `d`.", [3, 2]),
        ("A number (see 2). Another.", [4, 1]),
        ("- item one\n\n      code in a list\n\n  goes on", [2, 2]),
    ],
)
def test_how_sentences_are_counted(text, lengths):
    assert [len(words) for words in sentences(text)] == lengths


@pytest.mark.parametrize(
    "text", ["one a cell", "100,000 networks a context", "2.2e8 network-steps a second", "a panel; two files a part"]
)
def test_a_for_per_is_found(text):
    assert FORBIDDEN['"a" for "per"'].search(text)


@pytest.mark.parametrize(
    "text",
    ["one network per context", "of which members a part is made", "at n = 3 a step is short", "each run is a member"],
)
def test_other_uses_of_a_are_left_alone(text):
    assert not FORBIDDEN['"a" for "per"'].search(text)
