"""The built site, looked at as a browser would find it: `python -m tests.support.site FOLDER` names what is wrong, in lines."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a page loads by itself, by element. A link that a reader clicks may lead anywhere.
LOADS = {
    **dict.fromkeys(("script", "img", "iframe", "embed", "source", "audio", "video", "track", "input"), "src"),
    **{"link": "href", "object": "data", "use": "href", "image": "href"},
}
#: Kinds of `<link>` that are addresses and load nothing.
ADDRESSES = {"canonical", "search", "index", "next", "prev", "author", "license", "contents"}
#: Where files are on a machine; pages of documents name /shared and /tmp/ncsim as examples.
MACHINE = re.compile(r"(?:/home|/root|/work|/Users|/private)/[\w.-]+|/tmp/tmp\w+|\b(?:\d{1,3}\.){3}\d{1,3}:\d+")


class Page(HTMLParser):
    """The ids of a page, its links, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.words = set(), [], [], []
        self.feed(text)
        for style in re.findall(r"<style.*?</style>", text, re.DOTALL):
            self.loads += loaded_by_css(style)

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        kind = set(found.get("rel", "").split())
        if tag in LOADS and LOADS[tag] in found and not kind & ADDRESSES:
            self.loads.append(found[LOADS[tag]])
            self.links.append(found[LOADS[tag]])
        self.loads += [part.split()[0] for part in found.get("srcset", "").split(",") if part.strip()]

    def handle_data(self, data):
        self.words.append(data)


def loaded_by_css(text):
    """What a style sheet loads."""
    found = re.findall(r"url\(\s*[\"']?([^\"')\s]+)|@import\s+[\"']([^\"']+)", text)
    return [one or other for one, other in found]


def elsewhere(address):
    """Whether an address is on another host."""
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme in ("http", "https", "ftp", "ws", "wss")


def faults(folder):
    """What is wrong with a site, in lines: loads from other hosts, links to nothing, paths of the machine that built it."""
    folder = Path(folder).resolve()
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    found = [] if pages else [f"{folder}: no page"]
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name}: loads {load}" for load in page.loads if elsewhere(load)]
        found += [f"{name}: names {match}" for match in sorted(set(MACHINE.findall(" ".join(page.words))))]
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{name}: {link} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].ids:
                found.append(f"{name}: {link} has no such place")
    for path in sorted(folder.rglob("*.css")):
        loads = loaded_by_css(path.read_text())
        found += [f"{path.relative_to(folder)}: loads {load}" for load in loads if elsewhere(load)]
    return found


def main(folder):
    """Print the faults; status 1 where there are any."""
    lines = faults(folder)
    print("\n".join(lines) or f"{folder}: all links lead somewhere, and nothing is loaded from elsewhere")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
