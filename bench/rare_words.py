"""Words that stand in one passage only, asked alone: codes, names, part numbers, as people paste them into a search."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.question_sets import EVERYBODY, Question
from retrieval.connections import Pool

#: How such a word is asked.
FORMS: Mapping[str, str] = {"word alone": "{}", "what is it": "what is {}"}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{2,}")
_EYES = """
    SELECT set_config('retrieval.tenant', %(tenant)s, true),
           set_config('retrieval.principals', retrieval.principal_ids(%(tenant)s, %(principals)s), true)"""
_PASSAGES = "SELECT document_id, body FROM retrieval.chunk WHERE died IS NULL ORDER BY document_id, ordinal"


async def rare_word_questions(pool: Pool, tenant: str, *, count: int, seed: int = 5) -> list[Question]:
    """`count` words in every form, drawn from those that one live passage of the tenant holds."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(_EYES, {"tenant": tenant, "principals": list(EVERYBODY)})
        passages = await (await conn.execute(_PASSAGES)).fetchall()
    holders: dict[str, list[str]] = defaultdict(list)
    for document, body in passages:
        for word in {word.lower() for word in _WORD.findall(body)}:
            holders[word].append(document)
    rare = sorted(word for word, documents in holders.items() if len(documents) == 1)
    drawn = random.Random(seed).sample(rare, min(count, len(rare)))
    return [
        Question(
            id=f"{kind}: {word}",
            corpus=tenant,
            kind=kind,
            text=form.format(word),
            gold=frozenset(holders[word]),
            principals=EVERYBODY,
            tuning=False,
            cluster=word,
        )
        for kind, form in FORMS.items()
        for word in drawn
    ]


def rare_word_table(first: Mapping[str, Mapping[str, Sequence[bool]]]) -> dict[str, Any]:
    """Whether the right document came first, by form and method -> n and hit@1; printed beside BM25 alone."""
    table: dict[str, Any] = {}
    for kind, columns in first.items():
        hit1 = {method: round(fmean(values), 3) for method, values in columns.items()}
        table[kind] = {"n": len(columns["fused"]), "hit1": hit1}
        shown = ", ".join(f"{method} {value:.3f}" for method, value in hit1.items())
        of_bm25 = f" ({hit1['fused'] / hit1['BM25']:.2f} of BM25)" if hit1["BM25"] else ""
        print(f"word of one passage, {kind:10} n={table[kind]['n']}, hit@1: {shown}{of_bm25}", flush=True)
    return table
