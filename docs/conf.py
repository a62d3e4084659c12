"""The site's settings. Its source is the whole clone, so that pages link to each other as they do on GitHub. `make docs` builds it.

The one table of contents is docs/index.md: its headings and links become the sidebar. What is generated (the pages of
examples) goes to docs/gallery, which is not committed.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

import ncsim
from ncsim.cli.command import _parser

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # an example uses an experiment's data
os.environ["COLUMNS"] = "78"  # the width of help
logging.getLogger("fontTools").setLevel(logging.WARNING)  # in examples that save figures

project = "ncsim"
version = release = ncsim.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
#: Pages that list others, and which of their links are pages below them.
LISTS = {"docs/commands": "/docs/commands/", "docs/api/index": "/docs/api/", "benchmarks/README": "/benchmarks/notes-"}
#: Pages that GitHub shows as well.
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "DESIGN.md", "CHANGELOG.md"),
    *("docs/**.md", "docs/gallery/**.rst", "benchmarks/*.md", "experiments/README.md"),
]
exclude_patterns = [".*", "build", "runs", "dist", "**/sg_execution_times.rst", "*.egg-info"]

# Notebooks and pages.
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be loaded from another host

# The API, from docstrings.
default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say types, shapes and units
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

# Examples.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": r"\.py$",
    "subsection_order": [f"examples/{theme}" for theme in ("ensembles", "statistics", "training", "text")],
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "min_reported_time": 1000,
    "image_srcset": ["2x"],
    "doc_module": ("ncsim",),
    "reference_url": {"ncsim": None},
}

# The pages. Nothing is loaded from elsewhere.
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"ncsim {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "front.html"}
templates_path = ["_templates"]
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


def with_contents(app, docname: str, source: list[str]) -> None:
    """Give pages that list others their contents, from their own headings and links, and lead links to examples to their pages."""
    folder, text = os.path.dirname(docname), source[0]
    groups = []
    if docname == root_doc:
        groups = re.findall(r"^\*\*(.+)\*\*\n\n((?:- .*\n(?:  .*\n)*)+)", text, re.MULTILINE)
    elif docname in LISTS:
        groups = [("", text)]
    for caption, items in groups:
        links = re.findall(r"^- \[([^\]]+)\]\(([^)#:]+\.(?:md|rst))\)|\]\(([^)#:]+\.md)\)", items, re.MULTILINE)
        pages = {
            on_site("/" + os.path.normpath(os.path.join(folder, own or other))): title for title, own, other in links
        }
        entries = "\n".join(
            f"{title} <{page}>" if title else page
            for page, title in pages.items()
            if docname == root_doc or re.match(LISTS[docname], page)
        )
        titled = f":caption: {caption}\n" if caption else ""
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n{titled}\n{entries}\n```\n"
    up = "../" * docname.count("/")
    source[0] = re.sub(
        r"\]\((?:\.\./)*(examples/[\w/]+\.(?:py|rst))\)",
        lambda match: f"]({up}{on_site('/' + match[1])[1:]}.rst)",
        source[0],
    )


def on_site(page: str) -> str:
    """The page of the site that shows a file of the clone."""
    page = page.removesuffix(".md").removesuffix(".py").removesuffix(".rst")
    return page.replace("/examples/README", "/docs/gallery/index").replace("/examples/", "/docs/gallery/")


def as_rst(app, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """In docstrings |x| is an absolute value, [R, *C] a shape, and what is returned has no type before a colon."""
    example, changed = False, []
    for line in lines:
        example = line.startswith("Example") or (example and (not line or line.startswith(" ")))
        changed.append(line if example else re.sub(r"\||(?<=, )\*(?=\w+\])", r"\\\g<0>", line))
        if line in ("Returns:", "Yields:"):
            changed.append("    \\ ")
    lines[:] = changed


def short_signature(
    app, what: str, name: str, value: object, options: object, signature: str | None, gives: str | None
):
    """The paper's tasks by their name and not row by row."""
    if signature:
        return re.sub(r"TruthTables\(.*?name='paper'\)", "PAPER_TASKS", signature), gives
    return None


def without_fields(app, what: str, name: str, value: object, skip: bool, options: object) -> bool | None:
    """A named tuple's fields are described in its docstring."""
    return True if type(value).__name__ == "_tuplegetter" else None


class CommandHelp(Directive):
    """What `ncsim COMMAND --help` prints."""

    required_arguments = 0
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        parser = _parser()
        if self.arguments:
            parser = parser._subparsers._group_actions[0].choices[self.arguments[0]]
        text = parser.format_help()
        return [nodes.literal_block(text, text, language="none", classes=["command-help"])]


def put_right(app, error: Exception | None) -> None:
    """Pages of readers with a screen reader or without a mouse; a builder of something else has none."""
    from accessible import accessible

    for page in [] if error or app.builder.name != "html" else Path(app.outdir).rglob("*.html"):
        page.write_text(accessible(page.read_text()))


def setup(app) -> None:
    app.connect("build-finished", put_right)
    app.add_directive("command-help", CommandHelp)
    app.connect("source-read", with_contents, priority=1)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-skip-member", without_fields)
