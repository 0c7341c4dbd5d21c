"""What a sentence does besides stating facts: it asks, or it says that something was done.

A question may hold a statement ("It is free, is that all right?"), and a deed ("I have cancelled it.") is the
one claim that its own words support: the articles are about cancelling, and nothing was cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from serving.negation import polarity
from serving.sentences import content_stems, stem

_ASKS = (
    "what which who whom whose when where why how is are am was were do does did can could would will shall "
    "should may might must has have had"
)
_OPENS = "and but so or okay ok sure thanks sorry yes no please then also just"
_LEADS_IN = "if when before after once for to in on at by from with since until under of"
_LISTS = "among list mention cover include contain find appear describe document explain entry kind one there"
_LISTING = frozenset(stem(word) for word in _LISTS.split())
_WORD = re.compile(r"[A-Za-z]+")
_CLAUSE = re.compile(r"\s*(?:[,;:\u2013\u2014]|\s-\s)\s*")
#: Opens a question that takes for granted what it holds.
_TAKES_FOR_GRANTED = re.compile(
    r"\b(?:did|do|have|are|were) (?:you|we)\b(?: \w+)? (?:know|see|seen|hear|heard|notice|noticed|aware)\b"
    r"|\b(?:is|isn['\u2019]t|wasn['\u2019]t) it (?:great|good|nice|true)\b",
    re.IGNORECASE,
)
_ASKING = frozenset(_ASKS.split())
_OPENING = frozenset(_OPENS.split())
_LEADING_IN = frozenset(_LEADS_IN.split())

#: What only a person or a system can have done to a customer's account.
_DEEDS = (
    "approved cancelled canceled closed credited deleted refunded removed reset restored unlocked "
    "reactivated activated upgraded downgraded renewed extended waived issued granted processed reversed "
    "released transferred changed updated replaced shipped"
)
_DID = "|".join(_DEEDS.split())
_ADVERB = r"(?: (?:just|now|already|also|both|all|successfully|today))*"
_DEED = re.compile(
    rf"\b(?:I|we)(?:['\u2019]ve| have|){_ADVERB} (?P<active>{_DID}|sent|made|put|given|added|booked|fixed)\b"
    rf"|\b(?:you|your (?:[\w-]+ ){{1,3}}?)\s*"
    rf"(?:(?:have|has|['\u2019]ve){_ADVERB} been|was|were|(?:is|are) now){_ADVERB} (?P<passive>{_DID})\b",
    re.IGNORECASE,
)
#: Before a deed in its clause: then it is a case and no report.
_CASE = re.compile(
    r"\b(?:if|when|once|after|before|until|unless|whether|that|which|because|since|as|while|where)\b[^,;.!?\n]*$",
    re.IGNORECASE,
)


def only_asks(sentence: str) -> bool:
    """Whether a sentence is a question and states nothing on the way."""
    if not sentence.endswith("?") or _TAKES_FOR_GRANTED.search(sentence):
        return False
    for clause in _CLAUSE.split(sentence):
        words = [word.lower() for word in _WORD.findall(clause)]
        while words and words[0] in _OPENING:
            words.pop(0)
        if not words or words[0] in _LEADING_IN:
            if set(words) & _ASKING:
                return True
            continue
        if words[0] in _ASKING:
            return True
        if content_stems(clause):
            return False
    return True


def says_unknown(sentence: str, about: Set[str]) -> bool:
    """Whether all that a sentence says is that something is not known: `about` are stems that name it."""
    return polarity(sentence).denies and set(content_stems(sentence)) <= about | _LISTING


def unknown_deeds(sentence: str, passages: Sequence[str]) -> tuple[str, ...]:
    """What the sentence says was done for the customer, unless a passage reports the same deed."""
    told = _reports(sentence)
    if not told:
        return ()
    known = {_deed(match) for text in passages for match in _reports(text)}
    return tuple(match.group() for match in told if _deed(match) not in known)


def _reports(text: str) -> list[re.Match[str]]:
    return [match for match in _DEED.finditer(text) if not _CASE.search(text, 0, match.start())]


def _deed(match: re.Match[str]) -> str:
    return stem((match["active"] or match["passive"]).lower())
