"""Proposed questions, which wait in `proposed.jsonl` until a person says yes or no to each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field

from eval.errors import CaseFileError, StorageError
from eval.lines import Places, parse_line, read_lines
from eval.sets.questions import FORMAT_PAGE, GoldFact, Question, Text

PROPOSED = "proposed.jsonl"


class Proposal(BaseModel):
    """A question that a document answers. A person may correct `text` and `facts`, and sets `accepted`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Text
    text: Text
    facts: tuple[GoldFact, ...] = Field(min_length=1)
    document: Text
    title: str = ""
    #: The words of the document that answer it, and where they stand in its text.
    quote: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    #: By which pattern it was made.
    template: str
    #: None: nobody has looked at it yet.
    accepted: bool | None = None
    note: str = ""

    def question(self) -> Question:
        """The question as a set takes it in."""
        return Question(
            id=self.id,
            text=self.text,
            source=f"draft:{self.document}:{self.start}-{self.end}",
            status="answerable",
            gold=(self.document,),
            facts=self.facts,
            note=self.note,
        )


def proposal_id(document: str, quote: str, template: str) -> str:
    """The same words give the same id, so that drafting again changes no decision."""
    digest = hashlib.sha256(f"{document}\n{template}\n{quote}".encode()).hexdigest()
    return f"{document}-{digest[:8]}"


def read_proposals(file: Path) -> list[Proposal]:
    """All proposals of a file."""
    places = Places()
    proposals = []
    for number, line in read_lines(file):
        proposal = parse_line(Proposal, file, number, line, format_page=FORMAT_PAGE)
        places.add(file, number, proposal.id)
        proposals.append(proposal)
    return proposals


def read_accepted(file: Path) -> list[Question]:
    """The questions that a person accepted."""
    proposals = read_proposals(file)
    accepted = [proposal.question() for proposal in proposals if proposal.accepted]
    if not accepted:
        waiting = sum(proposal.accepted is None for proposal in proposals)
        raise CaseFileError(
            file=file,
            field="accepted",
            what=f"no proposal is accepted ({waiting} wait for a decision)",
            fix="set accepted to true where question and facts are right, to false where not",
        )
    return accepted


def write_proposals(folder: Path, proposals: Iterable[Proposal]) -> tuple[Path, int]:
    """Put new proposals behind those that were decided; where they stand, and how many are new."""
    target = folder / PROPOSED
    known = read_proposals(target) if target.exists() else []
    decided = [proposal for proposal in known if proposal.accepted is not None]
    ids = {proposal.id for proposal in decided}
    new = [proposal for proposal in proposals if proposal.id not in ids]
    draft = folder / f".{PROPOSED}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(_lines([*decided, *new]))
        draft.replace(target)
    except OSError as exc:
        raise StorageError(f"{target}: {exc.strerror}; make the folder writable or free space") from exc
    return target, len(new)


def _lines(proposals: Sequence[Proposal]) -> bytes:
    return b"".join(orjson.dumps(proposal.model_dump(mode="json")) + b"\n" for proposal in proposals)
