"""A model that answers from the passages of its prompt and nothing else: right where they hold the facts.

It knows the wanted answer of each question and gives it only if the passages shown to it state every fact and
support every sentence; else it repeats a superseded value that stands there, or says that it found nothing.
So whatever goes wrong with its answers was wrong before it, and a fault of the model can be put on top.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.matching import missing_facts, says
from serving.grounding import check_sentence
from serving.prompting import Passage, neutralise
from serving.sentences import sentences
from serving.wording import Wording

_HEADER = re.compile(r"^\[(\d{1,3})\] (.*?)(?: \(valid from ([\d-]+)\))?$", re.MULTILINE)
_QUESTION = "\nQuestion: "
_UNITS = re.compile(r"(?<=[.!?])\s+|\n")
_LONGEST_QUOTE_WORDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKey:
    """A question with what a right answer must hold and the answer itself, in house tone."""

    question: str
    #: Those that the question asks for.
    facts: tuple[tuple[str, ...], ...]
    stale_values: tuple[str, ...]
    #: Titles of the articles that held those values; any other may hold them by chance.
    superseded: tuple[str, ...] = ()
    #: `answered`, `abstained` or `escalated`.
    status: str
    answer: str
    intent: str
    escalate: bool
    escalation_reason: str
    follow_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the support task's schema asks for."""

    answer: str
    citations: tuple[int, ...]
    intent: str
    escalate: bool
    escalation_reason: str
    follow_up: str = ""

    def text(self) -> str:
        """As the model writes it."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """A request as a model sees it."""

    key: AnswerKey
    passages: tuple[Passage, ...]

    def title(self, n: int) -> str:
        """The title of a passage."""
        return next(passage.title for passage in self.passages if passage.n == n)

    def holds(self, spellings: Iterable[str]) -> tuple[int, ...]:
        """Numbers of the passages that state a fact."""
        wanted = tuple(spellings)
        return tuple(
            passage.n for passage in self.passages if any(says(passage.text, each) for each in wanted)
        )

    def supports(self, text: str, wordings: Sequence[str] = ()) -> bool:
        """Whether every sentence of a text stands in the passages."""
        return all(
            check_sentence(
                text[span.start : span.end], self.passages, question=self.key.question, fixed=wordings
            ).supported
            for span in sentences(text)
        )


#: A way to write a reply down, or to spoil it first.
Writing = Callable[[Reply, Prompted], str]


def plainly(reply: Reply, _prompted: Prompted) -> str:
    """As it should be."""
    return reply.text()


class Responder:
    """Answers for `tests.fakes.vllm_server`: a function of the request's body."""

    def __init__(self, keys: Iterable[AnswerKey], wording: Wording, *, write: Writing = plainly) -> None:
        self._keys = {_one_line(key.question): key for key in keys}
        self._wording = wording
        self._write = write

    def __call__(self, body: Mapping[str, Any]) -> str:
        prompted = self.read(body)
        return self._write(self.reply(prompted), prompted)

    def writing(self, write: Writing) -> Responder:
        """The same knowledge, written down in another way."""
        return Responder(self._keys.values(), self._wording, write=write)

    def read(self, body: Mapping[str, Any]) -> Prompted:
        """The question and its passages. A repair asks the same question once more."""
        shown = next(
            message["content"]
            for message in reversed(body["messages"])
            if message["role"] == "user" and _QUESTION in message["content"]
        )
        fenced, _, question = shown.rpartition(_QUESTION)
        return Prompted(key=self._keys[question], passages=_passages(fenced))

    def reply(self, prompted: Prompted) -> Reply:
        """The best answer that these passages allow."""
        key = prompted.key
        if key.status == "abstained":
            return self._abstain(key)
        holding = [prompted.holds(fact) for fact in key.facts]
        answer = self._supported_part(prompted)
        if key.facts and all(holding) and not missing_facts(answer, key.facts):
            return _reply(key, answer, tuple(dict.fromkeys(numbers[0] for numbers in holding))[:4])
        outdated = self._outdated(prompted)
        return outdated or self._abstain(key)

    def _supported_part(self, prompted: Prompted) -> str:
        """The sentences of the wanted answer that the passages support."""
        answer, fixed = prompted.key.answer, self._wording.all()
        if prompted.supports(answer, fixed):
            return answer
        each = [answer[span.start : span.end].strip() for span in sentences(answer)]
        return " ".join(sentence for sentence in each if prompted.supports(sentence, fixed))

    def _outdated(self, prompted: Prompted) -> Reply | None:
        """What an article that is no longer true says, where that is all there is."""
        for value in prompted.key.stale_values:
            for passage in prompted.passages:
                if passage.title not in prompted.key.superseded:
                    continue
                for unit in _UNITS.split(passage.text):
                    quote = " ".join(unit.replace("|", " ").split()).lstrip("-*# ")
                    short = len(quote.split()) <= _LONGEST_QUOTE_WORDS
                    if short and says(unit, value) and prompted.supports(quote):
                        return _reply(prompted.key, quote, (passage.n,))
        return None

    def _abstain(self, key: AnswerKey) -> Reply:
        return Reply(
            answer=self._wording.not_in_help_centre,
            citations=(),
            intent=key.intent,
            escalate=True,
            escalation_reason="not_in_help_centre",
        )


def _reply(key: AnswerKey, answer: str, citations: tuple[int, ...]) -> Reply:
    return Reply(
        answer=answer,
        citations=citations,
        intent=key.intent,
        escalate=key.escalate,
        escalation_reason=key.escalation_reason,
    )


def _passages(fenced: str) -> tuple[Passage, ...]:
    text = fenced.partition("<passages>\n")[2].rpartition("\n</passages>")[0]
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)] * bool(headers)
    return tuple(
        Passage(
            n=int(header[1]),
            title=header[2],
            text=text[header.end() : end].strip("\n"),
            start=0,
            end=0,
            effective_from=header[3] or "",
        )
        for header, end in zip(headers, ends, strict=True)
    )


def _one_line(text: str) -> str:
    """As the prompt shows a question."""
    return " ".join(neutralise(text).split())
