"""Tickets of `../shared/data/support_intents`, each with the queue that works on it; train and test are disjoint."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OUT_OF_SCOPE = "out_of_scope"
TRAIN_ROWS = 2000
#: Of 200 out-of-scope requests, and of each other queue, at most so many are tested on.
TEST_OUT_OF_SCOPE, TEST_A_QUEUE = 80, 22
_NOT_LETTERS = re.compile(r"[^a-z ]+")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a customer wrote, and where it goes."""

    id: str
    text: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickets:
    """Disjoint by id and by text; no test text is a train text with other numbers, case or punctuation."""

    train: tuple[Ticket, ...]
    test: tuple[Ticket, ...]


def load_queues() -> dict[tuple[str, str], str]:
    """(source, intent) -> queue."""
    raw: dict[str, dict[str, list[str]]] = yaml.safe_load((HERE / "queues.yaml").read_text())
    return {
        (source, intent): queue
        for queue, sources in raw.items()
        for source, intents in sources.items()
        for intent in intents
    }


def load_tickets(folder: Path) -> Tickets:
    """2,000 rows to train on, as even over the queues as they are there, and unseen ones to test on.

    BANKING77 keeps its own split; the other two are split by a hash of the text without its numbers.
    """
    pools: dict[str, dict[str, list[Ticket]]] = {"train": defaultdict(list), "test": defaultdict(list)}
    seen: dict[str, str] = {}
    for split, ticket in sorted(_all(folder), key=lambda pair: (pair[0] != "test", _rank(pair[1].id))):
        bare = _bare(ticket.text)
        if bare in seen:  # a test text is not trained on, and no text counts twice
            continue
        seen[bare] = split
        pools[split][ticket.queue].append(ticket)
    test = [
        ticket
        for queue, tickets in pools["test"].items()
        for ticket in tickets[: TEST_OUT_OF_SCOPE if queue == OUT_OF_SCOPE else TEST_A_QUEUE]
    ]
    return Tickets(train=tuple(_even(pools["train"])), test=tuple(sorted(test, key=lambda ticket: ticket.id)))


def _all(folder: Path) -> Iterator[tuple[str, Ticket]]:
    queues = load_queues()
    for file, source, field in (
        ("banking77_train", "banking77", "intent"),
        ("banking77_test", "banking77", "intent"),
        ("bitext_requests", "bitext", "category"),
        ("clinc_finance_oos", "clinc", "intent"),
    ):
        for line in (folder / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            queue = queues[source, row[field]]
            if source == "banking77":
                split = file.removeprefix("banking77_")
            else:
                share = 0.4 if queue == OUT_OF_SCOPE else 0.2
                split = "test" if _rank(_bare(row["text"])) < share else "train"
            yield split, Ticket(row["id"], row["text"], queue)


def _even(pool: dict[str, list[Ticket]]) -> Iterator[Ticket]:
    """One of each queue in turn until there are enough."""
    left = {queue: list(tickets) for queue, tickets in sorted(pool.items())}
    for _ in range(TRAIN_ROWS):
        while not left[queue := next(iter(left))]:
            del left[queue]
        yield left[queue].pop(0)
        left[queue] = left.pop(queue)


def _bare(text: str) -> str:
    return " ".join(_NOT_LETTERS.sub(" ", text.lower()).split())


def _rank(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12
