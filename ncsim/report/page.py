"""A page of HTML from headings, paragraphs, tables and pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence


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
