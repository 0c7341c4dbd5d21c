"""Values in a text: prices, amounts, durations, dates, codes, addresses. What an answer must never make up.

Values compare by what they mean, as far as that is cheap: `$9.00` is `$9`, `two weeks` is `14 days`, `1
March 2026` is `2026-03-01`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_CALENDAR = "jan feb mar apr may jun jul aug sep oct nov dec"
_NUMBER_WORDS = {word: n for n, word in enumerate(_COUNTING.split())} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
#: "forty" and "five" of a whole number in words.
_TENS = "|".join(word for word, number in _NUMBER_WORDS.items() if number >= 20)
_ONES = "|".join(word for word, number in _NUMBER_WORDS.items() if 1 <= number <= 9)
_ONE_WORD = "|".join(_NUMBER_WORDS)
_GAP = "[ \u00a0-]"
_TO_99 = rf"(?:(?:{_TENS}){_GAP}(?:{_ONES})|{_ONE_WORD})"
_TO_999 = rf"(?:(?:a|{_TO_99}){_GAP}hundred\b(?:{_GAP}(?:and{_GAP})?{_TO_99}\b)?|{_TO_99})"
_IN_WORDS = rf"(?:a|{_TO_999}){_GAP}thousand\b(?:{_GAP}(?:and{_GAP})?{_TO_999}\b)?|{_TO_999}"
#: Unit -> (dimension, size in its smallest unit).
_UNITS: dict[str, tuple[str, Decimal]] = {
    **dict.fromkeys(("second", "seconds", "sec", "secs"), ("time", Decimal(1))),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), ("time", Decimal(60))),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), ("time", Decimal(3600))),
    **dict.fromkeys(("day", "days"), ("time", Decimal(86_400))),
    **dict.fromkeys(("week", "weeks"), ("time", Decimal(7 * 86_400))),
    **dict.fromkeys(("month", "months"), ("months", Decimal(1))),
    **dict.fromkeys(("year", "years"), ("months", Decimal(12))),
    "kb": ("bytes", Decimal(10) ** 3),
    "mb": ("bytes", Decimal(10) ** 6),
    **dict.fromkeys(("gb", "gig", "gigs", "gigabyte", "gigabytes"), ("bytes", Decimal(10) ** 9)),
    **dict.fromkeys(("tb", "terabyte", "terabytes"), ("bytes", Decimal(10) ** 12)),
    **dict.fromkeys(("mbit/s", "mbps", "mbit"), ("rate", Decimal(10) ** 6)),
    **dict.fromkeys(("gbit/s", "gbps", "gbit"), ("rate", Decimal(10) ** 9)),
    **dict.fromkeys(("%", "percent", "per cent"), ("percent", Decimal(1))),
    **dict.fromkeys(("dollars", "dollar", "usd", "bucks"), ("$", Decimal(1))),
    **dict.fromkeys(("euros", "euro", "eur"), ("\u20ac", Decimal(1))),
    **dict.fromkeys(("pounds", "pound", "gbp"), ("\u00a3", Decimal(1))),
}
_MONTHS = {name: n for n, name in enumerate(_CALENDAR.split(), 1)}
#: Whole names and short ones, no words that begin like one ("maybe 10 minutes"). A small "may" before a word
#: is none: "5 may be free".
_MONTH = (
    r"(?P<{0}>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|(?-i:May|MAY)|may(?!\s+[a-z])|june?|july?"
    r"|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_NUMBER = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))

_PATTERN = re.compile(
    # As long as addresses may be, so that a long row of dots or dashes costs no more than other text.
    r"(?P<address>\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+|\bhttps?://[^\s)\]>\"']+"
    r"|\b(?:[\w-]{1,63}\.){1,8}(?:com|org|net|io|example|co\.uk)\b)"
    r"|(?P<iso>\b(?:19|20)\d\d-\d\d-\d\d\b)"
    rf"|(?P<dmy>\b(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH.format('m1')}(?:,?\s+(?P<y1>(?:19|20)\d\d))?\b)"
    rf"|(?P<mdy>\b{_MONTH.format('m2')}\s+(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<y2>(?:19|20)\d\d))?)"
    r"|(?P<clock>\b\d{1,2}:\d\d\b)"
    r"|(?P<dotted>\b\d+(?:\.\d+){2,}\b)"
    r"|(?P<code>\b[a-z]{1,8}-\d{1,6}\b|\b[a-z]{1,2}\d{2,6}\b)"
    rf"|(?P<money>[$\u20ac\u00a3]\s?(?P<amount>{_NUMBER})(?:\s?(?P<scale>million|billion|k)\b)?)"
    rf"|(?P<quantity>(?<![\w.])(?P<n>{_NUMBER}|\b(?:{_IN_WORDS})\b)(?:[\s-]*(?P<unit>{_UNIT})(?![\w]))?)",
    re.IGNORECASE,
)
#: Whether there can be a value at all; most sentences hold none, and the pattern above is slow to say so.
_SIGN = re.compile(
    rf"[\d@]|://|\.(?:com|org|net|io|example|co\.uk)\b|\b(?:{_ONE_WORD}|hundred|thousand)\b", re.IGNORECASE
)
#: After a bare number: then it counts things ("7 staff"), unless its unit comes later ("5 to 10 days", "5 a
#: month").
_COUNTED = re.compile(r"[ \u00a0-]*(?!(?:or|to|and|of|a|an|per|each|every)\b)[a-z]", re.IGNORECASE)
_DIGITS = re.compile(_NUMBER)
_FIRST_WORDS = re.compile(rf"(?:{_IN_WORDS})\b", re.IGNORECASE)
_PART_OF_NUMBER = re.compile("[a-z]+")
#: Before a code that only shows what one looks like: "such as INV-1001".
_EXAMPLE = re.compile(
    r"\b(?:e\.g\.?|example|for instance|such as|looks? like|similar to|format(?: of)?)[^.;\n]{0,20}$",
    re.IGNORECASE,
)
#: Letters that patterns take for others whatever their case: 6 m\u0131nutes.
_ALIKE = str.maketrans("\u0130\u0131\u017f\u212a", "iisk")
_SCALES = {"k": Decimal(1000), "million": Decimal(10) ** 6, "billion": Decimal(10) ** 9}


@dataclass(frozen=True, slots=True)
class Value:
    """One value: how it is written, and what it means."""

    text: str
    #: `number`, `time`, `months`, `bytes`, `rate`, `percent`, `$` (and other currencies), `date`, `clock`,
    #: `code`, `address`.
    kind: str
    meaning: str
    #: A bare number before what it counts: "7 staff".
    counts: bool = False
    #: A code that only shows what one looks like.
    is_example: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What equal values share."""
        return (self.kind, self.meaning)

    @property
    def stands_by_its_digits(self) -> bool:
        """Whether its number alone may stand for it: 203 for S-203, 10 for 10:00; not 10 for 10:30, 24 for
        pay24.example or 2.4 for 2.4.1."""
        if self.kind == "clock":
            return self.meaning.endswith(":00")
        return self.kind != "address" and not (self.kind == "code" and "." in self.meaning)


def find_values(text: str) -> list[Value]:
    """Values in the order in which they stand. Small numbers in words count only with a unit ("one of them"
    is none)."""
    if not _SIGN.search(text):
        return []
    return [value for match in _PATTERN.finditer(text) if (value := _value(match)) is not None]


@dataclass(frozen=True, slots=True)
class KnownValues:
    """The values of some sources."""

    #: A number that counts something is a `count` here.
    keys: frozenset[tuple[str, str]]
    #: Numbers in them, with a unit or without.
    numbers: frozenset[str]

    #: The letters before the number of codes that are not only examples: `s` of S-110 and S-301.
    code_families: frozenset[str]

    def list_without(self, value: Value) -> bool:
        """Whether the sources hold codes of the value's family and not this one: nothing is known of it."""
        return value.kind == "code" and _family(value) in self.code_families and not self.hold(value)

    def hold(self, value: Value) -> bool:
        """Whether the value stands in the sources."""
        if value.key in self.keys:
            return True
        if value.kind == "number":
            return value.meaning in self.numbers
        if value.kind == "date":
            # A day without its year matches the full date.
            return any(kind == "date" and meaning.endswith(value.meaning) for kind, meaning in self.keys)
        if not value.stands_by_its_digits:
            return False
        digits = _digits(value.text)
        # "5 | GB" in a table and "5 GB" in a sentence are one amount; "5 staff" is not. "203 will not clear"
        # names the code S-203.
        return ("number", digits) in self.keys or (value.kind == "code" and ("count", digits) in self.keys)


def known_values(sources: Iterable[str]) -> KnownValues:
    """All values of the sources."""
    values = [value for source in sources for value in find_values(source)]
    return KnownValues(
        frozenset(("count", value.meaning) if value.counts else value.key for value in values),
        frozenset(_digits(value.text) for value in values),
        frozenset(
            letters
            for value in values
            if value.kind == "code" and not value.is_example and (letters := _family(value)).isalpha()
        ),
    )


def missing_values(text: str, sources: Iterable[str]) -> tuple[str, ...]:
    """Values of the text, as written, that stand in no source."""
    wanted = find_values(text)
    known = known_values(sources) if wanted else None
    return tuple(value.text for value in wanted if known is not None and not known.hold(value))


def _family(code: Value) -> str:
    return code.meaning.rstrip("0123456789")


def _value(match: re.Match[str]) -> Value | None:
    text = match.group().strip()
    if match["address"]:
        return Value(text, "address", text.lower().rstrip(".,/"))
    if match["iso"]:
        return Value(text, "date", text)
    if match["dmy"]:
        return Value(text, "date", _date(match["y1"], match["m1"], match["d1"]))
    if match["mdy"]:
        return Value(text, "date", _date(match["y2"], match["m2"], match["d2"]))
    if match["clock"]:
        return Value(text, "clock", text.zfill(5))
    if match["code"] or match["dotted"]:
        before = match.string[max(0, match.start() - 40) : match.start()]
        return Value(
            text, "code", text.lower().replace("-", ""), is_example=_EXAMPLE.search(before) is not None
        )
    if match["money"]:
        amount = _number(match["amount"]) * _SCALES.get(_lower(match["scale"] or ""), Decimal(1))
        return Value(text, text[0], _plain(amount))
    number = _number(match["n"])
    if not match["unit"]:
        counts = _COUNTED.match(match.string, match.end()) is not None
        return None if match["n"].isalpha() and number <= 2 else Value(text, "number", _plain(number), counts)
    dimension, size = _UNITS[_lower(match["unit"])]
    return Value(text, dimension, _plain(number * size))


def _number(text: str) -> Decimal:
    if text[0].isdigit():
        return Decimal(text.replace(",", ""))
    thousands, rest = 0, 0
    for part in _PART_OF_NUMBER.findall(_lower(text)):
        match part:
            case "and":
                pass
            case "thousand":
                thousands, rest = rest, 0
            case "hundred":
                rest *= 100
            case "a":
                rest = 1
            case _:
                rest += _NUMBER_WORDS[part]
    return Decimal(1000 * thousands + rest)


def _lower(text: str) -> str:
    """As the pattern compares it."""
    return text.translate(_ALIKE).lower()


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")


@lru_cache(maxsize=1 << 12)
def _digits(text: str) -> str:
    match = _DIGITS.search(text)
    if match:
        return _plain(_number(match.group()))
    first = _FIRST_WORDS.match(text)
    return _plain(_number(first.group())) if first else ""


def _date(year: str | None, month: str, day: str) -> str:
    tail = f"-{_MONTHS[_lower(month)[:3]]:02d}-{int(day):02d}"
    return f"{year}{tail}" if year else tail
