"""The site's source is whole, and the checks of the built site find what they are for. `make docs` builds and checks it."""

import ast
import codeop
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import ncsim
import ncsim.text
from ncsim.cli.command import _parser
from tests.support.site import Page, elsewhere, faults

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
REFERENCE = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
CELLS = re.findall(
    r"^```{code-cell} python\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL | re.MULTILINE
)
NEW_PAGES = sorted([*(ROOT / "docs" / "api").glob("*.md"), *(ROOT / "docs" / "commands").glob("*.md")])


@pytest.mark.parametrize(
    "name", [*(f"ncsim.{name}" for name in ncsim.__all__), *(f"ncsim.text.{name}" for name in ncsim.text.__all__)]
)
def test_every_public_name_is_in_the_reference_once(name):
    assert len(re.findall(rf"^\.\. (?:auto\w+|py:data):: {re.escape(name)}$", REFERENCE, re.MULTILINE)) == 1


def test_every_command_has_its_page():
    commands = set(_parser()._subparsers._group_actions[0].choices)
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "commands").glob("*.md")}
    assert set(pages) == commands
    for command, text in pages.items():
        assert f"```{{command-help}} {command}\n" in text
        assert f"(commands/{command}.md)" in (ROOT / "docs" / "commands.md").read_text()


@pytest.mark.parametrize("page", NEW_PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_examples_are_short_and_have_a_title_and_a_picture(example):
    text = example.read_text()
    title, underline, *_ = ast.get_docstring(ast.parse(text)).splitlines()
    assert underline == "=" * len(title)
    assert "plt.show()" in text
    assert len(text.splitlines()) <= 110


def pasted(block):
    """What a block leaves unfinished when its lines are typed into a Python session, one behind another.

    Raises:
        SyntaxError: a line that the session does not take, as one that ends an indented block without an empty line.
    """
    waiting = []
    for line in [*block.splitlines(), ""]:
        waiting.append(line)
        if codeop.compile_command("\n".join(waiting), symbol="single") is not None:
            waiting = []
    return waiting


@pytest.mark.parametrize("block", CELLS, ids=range(len(CELLS)))
def test_the_tutorial_can_be_pasted(block):
    assert len(CELLS) >= 10
    assert pasted(block) == []


@pytest.mark.slow
def test_the_tutorial_tells_sums_above_2_from_s_above_2():
    """Its last picture has the largest of eight sums, of which more are above 2 than of S."""
    text = " ".join((ROOT / "docs" / "tutorial.md").read_text().split())
    found = re.search(r"some sum like S is above 2: (\d+) % here, and (\d+) % have S itself above it", text)
    statistics = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=3, members=2_000, steps=1_000)).statistics()
    for share, values in zip(found.groups(), (statistics.s_odd, statistics.s), strict=True):
        assert abs(int(share) / 100 - (values > 2).mean()) < 0.01


def test_what_cannot_be_pasted_is_found():
    with pytest.raises(SyntaxError):
        pasted("for n in (1, 2):\n    print(n)\nprint(3)")
    assert pasted("print(") == ["print(", ""]


def test_themes_have_headings_and_examples():
    assert len(EXAMPLES) >= 8
    for theme in {example.parent for example in EXAMPLES}:
        assert (theme / "README.rst").exists()
        assert f'"{theme.name}"' in (ROOT / "docs" / "conf.py").read_text(), "docs/conf.py has the order of themes"


def test_the_workflow_runs_what_must_hold_and_builds_the_site():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the word `on` as true
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert ".ci/run" in commands
    lines = map(str.strip, (ROOT / ".ci" / "run").read_text().splitlines())
    made = [line for line in lines if line.startswith("make ")]
    assert "make test" in made
    assert any("docs" in line.split() for line in made)
    versions = [step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})]
    assert any("3.11" in version and "3.12" in version for version in versions)
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//fonts.example/css">', "loads //fonts.example/css"),
        ('<img src="a.png" srcset="a.png, https://x.example/b.png 2.00x">', "loads https://x.example/b.png"),
        ("<style>@import url(https://x.example/y.css);</style>", "loads https://x.example/y.css"),
        ('<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ('<a href="#gone">x</a>', "#gone has no such place"),
        ('<a href="other.html#gone">x</a>', "other.html#gone has no such place"),
        ("<pre>File /root/secret/run.py</pre>", "names /root/secret"),
        ("<pre>stored in /tmp/tmp8x_a1/run</pre>", "names /tmp/tmp8x_a1"),
        (
            '<a href="https://arxiv.org/abs/2603.04451">x</a> <a href="other.html#here">y</a> <link rel="canonical" href="https://x.example">',
            None,
        ),
    ],
)
def test_faults_of_a_site_are_found(tmp_path, body, fault):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "other.html").write_text('<p id="here">x</p>')
    (tmp_path / "index.html").write_text(body)
    assert faults(tmp_path) == ([] if fault is None else [f"index.html: {fault}"])


def test_style_sheets_are_read_and_an_empty_site_is_a_fault(tmp_path):
    (tmp_path / "page.css").write_text(
        "body { background: url('https://x.example/a.png') } p { background: url(b.png) }"
    )
    assert faults(tmp_path) == [f"{tmp_path.resolve()}: no page", "page.css: loads https://x.example/a.png"]
    assert Page('<p id="a"><a href="#a">').links == ["#a"]
    assert not elsewhere("data:image/png;base64,AA")


def test_pages_are_put_right_for_screen_readers_and_keys():
    """What axe-core found on the built site, from the words that Sphinx, furo and the gallery write."""
    spec = importlib.util.spec_from_file_location("accessible", ROOT / "docs" / "accessible.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (
        '<html><title>A - ncsim</title><aside class="sidebar-drawer"><p class="caption" role="heading"><span>Begin</span></p></aside>'
        '<article role="main" id="furo-main-content"><div class="table-wrapper colwidths-auto docutils container"><table><thead><tr>'
        '<th class="head"><p></p></th><th class="head text-right"><p></p></th><th class="head"><p>S</p></th></tr></thead></table></div>'
        '<div class="highlight"><pre><span></span>ncsim report\n</pre></div>'
        '<p><a class="reference internal" href="a.html"><span class="doc">A first</span></a></p>\n'
        '  <div class="sphx-glr-thumbnail-title">A first</div>'
        '<p><a class="reference internal" href="b.html"><span class="doc">B</span></a></p></article>'
        '<aside class="toc-drawer"></aside><aside class="toc-drawer no-toc"></aside></html>'
    )
    right = module.accessible(page)
    assert module.accessible(right) == right
    assert '<p class="caption" role="heading" aria-level="2">' in right
    assert right.count("<th ") == 1
    assert right.count("<td></td>") == 2
    assert '<pre tabindex="0">' in right
    assert '<div tabindex="0" role="group" aria-label="Table" class="table-wrapper colwidths-auto' in right
    assert re.findall(r'<aside class="([\w -]+)" aria-label="(\w+)">', right) == [
        ("sidebar-drawer", "Site"), ("toc-drawer", "Page"), ("toc-drawer no-toc", "Page"),
    ]  # fmt: skip
    assert '<a class="reference internal" href="a.html" aria-label="A first">' in right
    assert '<a class="reference internal" href="b.html">' in right
    assert right.count("<h1>A</h1>") == 1
    assert module.accessible(right.replace("<h1>A</h1>", "<h1>B</h1>")).count("<h1") == 1
    front = (ROOT / "docs" / "_templates" / "front.html").read_text()
    assert re.search(r"<main><h1><a .*</h1></main>", front)
