"""Whether the facts of an answer reach the prompt: by budget and by how much of a passage is shown at once.

    make bench-prompt-packing

Over the demo's answerable train and dev questions (its holdout is never looked at): the share whose facts all stand
in the packed prompt, next to the share whose facts stand in the whole texts of the first hits, which is what packing
can reach at most; and the same for prompts that show single sentences (gateway/highlighting.py), with the share whose
vital facts stand in the first of them, which is what a model that copies it would tell.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from psycopg_pool import AsyncConnectionPool

from bench.machine import describe_machine
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.tuning import QUESTIONS, read_questions
from deploy.tuning.rows import vital_facts
from eval.matching import missing_facts
from gateway.assembling import sources_of
from gateway.citations import Source
from gateway.highlighting import Highlighter, arrange
from retrieval.documents import Access
from retrieval.embedding import Embedder, OnnxEmbedder, prepare_minilm
from retrieval.hits import Hit, SearchRequest
from retrieval.ingest import ingest
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore
from serving.prompting import (
    MAX_PASSAGES,
    MAX_SENTENCES,
    PROMPTS,
    fit,
    load_prompt,
    render,
    token_counter,
)

REPOSITORY = Path(__file__).parent.parent
ARTICLES = REPOSITORY / "deploy/demo/articles"
BUDGETS = (430, 560, 640, 700)
SENTENCE_BUDGETS = (230, 260, 300, 350)
#: Sizes of window that packing tries, in words: the one that is shipped first.
WINDOWS = ((250, 100, 60, 30), (150, 100, 60), (100, 60, 30), (60, 30))
HITS = 40
#: What it asks for in fact (GATEWAY_HITS).
GATEWAY_HITS = 8

Found = Sequence[tuple[dict[str, Any], Sequence[Hit]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/prompt_packing.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the base model")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/prompt_packing.json")
    args = parser.parse_args(argv)
    prepare_minilm(args.home / "minilm")
    postgres = EmbeddedPostgres(args.home / "packing")
    url = postgres.start()
    try:
        found = asyncio.run(search(url, args.home / "minilm"))
        ranked = asyncio.run(sentences_of(found, OnnxEmbedder(args.home / "minilm")))
    finally:
        postgres.stop()
    count = lru_cache(None)(token_counter(args.tokenizer))
    result = {
        "machine": describe_machine(),
        **measure(found, count),
        "sentences": measure_sentences(found, ranked, count),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


async def search(url: str, embedder_folder: Path) -> Found:
    """The hits of every answerable train and dev question."""
    questions = [*read_questions(QUESTIONS, "train"), *read_questions(QUESTIONS, "dev")]
    asked = [question for question in questions if question["facts"] and question["gold"]]
    return await search_all(url, embedder_folder, asked)


async def search_all(url: str, embedder_folder: Path, questions: Sequence[dict[str, Any]]) -> Found:
    """The hits of the questions."""
    await migrate(url)
    embedder = OnnxEmbedder(embedder_folder)
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        await ingest(store, embedder, ARTICLES, tenant="demo", on_progress=lambda _: None)
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        version = first_version(embedder).id
        found = []
        for question in questions:
            principals = ("public", "staff") if question["asker"] == "staff" else ("public",)
            access = Access(tenant="demo", principals=principals)
            request = SearchRequest(
                question=question["text"], access=access, version=version, k=HITS, timeout_s=30
            )
            found.append((question, (await retriever.search(request)).hits))
    return found


def measure(found: Found, count_tokens: Callable[[str], int]) -> dict[str, Any]:
    """Shares of the questions, and the median size of the prompt."""
    whole = {
        f"first {n}": sum(
            not missing_facts(" ".join(hit.text for hit in hits[:n]), q["facts"]) for q, hits in found
        )
        / len(found)
        for n in (1, 2, 3, 5)
    }
    print(
        f"{len(found)} questions; facts in the whole text of the", {k: round(v, 3) for k, v in whole.items()}
    )
    template = load_prompt(PROMPTS / "support_short.yaml")
    rows = []
    for windows in WINDOWS:
        for budget in BUDGETS:
            held, sizes = 0, []
            for question, hits in found:
                passages = fit(
                    template,
                    [source.passage for source in sources_of(hits)],
                    question["text"],
                    prompt_budget_tokens=budget,
                    count_tokens=count_tokens,
                    window_words=windows,
                )
                text = "\n".join(f"{passage.title}\n{passage.text}" for passage in passages)
                held += not missing_facts(text, question["facts"])
                sizes.append(
                    sum(
                        count_tokens(message.content)
                        for message in render(template, passages, question["text"])
                    )
                )
            rows.append(
                {"windows": windows, "budget": budget, "held": held / len(found), "tokens": median(sizes)}
            )
            print(
                f"windows {windows!s:22} budget {budget}: {held / len(found):.3f}, {median(sizes):.0f} tokens"
            )
    return {"questions": len(found), "passages": MAX_PASSAGES, "whole_texts": whole, "packed": rows}


async def sentences_of(found: Found, embedder: Embedder) -> list[list[Source]]:
    """The ranked sentences of each question's hits, of as many hits as the gateway asks for."""
    highlighter = Highlighter(embedder)
    return [await highlighter.rank(q["text"], sources_of(hits[:GATEWAY_HITS])) for q, hits in found]


def measure_sentences(
    found: Found, ranked: Sequence[Sequence[Source]], count_tokens: Callable[[str], int]
) -> dict[str, Any]:
    """Shares of the questions whose vital facts stand in the first sentences, and in a packed prompt of them."""
    template = load_prompt(PROMPTS / "support_sentences.yaml")
    vital = [vital_facts(question) for question, _ in found]
    first = {
        str(n): sum(
            not missing_facts("\n".join(source.passage.text for source in sources[:n]), facts)
            for facts, sources in zip(vital, ranked, strict=True)
        )
        / len(found)
        for n in (1, 2, 3, 4, 8)
    }
    print("sentences; vital facts in the first", {n: round(share, 3) for n, share in first.items()})
    rows = []
    for budget in SENTENCE_BUDGETS:
        held, told, sizes = 0, 0, []
        for (question, _), facts, sources in zip(found, vital, ranked, strict=True):
            passages = fit(
                template,
                [source.passage for source in arrange(sources[:MAX_SENTENCES])],
                question["text"],
                prompt_budget_tokens=budget,
                count_tokens=count_tokens,
            )
            text = "\n".join(f"{passage.title}\n{passage.text}" for passage in passages)
            held += not missing_facts(text, question["facts"])
            told += not missing_facts(text, facts)
            sizes.append(sum(count_tokens(m.content) for m in render(template, passages, question["text"])))
        rows.append(
            {
                "budget": budget,
                "held": held / len(found),
                "vital": told / len(found),
                "tokens": median(sizes),
            }
        )
        print(
            f"sentences, budget {budget}: {held / len(found):.3f}, vital {told / len(found):.3f}, "
            f"{median(sizes):.0f} tokens"
        )
    return {"vital_in_first": first, "packed": rows}


if __name__ == "__main__":
    raise SystemExit(main())
