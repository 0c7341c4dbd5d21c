"""The parser of the pages, on small pages."""

from __future__ import annotations

import pytest

from tests.unit.docs.commands import fault, written
from tests.unit.docs.pages import parse

PAGE = """# A page: its head

See [there](other.md#a-part) and `[not](a-link.md)`.

<!-- run by tests/x.py -->
```sh
echo '```'
```

````text
```python
shown, not run
```
````

## Table
| variable | default |
| --- | --- |
| `A_B` | `a \\| b` |
"""


def test_blocks_know_their_line_language_and_who_runs_them() -> None:
    first, second = parse("p.md", PAGE).blocks
    assert (first.line, first.language, first.run_by) == (6, "sh", "tests/x.py")
    assert first.text == "echo '```'\n"
    assert (second.language, second.run_by) == ("text", None)
    assert "shown, not run" in second.text


def test_links_anchors_and_tables() -> None:
    page = parse("p.md", PAGE)
    assert list(page.links()) == [(3, "other.md#a-part")]
    assert page.anchors == {"a-page-its-head", "table"}
    assert page.tables() == {"Table": [{"variable": "`A_B`", "default": "`a | b`"}]}


def test_an_open_block_is_named() -> None:
    with pytest.raises(ValueError, match=r"p\.md:1"):
        parse("p.md", "```sh\necho\n")


def test_commands_are_found_in_pipes_and_substitutions() -> None:
    text = 'turn=$(.venv/bin/twinrail ask "How much?" --json | head -n 1)\ntwinrail status && twinrail rails'
    assert list(written(text)) == [["ask", "How much?", "--json"], ["status"], ["rails"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["keys", "create", "website", "--scope", "ask"], None),
        (["eval", "run", "--limit", "3"], None),
        (["undo", "model", "--dry-run"], None),
        (["undoo", "model"], "has no command 'undoo'"),
        (["keys", "make"], "has no command 'make'"),
        (["ask", "x", "--loud"], "has no --loud"),
    ],
)
def test_wrong_commands_are_told(words: list[str], told: str | None) -> None:
    found = fault(words)
    assert found is None if told is None else told in (found or "")
