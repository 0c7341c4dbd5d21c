"""The console's files: nothing inline, nothing from elsewhere, and no way for a text to become markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.contract import DOCUMENT

FOLDER = DOCUMENT.parents[1] / "gateway" / "console"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".html", ".js", ".css", ".svg"))
PAGES = {path.name: path.read_text(encoding="utf-8") for path in FILES if path.suffix == ".html"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_forbids_what_it_does_not_need(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', PAGES[page])
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.group(1).split(";"))
    assert rules["default-src"] == "'none'"
    if page == "reports.html":  # a report's frame has its page's policy, and brings its own style
        assert rules.pop("style-src") == "'self' 'unsafe-inline'"
    assert set(rules.values()) <= {"'none'", "'self'"}, "no inline code, no other host"


def test_nothing_is_inline_and_every_file_that_is_named_exists() -> None:
    named = ["review.html", "reports.html"]  # at /console/review and /console/reports
    for page in PAGES.values():
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", page)
        named += re.findall(r'(?:src|href)="/console/([^"]+\.\w+)"', page)
    for path in FILES:
        if path.suffix == ".js":
            named += re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8"))
    assert {path.name for path in FILES} - {"index.html"} == set(named)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_loads_from_elsewhere_or_makes_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    foreign = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}
    assert not foreign
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.search(ways, text)
