"""A row that the entailment model learns from, and files of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ExampleError

#: Rows of one text share a fold; the first `HELD` folds are never trained on.
FOLDS = 10
HELD = 2
#: Kind of the rows that choose the threshold: right answers as written, beside the whole of their texts.
ANSWER = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A claim beside one window of a text."""

    #: Where it comes from, and how it was made (`people`: as people labelled it).
    set: str
    kind: str
    fold: int
    claim: str
    evidence: str
    supported: bool
    #: Stretches of the claim that are wrong, where that is known to the word.
    wrong: tuple[tuple[int, int], ...] = ()
    #: What the customer had asked, whose values may be repeated.
    question: str = ""

    @property
    def is_held(self) -> bool:
        """Whether it is kept out of training."""
        return self.fold < HELD

    @property
    def is_learnt(self) -> bool:
        """Whether it is trained on."""
        return not self.is_held and self.kind != ANSWER


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file; an unusable one names its line."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            given = json.loads(line)
            wrong = tuple((int(start), int(end)) for start, end in given.pop("wrong", ()))
            rows.append(Row(**given, wrong=wrong))
        except (TypeError, ValueError) as exc:
            raise ExampleError(
                f"{path}: line {number}: not a row ({exc}); python -m deploy.grounding_rows writes them"
            ) from exc
    return rows


def digest_of(paths: Sequence[Path]) -> str:
    """One digest of all rows' bytes, in the order given."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()
