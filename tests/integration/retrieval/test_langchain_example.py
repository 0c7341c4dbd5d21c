"""Whole programs: those of the README do what the page says, and one that never closes anything ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retrieval.minilm import prepare_minilm
from tests.prepared import MODELS
from tests.unit.docs.pages import ROOT, runnable

HERE = Path(__file__).resolve().relative_to(ROOT).as_posix()
#: Sync calls first, then an event loop after another, as programs do that know no better.
CARELESS = """
import asyncio, os
from langchain_core.embeddings import DeterministicFakeEmbedding
from retrieval.langchain import TwinrailVectorStore

store = TwinrailVectorStore.from_texts(
    ["red fox"], DeterministicFakeEmbedding(size=4), ids=["a"],
    database_url=os.environ["DATABASE_URL"], tenant="acme", model_id="fake-4",
)
for _ in range(2):
    print(asyncio.run(store.asimilarity_search("red"))[0].id)
print(store.similarity_search("red")[0].id)
"""


def output_of(program: str, database_url: str) -> list[str]:
    """What a program prints that ends well and without a word on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url, "TWINRAIL_HOME": str(MODELS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def example(part: str) -> str:
    """The program of the README that uses this."""
    prepare_minilm(MODELS / "minilm")
    (text,) = (block.text for block in runnable() if block.run_by == HERE and part in block.text)
    return text


def test_the_example_runs(database_url: str) -> None:
    first, second, third = output_of(example("TwinrailVectorStore"), database_url)
    assert first == "b20 {'year': 2026}"
    assert second.startswith("Error B-7: no connection. 0.")
    assert "k-langchain-" in third


def test_the_example_of_a_loader_runs(database_url: str) -> None:
    assert output_of(example("ingest_loader"), database_url) == [
        "2 2 0 ()",
        "0 0 2 ()",
        "Error B-20 The drive is full.",
    ]


def test_a_program_that_never_closes_ends_quietly(database_url: str) -> None:
    assert output_of(CARELESS, database_url) == ["a", "a", "a"]
