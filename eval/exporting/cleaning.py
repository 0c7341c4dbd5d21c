"""Personal data out of everything that customers and reviewers wrote; articles stay as they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

from eval.exporting.reviewed_turns import ReviewedTurn
from serving.redaction import Redactor


class Cleaner:
    """Takes personal data out and counts what it took. Without a redactor the texts stay as they are."""

    def __init__(self, redactor: Redactor | None) -> None:
        self._redactor = redactor
        self.found: Counter[str] = Counter()

    @property
    def redacts_nothing(self) -> bool:
        """Whether nothing is looked for."""
        return self._redactor is None

    def text(self, text: str) -> str:
        """A text without personal data."""
        if self._redactor is None:
            return text
        clean = self._redactor.redact(text)
        self.found += clean.kinds
        return clean.text

    def name(self, name: str) -> str:
        """A name that others chose, such as that of a conversation: one that says who it is becomes a digest,
        so that what belongs together stays together."""
        if self.text(name) == name:
            return name
        return f"c-{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    def turn(self, reviewed: ReviewedTurn) -> ReviewedTurn:
        """The turn without personal data in question, history, answer, fields and review."""
        review, seen = reviewed.review, reviewed.seen
        return replace(
            reviewed,
            turn=replace(
                reviewed.turn,
                question=self.text(reviewed.turn.question),
                conversation_id=self.name(reviewed.turn.conversation_id),
            ),
            seen=replace(
                seen,
                answer=self.text(seen.answer),
                draft=replace(seen.draft, text=self.text(seen.draft.text)) if seen.draft else None,
                fields={
                    name: self.text(value) if isinstance(value, str) else value
                    for name, value in seen.fields.items()
                },
            ),
            review=replace(
                review,
                note=self.text(review.note),
                corrected_answer=self.text(review.corrected_answer) if review.corrected_answer else None,
            ),
            accepted=self.text(reviewed.accepted),
            history=tuple(
                said.model_copy(update={"text": self.text(said.text)}) for said in reviewed.history
            ),
        )
