"""Rules of the house tone that can be checked without a model. Works on a sentence as well as on a whole
answer."""

from __future__ import annotations

import re

from serving.sentences import sentences, words

MAX_WORDS = 45
MAX_SENTENCES = 3

#: Rule -> what breaks it, in lower case: to fold the text once is cheaper than searches that ignore case.
_BROKEN_BY: dict[str, re.Pattern[str]] = {
    rule: re.compile("|".join(patterns))
    for rule, patterns in {
        "exclamation_mark": ("!",),
        "emoji": ("[\U0001f300-\U0001faff\u2600-\u27bf]",),
        "unfortunately": (r"\bunfortunately\b",),
        "as_an_ai": (r"\bas an ai\b", r"\b(?:ai|language) model\b"),
        "apology": (r"\bapologi[sz]e\b", r"\bapologies\b", r"\b(?:i|we)(?:'m|'re| am| are) (?:\w+ )?sorry\b"),
        "please_be_advised": (r"\bplease (?:note|be (?:advised|informed|aware))\b",),
        "users_may": (r"\b(?:users?|customers?) (?:may|can|must|should)\b",),
        "greeting": (r"^\s*(?:hi|hello|hey|dear|greetings|good (?:morning|afternoon|evening))\b",),
        "thanks_opener": (r"^\s*(?:thanks|thank you) for\b",),
        "sign_off": (
            r"\b(?:kind|best|warm) regards\b",
            r"\bhave a (?:great|nice|good) day\b",
            r"\bfeel free to (?:reach|contact|ask)\b",
            r"\blet (?:me|us) know if you (?:have|need) (?:any )?(?:more|other|further)\b",
        ),
    }.items()
}


def check_tone(text: str, *, whole: bool = False) -> tuple[str, ...]:
    """Names of the rules that the text breaks. `whole` adds those of a whole answer: neither empty nor too
    long."""
    folded = text.lower()
    broken = [rule for rule, pattern in _BROKEN_BY.items() if pattern.search(folded)]
    if whole:
        count = len(words(text))
        if not count:
            broken.append("empty")
        if count > MAX_WORDS:
            broken.append("too_many_words")
        if len(sentences(text)) > MAX_SENTENCES:
            broken.append("too_many_sentences")
    return tuple(broken)
