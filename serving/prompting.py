"""The prompt of a model version: fixed head first (so that the prefix cache serves it), then numbered passages, then the question.

Used by the gateway for every answer and by tuning for every training row, so that both see the same text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document as the prompt shows it. `start` and `end` are offsets in the document's canonical text."""

    n: int
    title: str
    text: str
    start: int
    end: int
    #: ISO day from which the text is true, or "".
    effective_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A worked example shown to an untuned model."""

    context: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """Wording of a prompt; part of a model version's identity."""

    name: str
    system: str
    shots: tuple[Shot, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message as vLLM takes it."""

    role: str
    content: str
