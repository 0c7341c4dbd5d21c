"""Training rows of the demo: its questions, the sentences that the gateway shows for them, the wanted JSON.

    python -m deploy.tuning --embedder DIR --tokenizer FILE --out deploy/demo/training/support.jsonl

The demo's articles are published in an embedded PostgreSQL of its own (or in --database-url), every question
is searched for as the gateway searches, and its rows are packed as the gateway packs (deploy/tuning/rows.py).
`twinrail tune dataset` checks, cleans and splits them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.tuning.elsewhere import read_elsewhere
from deploy.tuning.questions import QUESTIONS, WRITTEN, read_questions
from deploy.tuning.rows import RowBuilder, read_left_out, write_rows
from gateway.assembling import sources_of
from gateway.highlighting import Highlighter
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder
from retrieval.hits import Hit, SearchRequest
from retrieval.ingest import ingest
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore
from serving.prompting import PROMPTS, load_prompt, token_counter

ARTICLES = QUESTIONS.parent / "articles"
#: As many as the gateway asks for (GATEWAY_HITS).
HITS = 8


async def build(arguments: argparse.Namespace, database_url: str) -> int:
    """Write the rows; returns how many."""
    builder = RowBuilder(
        load_prompt(PROMPTS / "support_sentences.yaml"),
        token_counter(arguments.tokenizer),
        budget_tokens=arguments.budget_tokens,
        seed=arguments.seed,
    )
    questions = [*read_questions(QUESTIONS, "train"), *read_questions(WRITTEN, "train")]
    await migrate(database_url)
    embedder = OnnxEmbedder(arguments.embedder)
    async with AsyncConnectionPool(database_url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        await ingest(store, embedder, ARTICLES, tenant="demo", on_progress=lambda _: None)
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        version = first_version(embedder).id
        highlighter = Highlighter(embedder)
        rows: list[dict[str, Any]] = []
        for done, question in enumerate(questions, 1):
            hits = sources_of(await _hits(retriever, version, question))
            ranked = await highlighter.rank(question["text"], hits)
            rows += builder.rows(question, ranked)
            if done % 50 == 0 or done == len(questions):
                print(f"{done}/{len(questions)} questions, {len(rows)} rows", file=sys.stderr, flush=True)
    for case in read_elsewhere():
        rows += builder.elsewhere(case)
    left_out = read_left_out()
    rows = [row for row in rows if row["id"] not in left_out]
    write_rows(rows, arguments.out)
    return len(rows)


async def _hits(retriever: Retriever, version: str, question: dict[str, Any]) -> Sequence[Hit]:
    principals = ("public", "staff") if question["asker"] == "staff" else ("public",)
    request = SearchRequest(
        question=question["text"],
        access=Access(tenant="demo", principals=principals),
        version=version,
        k=HITS,
        timeout_s=30,
    )
    return (await retriever.search(request)).hits


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", type=Path, required=True, help="folder of the prepared MiniLM")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the base model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--database-url", default="", help="an empty database; an embedded one if not given")
    parser.add_argument(
        "--budget-tokens", type=int, default=300, help="whole prompt; smaller trains and answers faster"
    )
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args(argv)
    if arguments.database_url:
        return 0 if asyncio.run(build(arguments, arguments.database_url)) else 2
    with tempfile.TemporaryDirectory(prefix="twinrail-tuning-") as home:
        postgres = EmbeddedPostgres(Path(home))
        url = postgres.start()
        try:
            return 0 if asyncio.run(build(arguments, url)) else 2
        finally:
            postgres.stop()


if __name__ == "__main__":
    raise SystemExit(main())
