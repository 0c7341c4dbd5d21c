"""Whether an answer says a fact, in any accepted spelling, with numbers and units written in one way.

Word order inside a spelling counts, words around it do not. A negation outside the spelling is not
seen: write "no card", not "card". A spelling may be marked as a value (`number:$9`) or as a pattern
(`regex:...`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from serving.values import find_values, known_values

#: What a spelling begins with that is compared as a value, or searched as a pattern.
NUMBER_MARK, REGEX_MARK = "number:", "regex:"

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


def says(answer: str, spelling: str) -> bool:
    """Whether the spelling's words stand side by side in the answer; `$6` is not said by `$60` or `$6.50`.

    A spelling of signs alone (`~$`) is looked for as it is.
    """
    if spelling.startswith(REGEX_MARK):
        return re.search(spelling.removeprefix(REGEX_MARK), answer, re.IGNORECASE) is not None
    if spelling.startswith(NUMBER_MARK):
        wanted_values = find_values(spelling.removeprefix(NUMBER_MARK))
        known = known_values([answer])
        return bool(wanted_values) and all(known.hold(value) for value in wanted_values)
    wanted, given = tokens(spelling), tokens(answer)
    if not wanted:
        return bool(spelling.strip()) and spelling.strip() in answer
    width = len(wanted)
    return any(given[start : start + width] == wanted for start in range(len(given) - width + 1))


def broken_pattern(spelling: str) -> str:
    """What keeps a spelling from being searched as a pattern; "" where nothing does."""
    if spelling.startswith(REGEX_MARK):
        try:
            re.compile(spelling.removeprefix(REGEX_MARK))
        except re.error as exc:
            return f"{spelling!r} does not compile ({exc})"
    return ""


def missing_facts(answer: str, facts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """First spelling of every fact that no accepted spelling puts into the answer, as a person reads it."""
    return tuple(shown(fact[0]) for fact in facts if not any(says(answer, spelling) for spelling in fact))


def shown(spelling: str) -> str:
    """A spelling without its mark: a value as it is, a pattern between slashes."""
    if spelling.startswith(REGEX_MARK):
        return f"/{spelling.removeprefix(REGEX_MARK)}/"
    return spelling.removeprefix(NUMBER_MARK)


def stale_values_in(answer: str, stale_values: Sequence[str]) -> tuple[str, ...]:
    """Values of a superseded article that the answer states."""
    return tuple(shown(value) for value in stale_values if says(answer, value))
