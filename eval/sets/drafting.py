"""Questions made from documents by patterns: no model, so the same document always gives the same ones.

Only statements that a pattern understands become questions. What comes out is a start for a person, who knows
how customers ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from eval.sets.proposals import Proposal, proposal_id
from eval.sets.questions import GoldFact, Match
from eval.sets.telling_values import match_of, values_in, written_with
from serving.sentences import sentences
from serving.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """A document to make questions from."""

    id: str
    title: str
    text: str
    effective_from: date | None = None
    effective_to: date | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class _Section:
    heading: str
    lines: tuple[_Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A question with what answers it, before it has the document's dates."""

    template: str
    text: str
    match: Match
    values: tuple[str, ...]
    start: int
    end: int


_STEP = re.compile(r"\d{1,2}[.)]\s+")
_BULLET = re.compile(r"(?:[-*\u2022]|\d{1,2}[.)])\s+")
_MARKS = re.compile(r"[*_`]{1,3}")
_ASKING = re.compile(r"(?:how|what|when|where|which|who|why|can|do|does|is|are)\b", re.IGNORECASE)
_HOW_TO = re.compile(r"(?:how (?:to|do i|do you|can i)|to) ([a-z].+)", re.IGNORECASE)
#: `Account > Plan > Cancel`: where something is done.
_PATH = re.compile(r"[A-Z][\w'-]*(?: [\w'-]+){0,3}(?: > [A-Z][\w'-]*(?: [A-Za-z][\w'-]*){0,2})+")
_PATH_LEAD = re.compile(r"^(?:Open|Go to|Go|In|Under|Choose|Select|Click|Tap|See|Use|Visit) ")
_PATH_TAIL = re.compile(r"(?: (?:and|or|to|then|in|on|for|with|if|from|by)\b.*)$")
_FIELD = re.compile(
    r"(?:(?P<row>[^:;]{2,60}) \u2014 )?(?P<key>[A-Z][\w ,/()'-]{2,60}): (?P<value>.{1,80}?)\.?$"
)
_PERSON = {"you": "I", "your": "my", "yours": "mine", "yourself": "myself", "you're": "I'm"}
_LONGEST_HEADING = 90
_LONGEST_SUBJECT = 8

_SUBJECT = r"(?P<subject>(?:[A-Z0-9\"][\w'&+-]*|[Aa]n?|[Tt]he|[Ee]ach|[Ee]very)(?: [\w'&+()/-]+){0,6}?)"
_DONE = "deleted|refunded|charged|sent|paid|closed|answered|removed|posted"
_HOLD = "has|have|holds?|includes?|allows?|supports?|gives?|keeps?"
_TIME, _MONEY = frozenset({"time", "months"}), frozenset({"$", "\u20ac", "\u00a3"})

#: What a sentence says, the kinds of value that must follow, and the question to it.
_STATEMENTS: tuple[tuple[str, re.Pattern[str], frozenset[str], str], ...] = tuple(
    (name, re.compile(rf"{_SUBJECT} {shape}\s*$"), kinds, question)
    for name, shape, kinds, question in (
        ("price", r"costs?", _MONEY, "How much {does} {subject} cost?"),
        ("duration", r"(?P<verb>takes?|lasts?)(?: (?:about|up to|at most|at least))?", _TIME,
         "How long {does} {subject} {verb}?"),
        ("kept", r"(?P<be>is|are) (?P<what>kept|stored|valid|available|open|saved|held)(?: for| up to)*",
         _TIME, "How long {be} {subject} {what}?"),
        ("when", rf"(?P<be>is|are) (?P<what>{_DONE})(?: [\w' ]{{0,40}})?(?: within| after| in| for)",
         _TIME, "When {be} {subject} {what}?"),
        ("arrives", r"(?P<verb>arrives?|expires?|ends?|starts?|begins?)(?: in| within| after| on| at)+",
         _TIME | {"date", "clock"}, "When {does} {subject} {verb}?"),
        ("holds", rf"(?P<verb>{_HOLD})(?: up to| at most| at least| only)?",
         frozenset({"bytes"}), "How much storage {does} {subject} {verb}?"),
    )
)  # fmt: skip
_YOU_CAN = re.compile(r"[Yy]ou can (?P<what>[a-z][\w' ,-]{3,80}?) (?P<how>within|for|up to|until)\s*$")
#: Words that begin no name of a field, and subjects that mean something said before.
_NO_KEYS = frozenset(
    (
        *("after", "at", "before", "cause", "example", "from", "if", "in", "less", "more", "note", "on"),
        *("over", "report", "step", "time", "up", "value", "what", "when", "where", "with", "without", "you"),
    )
)
_POINTING = frozenset(("he", "here", "if", "it", "she", "that", "there", "these", "they", "this", "those"))
#: Words that may stand between a field's name and its value.
_BEFORE_VALUE = re.compile(r"(?:up to|about|within|at most|at least|from|every|only|minimum|maximum|\+|\W)*")


def propose(document: SourceDocument, *, each: int) -> list[Proposal]:
    """At most `each` questions that the document answers, in its order."""
    proposals: dict[str, Proposal] = {}
    texts: set[str] = set()
    for made in _all(document):
        quote = document.text[made.start : made.end]
        found = proposal_id(document.id, quote, made.template)
        if made.text.casefold() in texts or found in proposals:
            continue
        texts.add(made.text.casefold())
        fact = GoldFact(
            match=made.match,
            values=made.values,
            document=document.id,
            valid_from=document.effective_from,
            valid_to=document.effective_to,
        )
        if not fact.said_in(quote):
            continue
        proposals[found] = Proposal(
            id=found,
            text=made.text,
            facts=(fact,),
            document=document.id,
            title=document.title,
            quote=quote,
            start=made.start,
            end=made.end,
            template=made.template,
        )
        if len(proposals) == each:
            break
    return list(proposals.values())


def _all(document: SourceDocument) -> Iterator[_Made]:
    for section in _sections(document):
        yield from _how_to(section)
        yield from _asked_heading(section)
        for line in section.lines:
            yield from _fields(line, _entity(document.title))
            yield from _statements(line, document.text)


# ---- structure -----------------------------------------------------------------------------------


def _sections(document: SourceDocument) -> list[_Section]:
    """Headings with what stands under them: of Markdown, or of text with headings on lines of their own."""
    lines, at = [], 0
    for text in document.text.split("\n"):
        lines.append(_Line(at, text))
        at += len(text) + 1
    sections: list[_Section] = []
    heading, body = document.title, list[_Line]()
    for number, line in enumerate(lines):
        alone = (number == 0 or not lines[number - 1].text.strip()) and (
            number + 1 == len(lines) or not lines[number + 1].text.strip()
        )
        if line.text.startswith("#") or (alone and _is_heading(line.text)):
            sections.append(_Section(heading, tuple(body)))
            heading, body = _plain(line.text.lstrip("# ")), []
        elif line.text.strip():
            body.append(line)
    return [*sections, _Section(heading, tuple(body))]


def _is_heading(text: str) -> bool:
    stripped = text.strip()
    return (
        0 < len(stripped) <= _LONGEST_HEADING
        and stripped[0].isupper()
        and (stripped[-1].isalnum() or stripped[-1] in "?)")
        and ": " not in stripped
        and not _BULLET.match(stripped)
    )


def _plain(text: str) -> str:
    return _MARKS.sub("", text).strip()


# ---- templates -----------------------------------------------------------------------------------


def _how_to(section: _Section) -> Iterator[_Made]:
    """A heading that promises steps, and the place where the steps begin."""
    asked = _HOW_TO.match(section.heading.rstrip("?"))
    steps = [line for line in section.lines if _STEP.match(line.text.strip())]
    if asked is None or not steps or len(asked[1].split()) < 2:
        return
    for step in steps:
        if path := _path(step.text):
            yield _Made(
                template="how_to",
                text=f"How do I {_first_person(asked[1])}?",
                match="exact",
                values=(path,),
                start=step.start,
                end=step.end,
            )
            return


def _asked_heading(section: _Section) -> Iterator[_Made]:
    """A heading that is a question already, with the first value or place that its section names."""
    if not section.heading.endswith("?") or not _ASKING.match(section.heading):
        return
    for line in section.lines:
        for start, end, sentence in _sentences(line):
            values = values_in(sentence)
            path = _path(sentence)
            if len(values) == 1 or path:
                yield _Made(
                    template="heading",
                    text=section.heading,
                    match="exact" if path else match_of(values[0], sentence),
                    values=(path or written_with(values[0], sentence),),
                    start=start,
                    end=end,
                )
                return


def _fields(line: _Line, entity: str) -> Iterator[_Made]:
    """`Monthly fee: $12`, or the same as a row of a table: `Sync Plus \u2014 Price: $9; Trial: 14 days`."""
    offset = _text_offset(line)
    row = ""
    for part in re.finditer(r"[^;]+", line.text[offset:]):
        match = _FIELD.match(_plain(part[0]))
        if match is None:
            return
        row = match["row"] or row
        values = values_in(match["value"])
        if len(values) != 1 or not _BEFORE_VALUE.fullmatch(
            match["value"].partition(values[0].text)[0].lower()
        ):
            continue
        # A table has the names of things in its rows or in its head.
        named, of = (match["key"], row or entity) if not _is_name(match["key"]) else (row, match["key"])
        if not named or not of or named.split()[0].casefold() in _NO_KEYS:
            continue
        start = line.start + offset + part.start() + len(part[0]) - len(part[0].lstrip())
        yield _Made(
            template="field",
            text=f"What {_be(named)} the {_lower_first(named)} for {of}?",
            match=match_of(values[0], match["value"]),
            values=(written_with(values[0], match["value"]),),
            start=start if not match["row"] else line.start + offset,
            end=line.start + offset + part.end(),
        )


def _statements(line: _Line, whole: str) -> Iterator[_Made]:
    """`Refunds arrive in 10 days`: the subject, a verb that is understood, and one value."""
    for start, end, sentence in _sentences(line):
        for value, before in _split_at_values(sentence):
            if question := _question_to(before, value, whole):
                name, text = question
                yield _Made(
                    template=name,
                    text=text,
                    match=match_of(value, sentence),
                    values=(written_with(value, sentence),),
                    start=start,
                    end=end,
                )
                break


def _question_to(before: str, value: Value, whole: str) -> tuple[str, str] | None:
    for name, pattern, kinds, question in _STATEMENTS:
        match = pattern.match(before)
        if match is None or value.kind not in kinds:
            continue
        groups = match.groupdict()
        subject = match["subject"]
        if subject.split()[0].casefold() in _POINTING:
            return None
        verb = groups.get("verb") or ("costs" if before.endswith("costs") else "")
        plural = groups.get("be") == "are" or (not groups.get("be") and not verb.endswith("s"))
        return name, question.format(
            **{
                **groups,
                "subject": _inside(subject, whole),
                "does": "do" if plural else "does",
                "verb": "have" if verb == "has" else verb.removesuffix("s"),
            }
        )
    match = _YOU_CAN.search(before)
    if match and value.kind in _TIME:
        asked = "How long" if match["how"] in ("for", "up to") else "By when"
        return "you_can", f"{asked} can I {_first_person(match['what'])}?"
    return None


def _split_at_values(sentence: str) -> Iterator[tuple[Value, str]]:
    """Each value with the words before it, if the sentence holds no more than two: else it is a list."""
    values = values_in(sentence)
    if 0 < len(values) <= 2:
        for value in values:
            yield value, sentence[: sentence.index(value.text)].rstrip()


def _sentences(line: _Line) -> Iterator[tuple[int, int, str]]:
    """The sentences of a line without its bullet, with their places in the document."""
    offset = _text_offset(line)
    for span in sentences(line.text[offset:]):
        text = line.text[offset + span.start : offset + span.end]
        yield line.start + offset + span.start, line.start + offset + span.end, text


def _text_offset(line: _Line) -> int:
    """Where a line's words begin, behind its bullet or number."""
    bullet = _BULLET.match(line.text.strip())
    return len(line.text) - len(line.text.lstrip()) + (bullet.end() if bullet else 0)


def _path(text: str) -> str:
    found = _PATH.search(text)
    return _PATH_LEAD.sub("", _PATH_TAIL.sub("", found[0])) if found else ""


def _first_person(text: str) -> str:
    """What a help page says to its reader, as the reader says it."""
    return _lower_first(_swapped(text))


def _swapped(text: str) -> str:
    return " ".join(_PERSON.get(word.casefold(), word) for word in text.split())


def _inside(subject: str, whole: str) -> str:
    """A subject in the middle of a sentence: only names keep their capital, and they are never without."""
    first, _, rest = subject.partition(" ")
    if re.search(rf"\b{re.escape(first.lower())}\b", whole) or first.casefold() in ("a", "an", "the", "your"):
        subject = f"{first.lower()} {rest}".rstrip()
    return _swapped(subject)


def _lower_first(text: str) -> str:
    """A word at the beginning, unless it is an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] in (" ", "") else text


def _be(name: str) -> str:
    last = re.split(r" (?:per|for|of|on|in|to|with|without)\b|[,(]", name)[0].split()[-1]
    return "are" if len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is")) else "is"


def _is_name(key: str) -> bool:
    """`Sync Free`, and not `Monthly fee`."""
    return any(word[:1].isupper() and word[1:2].islower() for word in key.split()[1:])


def _entity(title: str) -> str:
    """What a document is about, if its title says so before a colon; a title that asks names nothing."""
    parts = [part.strip() for part in title.split(": ") if part.strip().casefold() != "internal"]
    return "" if not parts or parts[0].endswith("?") else parts[0]
