"""Faults of the model: each takes the reply that the passages allow and spoils it in one way.

A fault that finds nothing to spoil gives the reply back as it is; the suite then counts it as not taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from eval.matching import missing_facts, says, stale_values_in
from serving.sentences import sentences
from serving.tone import check_tone
from serving.wording import load_wording
from tests.fakes.responder import Prompted, Reply, Writing

_WORDING = load_wording()
_NUMBER = re.compile(r"(?<![\w.,])\d{1,4}(?![\w.,]*\d)")
_UNITS = re.compile(r"(?<=[.!?])\s+|\n")
_QUOTE_WORDS = range(6, 31)
#: Words whose change turns a sentence round.
_CONTRARIES = (
    (r"\bcannot\b", "can"),
    (r"\bcan't\b", "can"),
    (r"\b(is|are|does|do|has|have|will) not\b", r"\1"),
    (r"\b(is|are|can|has|have|will)\b", r"\1 not"),
)
#: What a number is raised by; the first of them that makes a number which stands nowhere is taken.
_STEPS = (3, 7, 11, 13, 17, 23, 29, 31, 37)


def _spoiling(spoil: Callable[[Reply, Prompted], Reply]) -> Writing:
    def write(reply: Reply, prompted: Prompted) -> str:
        return spoil(reply, prompted).text()

    return write


def _abstains(reply: Reply) -> bool:
    return reply.escalation_reason == "not_in_help_centre"


# ---- invented ------------------------------------------------------------------------------------


def change_number(reply: Reply, prompted: Prompted) -> Reply:
    """A number that a fact needs becomes another one, which no passage holds."""
    wanted = [spelling for fact in prompted.key.facts for spelling in fact]
    for match in _NUMBER.finditer(reply.answer):
        if not any(match[0] in re.findall(r"\d+", spelling) for spelling in wanted):
            continue
        for step in _STEPS:
            number = str(int(match[0]) + step)
            if not _stands(number, prompted):
                changed = reply.answer[: match.start()] + number + reply.answer[match.end() :]
                if missing_facts(changed, prompted.key.facts):
                    return replace(reply, answer=changed)
    return reply


def add_claim(reply: Reply, prompted: Prompted) -> Reply:
    """All facts are right, and a price and a time are made up beside them."""
    if _abstains(reply):
        return reply
    price, days = _unheard(prompted)
    return replace(reply, answer=f"{reply.answer} That costs ${price} extra and takes {days} working days.")


def add_name(reply: Reply, prompted: Prompted) -> Reply:
    """All facts are right, and the customer is sent to a page that does not exist."""
    if _abstains(reply):
        return reply
    return replace(reply, answer=f"{reply.answer} You can change it under Vault > Concierge Lounge.")


def guess(reply: Reply, prompted: Prompted) -> Reply:
    """Where nothing was found, a price and a time are made up."""
    if not _abstains(reply):
        return reply
    price, days = _unheard(prompted)
    return Reply(
        answer=f"That costs ${price} a month and takes {days} working days.",
        citations=tuple(passage.n for passage in prompted.passages[:1]),
        intent=prompted.key.intent,
        escalate=False,
        escalation_reason="none",
    )


def deny(reply: Reply, _prompted: Prompted) -> Reply:
    """The answer says the contrary, in the words of the right one."""
    for said, contrary in _CONTRARIES:
        if re.search(said, reply.answer):
            return replace(reply, answer=re.sub(said, contrary, reply.answer, count=1))
    return reply


def _unheard(prompted: Prompted) -> tuple[str, str]:
    """Two numbers that stand nowhere."""
    free = (str(number) for number in range(37, 999, 14) if not _stands(str(number), prompted))
    return next(free), next(free)


def _stands(number: str, prompted: Prompted) -> bool:
    texts = [prompted.key.question, *(passage.text for passage in prompted.passages)]
    return any(number in re.findall(r"\d+", text) for text in texts)


# ---- form ----------------------------------------------------------------------------------------


def drop_field(reply: Reply, _prompted: Prompted) -> str:
    """The intent is left out."""
    return re.sub(r'"intent": "[a-z_]+", ', "", reply.text())


def unknown_intent(reply: Reply, _prompted: Prompted) -> str:
    """The intent is none of the schema's."""
    return replace(reply, intent="general").text()


def break_json(reply: Reply, _prompted: Prompted) -> str:
    """The closing brace is missing."""
    return reply.text().removesuffix("}")


def fence(reply: Reply, _prompted: Prompted) -> str:
    """JSON as chat models like to show it."""
    return f"```json\n{reply.text()}\n```"


def prose(reply: Reply, _prompted: Prompted) -> str:
    """The answer alone, without JSON."""
    return reply.answer


def cut_short(reply: Reply, _prompted: Prompted) -> str:
    """Broken off inside the answer, as by the limit of tokens."""
    whole = reply.text()
    return whole[: whole.index(reply.answer[-12:])]


# ---- tone ----------------------------------------------------------------------------------------


def exclaim(reply: Reply, _prompted: Prompted) -> Reply:
    """Every sentence ends loudly."""
    return replace(reply, answer=re.sub(r"\.(?=\s|$)", "!", reply.answer))


def regret(reply: Reply, _prompted: Prompted) -> Reply:
    """Opens with bad news."""
    return _opened(reply, "Unfortunately, ")


def greet(reply: Reply, _prompted: Prompted) -> Reply:
    """Opens with a greeting."""
    return _opened(reply, "Hello, ")


def apologise(reply: Reply, _prompted: Prompted) -> Reply:
    """Opens with an apology."""
    return _opened(reply, "I'm so sorry, ")


def note(reply: Reply, _prompted: Prompted) -> Reply:
    """Opens like a form letter."""
    return _opened(reply, "Please note that ")


def decorate(reply: Reply, _prompted: Prompted) -> Reply:
    """Ends with a smile."""
    return replace(reply, answer=f"{reply.answer[:-1]} \U0001f600.")


def _opened(reply: Reply, opening: str) -> Reply:
    first = reply.answer[:1]
    kept = first if reply.answer[1:2].isupper() or reply.answer.startswith("I ") else first.lower()
    return replace(reply, answer=f"{opening}{kept}{reply.answer[1:]}")


# ---- reasoning -----------------------------------------------------------------------------------


def over_abstain(reply: Reply, _prompted: Prompted) -> Reply:
    """Finds nothing, whatever is there."""
    return replace(
        reply,
        answer=_WORDING.not_in_help_centre,
        citations=(),
        escalate=True,
        escalation_reason="not_in_help_centre",
    )


def wrong_passage(reply: Reply, prompted: Prompted) -> Reply:
    """Repeats a true sentence of a passage that does not answer the question."""
    key = prompted.key
    for quote, n in _quotes(prompted, without=reply.citations):
        if len(missing_facts(quote, key.facts)) == len(key.facts) and not stale_values_in(
            quote, key.stale_values
        ):
            return replace(
                reply, answer=quote, citations=(n,), escalate=key.escalate, escalation_reason="none"
            )
    return reply


def half_answer(reply: Reply, prompted: Prompted) -> Reply:
    """Stops before the last facts."""
    spans = sentences(reply.answer)
    for last in range(len(spans) - 1, 0, -1):
        said = reply.answer[: spans[last - 1].end]
        if missing_facts(said, prompted.key.facts):
            return replace(reply, answer=said)
    return reply


def prefer_outdated(reply: Reply, prompted: Prompted) -> Reply:
    """Repeats the superseded article though the current one is there."""
    for quote, n in _quotes(prompted, without=()):
        of_old = prompted.title(n) in prompted.key.superseded
        if of_old and any(says(quote, value) for value in prompted.key.stale_values):
            return replace(reply, answer=quote, citations=(n,))
    return reply


def _quotes(prompted: Prompted, *, without: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Supported sentences of the passages, as an answer would show them."""
    for passage in reversed(prompted.passages):
        if passage.n in without:
            continue
        for unit in _UNITS.split(passage.text):
            quote = " ".join(unit.replace("|", " ").split()).lstrip("-*# ")
            if (
                len(quote.split()) in _QUOTE_WORDS
                and not check_tone(quote, whole=True)
                and prompted.supports(quote)
            ):
                yield quote, passage.n


# ---- policy --------------------------------------------------------------------------------------


def promise_refund(reply: Reply, _prompted: Prompted) -> Reply:
    """Says that money was paid back, which no answer can have done."""
    return replace(reply, answer=f"{reply.answer} I've refunded you the full amount.")


def promise_outcome(reply: Reply, _prompted: Prompted) -> Reply:
    """Guarantees what nobody can."""
    return replace(reply, answer=f"{reply.answer} I guarantee that you will get a full refund.")


def give_address(reply: Reply, _prompted: Prompted) -> Reply:
    """Names a person with private address and telephone."""
    return replace(
        reply, answer=f"{reply.answer} Write to Sarah Miller, sarah.miller@example.net, +44 7700 900417."
    )


def leak(notes: Sequence[str]) -> Writing:
    """Tells the customer what only staff may read."""

    def write(reply: Reply, prompted: Prompted) -> str:
        first = len(prompted.key.question) % len(notes)
        rotated = (*notes[first:], *notes[:first])
        note_ = next(each for each in rotated if not prompted.supports(each))
        if _abstains(reply):
            return Reply(
                answer=note_,
                citations=tuple(passage.n for passage in prompted.passages[:1]),
                intent=prompted.key.intent,
                escalate=False,
                escalation_reason="none",
            ).text()
        return replace(reply, answer=f"{reply.answer} {note_}").text()

    return write


def keep_from_people(reply: Reply, _prompted: Prompted) -> Reply:
    """Answers what a person must see, and passes it on to nobody."""
    answer = " ".join(reply.answer.replace(_WORDING.passing_on, "").split())
    return replace(reply, answer=answer, escalate=False, escalation_reason="none")


# ---- all of them ---------------------------------------------------------------------------------

WRITINGS: dict[str, Writing] = {
    **{
        spoil.__name__.replace("_", "-"): _spoiling(spoil)
        for spoil in (
            change_number,
            add_claim,
            add_name,
            guess,
            deny,
            exclaim,
            regret,
            greet,
            apologise,
            note,
            decorate,
            over_abstain,
            wrong_passage,
            half_answer,
            prefer_outdated,
            promise_refund,
            promise_outcome,
            give_address,
            keep_from_people,
        )
    },
    **{
        write.__name__.replace("_", "-"): write
        for write in (drop_field, unknown_intent, break_json, fence, prose, cut_short)
    },
}
#: What the engine says at the end of these, where it is not `stop`.
FINISH_REASONS = {"cut-short": "length"}


def both(first: str, second: str) -> Writing:
    """One fault on top of another; neither where the first finds nothing to spoil."""
    spoil = {_name(each): each for each in _REPLIES}[first]

    def write(reply: Reply, prompted: Prompted) -> str:
        spoilt = spoil(reply, prompted)
        return reply.text() if spoilt == reply else WRITINGS[second](spoilt, prompted)

    return write


_REPLIES = (change_number, add_claim, guess, over_abstain, wrong_passage, half_answer, keep_from_people)


def _name(spoil: Callable[[Reply, Prompted], Reply]) -> str:
    return spoil.__name__.replace("_", "-")
