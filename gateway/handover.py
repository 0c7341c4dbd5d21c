"""Questions that a person has to see, whatever the model writes: a rule, not a habit that is trained.

A message is compared, sentence by sentence and clause by clause, with messages of a file that a support lead
owns (handover.yaml): what comes close to one that needs a person, and closer than to any ordinary one, is
passed on with the answer that was found. It holds for every version, for stand-ins, and where nothing was
found.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import yaml

from gateway.errors import SettingsError
from gateway.outcome import text_field
from gateway.sentences import split_sentences
from retrieval.embedding import Embedder, OnnxEmbedder, Vector, unit_vectors
from serving.wording import Wording

DEFAULT_RULES: Final = Path(__file__).parent / "handover.yaml"
#: Pieces of a message that are compared: all sentences first, of a longer one those of both ends.
MOST_PIECES: Final = 64
#: Characters of a piece that are read; a customer's sentence is shorter.
_LONGEST_PIECE: Final = 300
_CLAUSE: Final = re.compile(r"[,;:]\s|\s(?:and|but)\s")
_SHORTEST_CLAUSE_WORDS: Final = 4
_SETTING: Final = "GATEWAY_HANDOVER_FILE"
_FIELDS: Final = ("close_from", "reasons", "ordinary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a rule file says."""

    #: Least cosine of a piece of a message and an example; the scale is the embedder's.
    close_from: float
    #: Messages that need a person, by reason: the reasons of the task schema's `escalation_reason`.
    reasons: Mapping[str, tuple[str, ...]]
    #: Messages that sound like them and do not.
    ordinary: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Why a message is passed on."""

    reason: str
    #: The example that it comes close to, and how close (cosine).
    like: str
    closeness: float

    def row(self) -> dict[str, Any]:
        """As it is recorded with the turn: nothing of what the customer wrote."""
        return asdict(self) | {"closeness": round(self.closeness, 3)}


class Handover:
    """Finds such questions. Keeps nothing of them."""

    def __init__(self, embedder: Embedder, rules: Rules, *, needing: Vector, ordinary: Vector) -> None:
        self._embedder = embedder
        self._examples = [(reason, text) for reason, texts in rules.reasons.items() for text in texts]
        self._close_from = rules.close_from
        self._needing = needing
        self._ordinary = ordinary
        #: One message at a time: a long one must not hold up the searches of others.
        self._embedding = asyncio.Lock()

    @classmethod
    async def of(cls, embedder: Embedder, rules: Rules) -> Self:
        """With the vectors of the examples, some tenths of a second's work."""
        needing = [text for texts in rules.reasons.values() for text in texts]
        # In pieces as messages are, or "my phone was not stolen" is compared as half of its example.
        ordinary = [piece for text in rules.ordinary for piece in pieces_of(text)]
        return cls(
            embedder,
            rules,
            needing=await unit_vectors(embedder, needing),
            ordinary=await unit_vectors(embedder, ordinary)
            if ordinary
            else np.zeros((1, embedder.dims), dtype=np.float32),
        )

    async def find(self, message: str) -> Match | None:
        """Why a person has to see the message; None: nothing says so. RetrievalError if it cannot be told."""
        pieces = pieces_of(message)
        if not pieces:
            return None
        async with self._embedding:
            said = await unit_vectors(self._embedder, pieces)
        near = said @ self._needing.T
        closest = near.max(axis=1)
        counts = closest > (said @ self._ordinary.T).max(axis=1)
        piece = int(np.where(counts, closest, -1.0).argmax())
        if not counts[piece] or closest[piece] < self._close_from:
            return None
        reason, like = self._examples[int(near[piece].argmax())]
        return Match(reason=reason, like=like, closeness=float(closest[piece]))


async def open_handover(embedders: Iterable[Embedder], rules: Rules) -> Handover | None:
    """With the model of this machine; None without one: each question costs up to 64 texts, too many for a
    service, and `close_from` is of one model's scale."""
    local = next((each for each in embedders if isinstance(each, OnnxEmbedder)), None)
    return None if local is None else await Handover.of(local, rules)


def pieces_of(message: str) -> list[str]:
    """What is compared: each sentence, its clauses, two neighbours together, and the whole."""
    said = [sentence.strip() for sentence in split_sentences(message) if sentence.strip()]
    if len(said) > MOST_PIECES:
        said = [*said[: MOST_PIECES // 2], *said[-MOST_PIECES // 2 :]]
    clauses = [
        clause.strip()
        for sentence in said
        for clause in _CLAUSE.split(sentence)
        if len(clause.split()) >= _SHORTEST_CLAUSE_WORDS
    ]
    pairs = [" ".join(pair) for pair in pairwise(said)]
    pieces = [piece[:_LONGEST_PIECE] for piece in [*said, *clauses, *pairs, " ".join(said)] if piece]
    return list(dict.fromkeys(pieces))[:MOST_PIECES]


def pass_on(
    match: Match, fields: Mapping[str, Any], text: str, *, schema: Mapping[str, Any], wording: Wording
) -> tuple[dict[str, Any], str]:
    """Fields and text of an answer that is passed on: what was told stays, and it says that a person takes
    over. A reason that the model gives stays; one that the task does not know is not named."""
    passed = dict(fields) | {"escalate": True}
    known: Sequence[str] = schema.get("properties", {}).get("escalation_reason", {}).get("enum", ())
    if match.reason in known and passed.get("escalation_reason") in (None, "none", "not_in_help_centre"):
        passed["escalation_reason"] = match.reason
    if text_field(schema) is None:  # the whole JSON is the text
        return passed, text
    if wording.passing_on in text or " ".join(text.split()) == wording.not_in_help_centre:
        return passed, text
    # What was streamed stays as it is, its white space too.
    between = "" if not text or text[-1].isspace() else " "
    return passed, f"{text}{between}{wording.passing_on}"


def load_rules(path: Path = DEFAULT_RULES) -> Rules:
    """Read a rule file; SettingsError names the field that is wrong."""
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as exc:
        raise _wrong(path, f"cannot be read ({exc})") from exc
    if not isinstance(raw, dict) or not isinstance(raw.get("reasons"), dict) or not raw["reasons"]:
        raise _wrong(path, "reasons: must name messages for at least one reason")
    for name in raw:
        if name not in _FIELDS:
            raise _wrong(path, f"unknown field {name!r}; known: {', '.join(_FIELDS)}")
    close_from = raw.get("close_from")
    if isinstance(close_from, bool) or not isinstance(close_from, int | float) or not 0 < close_from <= 1:
        raise _wrong(path, "close_from: must be a number over 0 and up to 1")
    return Rules(
        close_from=float(close_from),
        reasons={
            str(reason): _messages(path, f"reasons.{reason}", texts)
            for reason, texts in raw["reasons"].items()
        },
        ordinary=_messages(path, "ordinary", raw.get("ordinary") or [], fewest=0),
    )


def _messages(path: Path, field: str, raw: Any, *, fewest: int = 1) -> tuple[str, ...]:
    if not isinstance(raw, list) or len(raw) < fewest:
        raise _wrong(path, f"{field}: must be a list of messages")
    for number, text in enumerate(raw, 1):
        if not isinstance(text, str) or not text.strip():
            raise _wrong(path, f"{field}, message {number}: must be a text")
    return tuple(" ".join(text.split()) for text in raw)


def _wrong(path: Path, what: str) -> SettingsError:
    return SettingsError(
        f"{path}: {what}", field=_SETTING, fix="correct the file, or unset it for the packaged one"
    )
