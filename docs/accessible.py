"""What pages of the site lack for readers with a screen reader or without a mouse, put right in the built HTML.

Sphinx, its theme and the gallery leave it out: levels of headings, names of landmarks and links, and a way to scroll by keys. As
axe-core finds it.
"""

from __future__ import annotations

import re

#: What is looked for, and what stands there then.
CHANGES = (
    # A heading has a level: captions of the contents are below the page's own.
    (r'<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
    # The corner of a table is no heading.
    (r'<th class="head(?: text-\w+)?"><p></p></th>', "<td></td>"),
    # What may be wider than the page takes the focus, so that keys scroll it.
    (r"<pre>", '<pre tabindex="0">'),
    (r'<div class="table-wrapper', '<div tabindex="0" role="group" aria-label="Table" class="table-wrapper'),
    (r'<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Site">'),
    (r'<aside class="toc-drawer( no-toc)?">', r'<aside class="toc-drawer\1" aria-label="Page">'),
    # The gallery shows a picture over the link's own words.
    (
        r'(<p><a class="reference internal" href="[^"]*")(><span class="doc">([^<]*)</span></a></p>\s*<div class="sphx-glr-thumb)',
        r'\1 aria-label="\3"\2',
    ),
)
#: Where a page's heading is, if it has none of its own.
ARTICLE = '<article role="main" id="furo-main-content">'


def accessible(text: str) -> str:
    """A page of the site, put right. A second time it is as it was."""
    for pattern, other in CHANGES:
        text = re.sub(pattern, other, text)
    if "<h1" not in text:
        title = re.search(r"<title>(.*?)(?: - .*?)?</title>", text)
        text = text.replace(ARTICLE, f"{ARTICLE}<h1>{title[1] if title else 'ncsim'}</h1>", 1)
    return text
