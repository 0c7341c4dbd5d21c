"""Every example of the pages is well formed and names only what exists; an e2e test runs them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.unit.docs.api_document import exists, openapi, paths_in
from tests.unit.docs.commands import fault, written
from tests.unit.docs.pages import ROOT, RUN, Block, Page, pages, runnable

#: Shown blocks may be of these languages; anything else is a misspelt `sh` or `python`.
SHOWN = ("", "text", "py", "json", "yaml", "sql")
EXAMPLES = runnable()


def test_there_are_examples() -> None:
    assert {block.page for block in EXAMPLES} >= {"README.md", "docs/api.md", "docs/operations.md"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_block_is_run_or_shown(page: Page) -> None:
    for block in page.blocks:
        assert block.language in (*RUN, *SHOWN), (
            f"{block}: {block.language!r} is neither run nor shown; use sh, python, or text"
        )
        if block.run_by:
            assert (ROOT / block.run_by).is_file(), f"{block}: {block.run_by} does not exist"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_a_block_parses(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.text, filename=str(block))
        return
    checked = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert checked.returncode == 0, f"{block}: {checked.stderr}"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_a_block_works_without_an_activated_environment(block: Block) -> None:
    if block.run_by is None and block.language == "sh":
        bare = [line for line in block.text.splitlines() if re.match(r"\s*(twinrail|python)\b", line)]
        assert not bare, f"{block}: write .venv/bin/: {bare[0]}"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of the pages, in blocks of any kind and in the text."""
    for page in pages():
        for block in page.blocks:
            if block.language in ("sh", "text", ""):
                for words in written(block.text):
                    yield str(block), words
        for line, code in page.inline_code():
            if code.startswith(("twinrail ", ".venv/bin/twinrail ")):
                for words in written(code):
                    yield f"{page.name}:{line}", words


def test_commands_exist() -> None:
    found = [f"{place}: {told}" for place, words in commands() if (told := fault(words))]
    assert not found, "\n".join(found)


async def test_paths_exist() -> None:
    document = await openapi()
    missing = [
        f"{page.name}: {path}"
        for page in pages()
        for path in paths_in("\n".join(_without_foreign(page)))
        if not exists(path, document)
    ]
    assert not missing, "\n".join(missing)


def _without_foreign(page: Page) -> Iterator[str]:
    """The lines that speak of our API; those about an engine's or a collector's own paths are left out."""
    for line in page.lines:
        if not any(word in line for word in ("OTLP", "OTEL_", "engine's", "each engine", "/v1/traces")):
            yield line
