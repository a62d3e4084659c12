"""The index of the experiments, made from their docstrings: `python -m experiments.shared.index > experiments/README.md`."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]


def index() -> str:
    """The page: per experiment its file, what it is about, its question and its time."""
    rows = []
    for path in sorted(FOLDER.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        if text:
            title, *paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
            said = {name: rest for name, _, rest in (paragraph.partition(". ") for paragraph in paragraphs)}
            cells = [f"[{path.name}]({path.name})", title, said.get("Question", ""), said.get("Time", "")]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    head = (
        "# Experiments\n\nEach file is a document: a question, a command, a time, and what is expected, stated before the run. "
        "Run one with\n`python -m experiments.NAME`. What several share is in `shared/`. This page is made from the files: "
        "`python -m experiments.shared.index`.\n\n"
    )
    return head + "\n".join(["| file | about | question | time |", "|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(index(), end="")
