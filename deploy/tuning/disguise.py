"""The same row about another company: its names, numbers and codes replaced, everywhere alike.

A model that has seen "Home keeps 90 days" often enough says 90 days whatever the passage says. With other
values in the same sentences only reading helps.
"""

from __future__ import annotations

import random
import re

_NAMES = {
    "pellworth": ("Larkfield", "Ostrava", "Brindle", "Quayside", "Tamsin", "Holloway"),
    "sync": ("Drive", "Mirror", "Folders", "Relay"),
    "backup": ("Vault", "Shelter", "Reserve", "Depot"),
}
_NAME = re.compile(r"\b(pellworth|sync|backup)\b", re.IGNORECASE)
_CODE = re.compile(r"\b([A-Za-z])-?(\d{2,3})\b")
#: A number that says something: no list mark, no year, no part of a longer name.
_NUMBER = re.compile(r"(?<![\w.:/-])(?<!\n)\d{1,3}(?:,\d{3})?(?![\w:/-]|\.\d|\.\s+[A-Z])")
_FEWEST = {1: 2, 2: 11, 3: 101}


class Disguise:
    """One row's replacements: the same word always becomes the same other one."""

    def __init__(self, draw: random.Random, *, names: bool = True) -> None:
        self._draw = draw
        self._names = {name: draw.choice(others) for name, others in _NAMES.items()} if names else {}
        self._numbers: dict[str, str] = {}
        self._letters: dict[str, str] = {}

    def apply(self, text: str) -> str:
        """The text with everything replaced that is to be replaced."""
        if self._names:
            text = _CODE.sub(self._code, text)
        text = _NUMBER.sub(lambda match: self._number(match[0]), text)
        return _NAME.sub(self._name, text) if self._names else text

    def changes(self, text: str) -> bool:
        """Whether it says something else afterwards."""
        return self.apply(text) != text

    def _name(self, match: re.Match[str]) -> str:
        other = self._names[match[0].lower()]
        return other if match[0][0].isupper() else other.lower()

    def _code(self, match: re.Match[str]) -> str:
        letter = match[1].upper()
        if letter not in self._letters:
            free = sorted(set("CDEFHKLMPRTW") - set(self._letters.values()))
            self._letters[letter] = self._draw.choice(free)
        other = self._letters[letter]
        dash = "-" if "-" in match[0] else ""
        return f"{other if match[1].isupper() else other.lower()}{dash}{self._other(match[2])}"

    def _number(self, number: str) -> str:
        return self._other(number) if "," not in number else f"{self._other(number[0])}{number[1:]}"

    def _other(self, number: str) -> str:
        if number not in self._numbers:
            fewest = _FEWEST[len(number)]
            free = [
                str(n)
                for n in range(fewest, 10 ** len(number))
                if str(n) not in self._numbers.values() and str(n) != number
            ]
            self._numbers[number] = self._draw.choice(free) if free else number
        return self._numbers[number]
