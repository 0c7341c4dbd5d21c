"""Personal data out of questions before they are kept: each finding becomes the name of its kind in brackets.

Checksums and number plans (python-stdnum, phonenumbers) decide where a pattern alone would take prices, error
codes and dates for data of a person. Names are found where they are introduced or signed, and then everywhere
in that text; other names are not found: that would take a model of hundreds of megabytes. So a person should
read what is imported from real customers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import phonenumbers

from serving.errors import UnknownRegionError
from serving.personal_data import AFTER_PHONES, BEFORE_PHONES, NAMES, Kind, Rule

__all__ = ["Found", "Kind", "Redacted", "Redactor"]

_FEWEST_PHONE_DIGITS = 7
_AMOUNT_BEFORE = re.compile(r"[$\u20ac\u00a3]\s?\Z")
_SHORTEST_NAME = 3


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data at a place of a text."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without the personal data that was found."""

    text: str
    found: tuple[Found, ...]

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind was found."""
        return Counter(each.kind.value for each in self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactor:
    """Takes personal data out of the texts of one deployment."""

    #: Countries whose phone numbers are known without their country code.
    regions: tuple[str, ...] = ("US", "GB")
    #: What is never personal here: the company's own domain, hotline and products.
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A region that nobody knows would find no number, and nobody would notice."""
        if unknown := [region for region in self.regions if region not in phonenumbers.SUPPORTED_REGIONS]:
            raise UnknownRegionError(f"{unknown[0]}: no such country; write two capitals, for example DE")

    def redact(self, text: str) -> Redacted:
        """The text with a word in brackets for each finding; of two that overlap, the more certain one."""
        taken: list[Found] = []
        for found in self._findings(text):
            if any(found.start < other.end and other.start < found.end for other in taken):
                continue
            if not self._is_kept(text[found.start : found.end]):
                taken.append(found)
        taken.sort(key=lambda found: found.start)
        parts, at = [], 0
        for found in taken:
            parts += [text[at : found.start], f"[{found.kind}]"]
            at = found.end
        return Redacted("".join((*parts, text[at:])), tuple(taken))

    def _is_kept(self, found: str) -> bool:
        return any(word.casefold() in found.casefold() for word in self.keep)

    def _findings(self, text: str) -> Iterator[Found]:
        yield from _matches(BEFORE_PHONES, text)
        yield from self._phones(text)
        yield from _matches(AFTER_PHONES, text)
        introduced = list(_matches(NAMES, text))
        yield from introduced
        for name in {text[found.start : found.end] for found in introduced}:
            yield from _again(name, text)

    def _phones(self, text: str) -> Iterator[Found]:
        # The number plans are slow to say no, and most questions hold no number that long.
        if sum(letter.isdigit() for letter in text) < _FEWEST_PHONE_DIGITS:
            return
        for region in self.regions:
            for match in phonenumbers.PhoneNumberMatcher(text, region):
                if not _AMOUNT_BEFORE.search(text[: match.start]):
                    opened = match.raw_string.startswith("(") and ")" not in match.raw_string
                    yield Found(Kind.PHONE, match.start + opened, match.end)


def _matches(rules: Iterable[Rule], text: str) -> Iterator[Found]:
    for rule in rules:
        for match in rule.pattern.finditer(text):
            group = 1 if rule.pattern.groups else 0
            if rule.accepts(match[group]):
                yield Found(rule.kind, match.start(group), match.end(group))


def _again(name: str, text: str) -> Iterator[Found]:
    """Where a name that was introduced is used once more, whole or in part."""
    for part in (name, *name.split()):
        if len(part) >= _SHORTEST_NAME and part[0].isupper():
            for match in re.finditer(rf"\b{re.escape(part)}\b", text):
                yield Found(Kind.NAME, match.start(), match.end())
