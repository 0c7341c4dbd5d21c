"""Words, numbers and units in one spelling each, so that texts can be compared word by word."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13",
    "fourteen": "14", "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18",
    "nineteen": "19", "twenty": "20",
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
    "ninety": "90",
}  # fmt: skip
_TENS_AND_ONES = re.compile(
    r"\b(twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)[-\u2011](one|two|three|four|five|six|seven|eight|nine)\b"
)
_UNITS = {
    "hrs": "hour", "hr": "hour", "mins": "minute", "min": "minute", "percent": "%",
    "gigabyte": "gb", "gigabytes": "gb", "terabyte": "tb", "terabytes": "tb", "megabyte": "mb",
    "megabytes": "mb",
}  # fmt: skip
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_ZERO_CENTS = re.compile(r"(?<=\d)\.0+\b(?!\.\d)")
#: A currency behind its amount, and one with a space before it.
_MONEY = tuple(
    (
        re.compile(rf"(?<![\d.{others}])(\d+(?:\.\d+)?)\s*(?:(?:{words})\b|{re.escape(sign)}(?!\s*\d))"),
        rf"{sign}\1",
    )
    for sign, others, words in (
        ("$", "\u20ac\u00a3", r"(?:us\s*)?(?:dollars?|usd)"),
        ("\u20ac", "$\u00a3", "euros?|eur"),
        ("\u00a3", "$\u20ac", "pounds?|gbp"),
    )
)
_SIGN_APART = re.compile(r"([$\u20ac\u00a3])\s+(?=\d)")
_CODE = re.compile(r"\b([a-z]{1,8})-(\d+)\b")
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_MONTH_FIRST = re.compile(
    r"\b(january|february|march|april|may|june|july|august|september|october|november|december)\s+(\d{1,2})\b"
)
_TOKEN = re.compile(r"[$\u20ac\u00a3]?\d+(?:[.:]\d+)*|%|[a-z][a-z0-9]*(?:'[a-z]+)?|[^\W\d_]+")


@lru_cache(maxsize=1 << 13)
def tokens(text: str) -> tuple[str, ...]:
    """Words, numbers and prices in one spelling each: `$9.00` is `$9`, `fourteen days` is `14 day`."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").replace("us$", "$")
    plain = plain.replace("per cent", "percent")
    # "forty-five" is 45: the tens without their nought, then the ones.
    plain = _TENS_AND_ONES.sub(lambda match: _NUMBERS[match[1]][0] + _NUMBERS[match[2]], plain)
    plain = " ".join(
        _NUMBERS.get(word, word) for word in re.split(r"(?<=\w)[-\u2013](?=[a-z]{3,})|\s+", plain)
    )
    plain = re.sub(r"[a-z]+", lambda match: _NUMBERS.get(match[0], match[0]), plain)
    for pattern, replacement in (
        (_THOUSANDS, ""),
        (_ZERO_CENTS, ""),
        (_SIGN_APART, r"\1"),
        *_MONEY,
        (_CODE, r"\1\2"),
        (_ORDINAL, r"\1"),
    ):
        plain = pattern.sub(replacement, plain)
    plain = _MONTH_FIRST.sub(r"\2 \1", plain)
    return tuple(_singular(_UNITS.get(token, token)) for token in _TOKEN.findall(plain))


def _singular(word: str) -> str:
    return (
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    )
