"""Patterns of personal data, and the checksums and rules that tell it from prices, error codes and dates."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from stdnum import iban, luhn
from stdnum.us import ssn


class Kind(StrEnum):
    """What was found. The value is what stands in its place."""

    SECRET = "secret"
    EMAIL = "email"
    IBAN = "iban"
    CARD = "card number"
    IDENTITY = "identity number"
    BIRTHDAY = "date of birth"
    ADDRESS = "address"
    REFERENCE = "reference"
    PHONE = "phone"
    IP = "ip address"
    HANDLE = "handle"
    NAME = "name"


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern; its first group, if it has one, is the finding, and `accepts` decides about it."""

    kind: Kind
    pattern: re.Pattern[str]
    accepts: Callable[[str], bool] = _always


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return digits[0] in "23456" and bool(luhn.is_valid(digits))


def _is_iban(text: str) -> bool:
    return bool(iban.is_valid(text))


def _is_ssn(text: str) -> bool:
    return bool(ssn.is_valid(text))


def _is_public_ip(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_reference(text: str) -> bool:
    """Long enough to name one order among many, and not a year."""
    digits = sum(letter.isdigit() for letter in text)
    return digits >= 4 and not re.fullmatch(r"(?:19|20)\d\d", text)


_NO_NAMES = frozenset(
    (
        *("a", "about", "also", "an", "and", "as", "at", "being", "but", "changed", "different", "for", "in"),
        *("incorrect", "misspelled", "missing", "no", "not", "now", "on", "showing", "spelled", "still"),
        *("support", "team", "that", "the", "there", "to", "too", "under", "what", "wrong", "your"),
    )
)


def _is_name(text: str) -> bool:
    return text.split()[0].casefold() not in _NO_NAMES


_WORD = r"[^\W\d_][\w'\u2019-]*"
_CAPITAL = r"[A-Z\u00c0-\u00dd][\w'\u2019-]+"
_NAMES = rf"{_CAPITAL}(?: {_CAPITAL}){{0,3}}"
#: Words that name a street in any spelling, and those that do only with a capital ("2 external drives").
_STREET = r"(?i:street|road|avenue|boulevard|lane|highway|parkway)"
_STREET_CAPITAL = (
    r"(?:St|Rd|Ave|Blvd|Ln|Dr|Drive|Way|Court|Place|Close|Square|Terrace|Street|Road|Avenue|Boulevard|Lane)"
)
_TOWN = (
    r"(?:\.|\b)(?: (?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\b)?"
    r"(?:,?\s+(?:Apt|Apartment|Flat|Unit|Suite)\.?\s*\w+)?"
    rf"(?:,\s*{_CAPITAL}(?:\s{_CAPITAL})*)?(?:,?\s+[A-Z]{{2,3}}\s+\d{{4,5}}(?:-\d{{4}})?)?"
)
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_NUMBERED = (
    r"(?i:order|purchase|bill|invoice|ticket|case|ref(?:erence)?|booking|tracking|account|customer|member(?:ship)?|claim"
    r"|transaction|confirmation|serial|licen[cs]e)(?:[ -](?i:number|no\.?|nr\.?|id|key|code))?"
)
_IDENTITY = (
    r"(?i:passport|social security|ssn|driv\w+ licen[cs]e|national id|tax id)(?: (?i:number|no\.?|id))?"
)
_SECRET = r"(?i:password|passcode|pass ?phrase|pin|api key|secret|cvv|cvc|security code)"
_BORN = r"(?i:born(?: on)?|birth ?day|date of birth|dob)"
_REACHED = r"(?i:phone|telephone|tel|mobile|cell|whatsapp|call me|text me|reach me)"

#: The most certain first; phone numbers come after what a checksum or a word before it explains better.
BEFORE_PHONES = (
    Rule(
        Kind.SECRET,
        re.compile(
            rf"\b{_SECRET}\s*(?i:is|was|:|=)\s*[\"'`]?(?=\S*[\d!@#$%^&*_-])([^\s\"'`,;]{{2,}}[^\s\"'`,;.?!])"
        ),
    ),
    Rule(Kind.SECRET, re.compile(r"\b(?:sk|pk|tw|ghp|xox[bp])[-_][A-Za-z0-9_-]{16,}\b")),
    Rule(Kind.EMAIL, re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    Rule(Kind.IBAN, re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_iban),
    Rule(Kind.CARD, re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card),
    Rule(Kind.IDENTITY, re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), _is_ssn),
    Rule(Kind.IDENTITY, re.compile(r"\b[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")),
    Rule(
        Kind.IDENTITY,
        re.compile(rf"\b{_IDENTITY}\s*(?i:is|:|#)?\s*([A-Z0-9][A-Z0-9 -]{{4,14}}\d)\b"),
        _is_reference,
    ),
    Rule(
        Kind.BIRTHDAY,
        re.compile(
            rf"\b{_BORN}\s*(?i:is|was|:|on)?\s*(\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}"
            rf"|(?:\d{{1,2}}(?:st|nd|rd|th)? )?{_MONTH} ?(?:\d{{1,2}}(?:st|nd|rd|th)?)?,? ?(?:19|20)\d\d)"
        ),
    ),
    Rule(Kind.ADDRESS, re.compile(rf"\b\d{{1,5}}[A-Za-z]? (?:{_WORD} ){{1,3}}?{_STREET}{_TOWN}")),
    Rule(Kind.ADDRESS, re.compile(rf"\b\d{{1,5}}[A-Za-z]? (?:{_CAPITAL} ){{1,3}}{_STREET_CAPITAL}{_TOWN}")),
    Rule(
        Kind.ADDRESS,
        re.compile(
            r"\b[A-Z\u00c4\u00d6\u00dc][\w-]*(?:stra\u00dfe|strasse|str\.|weg|platz|gasse|allee)"
            r" \d{1,4}[a-z]?(?:,? \d{5} [A-Z\u00c4\u00d6\u00dc]\w+)?"
        ),
    ),
    # A British postcode.
    Rule(
        Kind.ADDRESS,
        re.compile(r"\b[A-PR-UWYZ][A-HK-Y]?\d{1,2}[A-HJKPS-UW]? \d[ABD-HJLNP-UW-Z]{2}\b"),
    ),
    Rule(
        Kind.REFERENCE,
        re.compile(rf"\b{_NUMBERED}(?: (?i:is|was))?\s*[#:]*\s*([A-Z]{{0,4}}[-/]?\d[\dA-Z/-]{{2,}}\w)\b"),
        _is_reference,
    ),
    Rule(Kind.REFERENCE, re.compile(r"(?<!\w)#\d{5,}\b")),
    Rule(Kind.REFERENCE, re.compile(r"\b[A-Z]{2,5}-(?:\d{2,4}-)?\d{5,}\b")),
    Rule(Kind.REFERENCE, re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")),
)
AFTER_PHONES = (
    # Countries whose numbers nobody asked for.
    Rule(Kind.PHONE, re.compile(rf"\b{_REACHED}\b[^\d+\n]{{0,20}}(\+?\d[\d ().-]{{6,}}\d)")),
    Rule(
        Kind.IP,
        re.compile(
            r"(?<![\w.])(?<!version )(?<!update )(?<!release )(?<!build )(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)"
        ),
        _is_public_ip,
    ),
    Rule(Kind.HANDLE, re.compile(r"(?<![\w@/.])@[A-Za-z_]\w{2,}\b")),
)
#: Where a name is introduced or signed.
NAMES = (
    Rule(
        Kind.NAME,
        re.compile(
            r"\b(?i:my (?:full |first |last )?name(?: is|'s|\u2019s)|i am called|i'm called)"
            rf"\s+({_WORD}(?:[ -]{_CAPITAL}){{0,3}})"
        ),
        _is_name,
    ),
    Rule(
        Kind.NAME,
        re.compile(rf"\b(?i:customer|account holder|cardholder|caller|name)\s*:\s*({_NAMES})"),
        _is_name,
    ),
    Rule(
        Kind.NAME,
        re.compile(rf"\b(?i:this is|it's|i am|i'm) ({_NAMES})(?= (?:here|speaking|calling|from)\b)"),
        _is_name,
    ),
    Rule(Kind.NAME, re.compile(rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau)\.? ({_NAMES})"), _is_name),
    Rule(
        Kind.NAME,
        re.compile(
            r"(?i:regards|sincerely|cheers|thanks|thank you|best|yours)[,!.]?\s*(?:\n|,\s|- ?|\u2013 ?)\s*"
            rf"({_NAMES})\s*\Z"
        ),
        _is_name,
    ),
)
