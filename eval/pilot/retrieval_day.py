"""Day 4: which index versions there are to compare, and how to build what the failures ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.arms import Arm, ArmKind, Pin

_LONGEST_SUFFIX = 36
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]")

#: What to try for each finer cause of a retrieval failure.
TRY: Mapping[str, str] = {
    "wrong_retrieval.chunking": "twinrail knowledge build --name smaller --chunker structure-120",
    "wrong_retrieval.rank": "twinrail knowledge build --name reranked --reranker rerank-minilm4-1e58b9f2",
    "wrong_retrieval.miss": "twinrail knowledge build --name words --dense-weight 0.3",
    "wrong_retrieval.threshold": "twinrail knowledge fit --risk 0.1 --save",
    "wrong_retrieval.packing": "raise GATEWAY_HITS, or build smaller chunks: "
    "twinrail knowledge build --name smaller --chunker structure-120",
    "wrong_retrieval.access": "let the readers in: `principals` of the articles named in the failures",
    "stale_knowledge.retrieval": "filter by metadata: twinrail knowledge fields lists what filters may name",
}
_ANY_RETRIEVAL = "wrong_retrieval"


def ready_versions(versions: Sequence[Mapping[str, Any]], *, besides: str) -> list[str]:
    """Ids of index versions that can be searched, but for the one that was measured already."""
    measured = besides.partition("@")[0]
    return sorted(
        str(version["id"])
        for version in versions
        if version["state"] == "ready" and version["id"] != measured
    )


def candidate_arm(version: str, *, snapshot: str) -> Arm:
    """The base model on another index version, with the documents of the same snapshot."""
    # Its end is the digest that tells versions of one name apart.
    name = f"rag_{_NOT_IN_NAMES.sub('_', version.removeprefix('k-').lower())[-_LONGEST_SUFFIX:]}"
    pin = Pin(knowledge=f"{version}@{snapshot}" if snapshot else version, model="fallback")
    return Arm(name=name, pin=pin, stated=ArmKind.RAG_PLUS)


def what_to_build(causes: Mapping[str, int]) -> Iterable[str]:
    """Exact commands, for the most frequent cause first."""
    wanted = sorted((code for code in causes if code in TRY), key=lambda code: (-causes[code], code))
    for code in wanted:
        yield f"{causes[code]} {code}: {TRY[code]}"
    if not wanted:
        tries = [TRY[f"{_ANY_RETRIEVAL}.{sub}"] for sub in ("chunking", "rank")]
        yield f"No failure of retrieval asks for it; to compare all the same: {' or '.join(tries)}"
