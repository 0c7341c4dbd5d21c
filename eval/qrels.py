"""Judgements of the public sets: which documents hold an answer, and which questions go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.errors import CaseFileError
from eval.lines import read_lines


def read_qrels(file: Path) -> dict[str, tuple[str, ...]]:
    """The documents that were judged to hold each question's answer."""
    gold: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in read_lines(file):
        parts = line.decode("utf-8", "replace").split("\t")
        if number == 1 and parts[0] == "query-id":
            continue
        if len(parts) != 3 or not parts[2].strip().lstrip("-").isdigit():
            raise CaseFileError(
                file=file,
                line=number,
                what="not query-id, corpus-id, score",
                fix="separate three fields by tabs",
            )
        if int(parts[2]) > 0:
            gold[parts[0]].append(parts[1])
    return {query: tuple(documents) for query, documents in gold.items()}


def group_by_gold(gold: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Name each question's cluster: questions linked by shared gold documents go together."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for query, documents in gold.items():
        find(f"q:{query}")
        for document in documents:
            leader[find(f"d:{document}")] = find(f"q:{query}")
    return {query: find(f"q:{query}").removeprefix("q:") for query in gold}
