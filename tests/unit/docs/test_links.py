"""Links between the pages lead somewhere: the file is there, and the heading too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.docs.pages import ROOT, Page, page, pages

OUTSIDE = ("http://", "https://", "mailto:")


def broken(of: Page) -> Iterator[str]:
    for line, target in of.links():
        if target.startswith(OUTSIDE):
            continue
        file, _, anchor = target.partition("#")
        path = (of.path.parent / file).resolve() if file else of.path
        if not path.exists() or not path.is_relative_to(ROOT):
            yield f"{of.name}:{line}: {target}: there is no such file"
        elif anchor and anchor not in page(path.relative_to(ROOT).as_posix()).anchors:
            yield f"{of.name}:{line}: {target}: {file or of.name} has no such heading"


@pytest.mark.parametrize("of", pages(), ids=lambda each: each.name)
def test_links_of_a_page(of: Page) -> None:
    found = list(broken(of))
    assert not found, "\n".join(found)


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for _, target in page(name).links():
            if not target.startswith(OUTSIDE):
                path = ((ROOT / name).parent / target.partition("#")[0]).resolve()
                found = path.glob("*.md") if path.is_dir() else [path] if path.suffix == ".md" else []
                waiting += [each.relative_to(ROOT).as_posix() for each in found if each.is_file()]
    lost = {each.name for each in pages()} - seen
    assert not lost, f"no link leads to {', '.join(sorted(lost))}"
