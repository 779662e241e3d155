# SPDX-License-Identifier: Apache-2.0
"""The built site in docs/_build: links lead somewhere in it, and nothing comes from elsewhere."""

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).resolve().parents[1] / "_build"
PAGES = sorted(
    path
    for path in SITE.rglob("*.html")
    # Listings of sources link back by the names of objects there, which pages do not all use; no
    # page links to what the theme leaves behind.
    if {"_modules", "_static"}.isdisjoint(path.parts)
)
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The links, places and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.loaded: list[str] = []
        self.description = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        named = {name: value or "" for name, value in attrs}
        self.places |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if LOADED.get(tag) in named:
            self.loaded.append(named[LOADED[tag]])
        if tag == "meta" and named.get("name") == "description":
            self.description = named["content"]


@cache
def read(path: Path) -> Page:
    """Return a page."""
    return Page(path)


def broken(path: Path, addresses: list[str]) -> Iterator[str]:
    """Yield the addresses of this site that lead nowhere."""
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        missing = not target.is_file()
        if missing or (
            parts.fragment
            and target.suffix == ".html"
            and unquote(parts.fragment) not in read(target).places
        ):
            yield address


def test_the_site_is_built() -> None:
    assert {"index.html", "search.html"} <= {path.name for path in PAGES}
    assert len(PAGES) > 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_links_lead_somewhere(path: Path) -> None:
    page = read(path)
    assert list(broken(path, page.links)) == []
    assert list(broken(path, page.loaded)) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    assert [it for it in read(path).loaded if urlsplit(it).netloc] == []


def test_pages_have_a_description() -> None:
    written = [*SITE.glob("*.html"), *SITE.glob("models/**/*.html"), *SITE.glob("api/*.html")]
    lists = {"genindex.html", "guides.html", "py-modindex.html", "search.html"}
    bare = [it.name for it in written if it.name not in lists and not read(it).description]
    assert bare == []
