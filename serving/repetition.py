"""Whether a model has begun to say the same thing over and over, which small models do at temperature 0.

A loop never ends by itself: unseen, it costs all tokens and all time that a draft may take. Engines can watch
for it, each in a way of its own; this works behind any of them.
"""

from __future__ import annotations

#: Characters of what is said again, at least and at most.
SHORTEST, LONGEST = 12, 240
#: How often in a row is a loop.
TIMES = 3
#: Different letters that it has at least: rules of a table, dotted lines and "no, no, no" have fewer.
LETTERS = 6


def is_loop(text: str) -> bool:
    """Whether `text` ends with the same 12 to 240 characters of prose three times in a row.

    Meant for the text of an answer, not for JSON: rows of a list may well be alike, as may cells of a table.
    """
    for length in range(SHORTEST, min(LONGEST, len(text) // TIMES) + 1):
        # Most lengths are ruled out by one character.
        if text[-1] == text[-1 - length] and text.endswith(text[-length:] * TIMES):
            said = text[-length:]
            if "|" not in said and len({letter for letter in said if letter.isalpha()}) >= LETTERS:
                return True
    return False


class LoopWatch:
    """`is_loop` over a text that grows, asked once every few words."""

    def __init__(self, every: int = 48) -> None:
        self._every = every
        self._tail = ""
        self._new = 0

    def feed(self, text: str) -> bool:
        """Whether the text so far ends in a loop."""
        self._tail = (self._tail + text)[-TIMES * LONGEST :]
        self._new += len(text)
        if self._new < self._every:
            return False
        self._new = 0
        return is_loop(self._tail)
