"""Rows that may be trained on: personal data masked, and what would teach something wrong left out with why.

Every step takes rows in one order and gives back those that stay, so that the same rows in other files come
out the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from serving.checker import GroundingChecker
from serving.examples import (
    ChatTokenizer,
    Row,
    check_example,
    check_fields,
    check_values,
    encode,
    free_texts,
    row_json,
    without_wordings,
)
from serving.grounding import word_signs
from serving.prompting import Message, PromptTemplate
from serving.redaction import Redactor
from serving.sentences import sentences
from serving.tuning.dataset_folder import Rejected
from serving.tuning.likeness import Task, asked, contradiction, same_context, same_wanted, texts_of
from serving.values import known_values

#: Reasons for which a row is left out.
SCHEMA, UNGROUNDED = "not the task's JSON", "facts not in its context"
TOO_LONG, MASK = "too long", "nothing to train"
EXACT, NEAR, CONTRADICTORY = "exact duplicate", "near duplicate", "contradictory labels"
#: What people wrote in a row as it was read, be it an export's or an operator's own.
_WRITTEN = ("question", "history", "wanted", "answer", "rejected")


@dataclass(slots=True, kw_only=True)
class Cleaned:
    """Rows that stay, and what was found on the way."""

    rows: list[Row]
    rejected: list[Rejected] = field(default_factory=list)
    #: Personal data by kind: taken out of questions and answers, and left in passages.
    masked: Counter[str] = field(default_factory=Counter)
    in_passages: Counter[str] = field(default_factory=Counter)
    #: Tokens of prompt and of completion of every row that stays, where a tokenizer was at hand.
    prompt_tokens: list[int] = field(default_factory=list)
    answer_tokens: list[int] = field(default_factory=list)
    #: Pairs that ask the same of the same passages, and how many of them want different things.
    compared: int = 0
    disagreed: int = 0

    def reject(self, row: Row, reason: str, detail: str) -> None:
        """Leave a row out."""
        self.rejected.append(Rejected(reason=reason, detail=detail, source=row.source, row=row_json(row)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How rows become tokens: the prompt and tokenizer of the recipe, and its longest row."""

    template: PromptTemplate
    tokenizer: ChatTokenizer
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What rows are held against."""

    task: Task
    #: None: nothing is masked.
    redactor: Redactor | None
    #: Also passages are masked: they are not the deployment's published articles.
    mask_passages: bool = False
    #: Refuses every sentence that the gateway would not release. None: only facts that stand nowhere refuse.
    checker: GroundingChecker | None = None
    #: None: no tokenizer is at hand, so lengths are not checked.
    encoding: Encoding | None = None


Tick = Callable[[int], None]


def mask(cleaned: Cleaned, rules: Rules) -> None:
    """Personal data out of what people wrote, of rows that were left out already too. Articles are published:
    what stands in a passage stays, there and in the answer that repeats it."""
    if rules.redactor is not None:
        cleaned.rows = [_masked(row, rules, rules.redactor, cleaned) for row in cleaned.rows]
        written = (*_WRITTEN, "passages") if rules.mask_passages else _WRITTEN
        for at, each in enumerate(cleaned.rejected):
            row = {
                name: _redacted(value, rules.redactor) if name in written else value
                for name, value in each.row.items()
            }
            cleaned.rejected[at] = replace(each, row=row)


def check(cleaned: Cleaned, rules: Rules, tick: Tick = lambda _: None) -> None:
    """Leave out what is not the task's JSON, says what its context does not, or does not fit."""
    rows, cleaned.rows = cleaned.rows, []
    for done, row in enumerate(rows, 1):
        tick(done)
        if problems := check_fields(row, rules.task.schema):
            cleaned.reject(row, SCHEMA, problems[0])
        elif problems := ungrounded(row, rules):
            cleaned.reject(row, UNGROUNDED, problems[0])
        elif rules.encoding is None or _fits(row, rules.encoding, cleaned):
            cleaned.rows.append(row)


def drop_duplicates(cleaned: Cleaned, rules: Rules) -> None:
    """One row of those that teach the same, none of those that contradict each other.

    A question that is asked of other passages is another row: only the same passages count.
    """
    _drop_exact(cleaned)
    rows = cleaned.rows
    texts = texts_of(rows)
    against: dict[int, tuple[int, str]] = {}
    alike: defaultdict[int, set[int]] = defaultdict(set)
    for one, other, very in same_context(texts, rows):
        first, second = rows[min(one, other)], rows[max(one, other)]
        name = contradiction(first, second, rules.task)
        if very:
            cleaned.compared += 1
            if name:
                cleaned.disagreed += 1
                against.setdefault(one, (other, name))
                against.setdefault(other, (one, name))
        if not name and _same_numbers(first, second) and (very or same_wanted(first, second)):
            alike[max(one, other)].add(min(one, other))
    cleaned.rows = []
    kept: set[int] = set()
    for at, row in enumerate(rows):
        if at in against:
            other, name = against[at]
            told = f"{rows[other].id!r}, which asks the same: {rows[other].question!r}"
            cleaned.reject(row, CONTRADICTORY, f"wants another {name} than {told}")
        elif earlier := kept & alike[at]:
            same = rows[min(earlier)]
            cleaned.reject(row, NEAR, f"nearly the same as {same.id!r}: {same.question!r}")
        else:
            kept.add(at)
            cleaned.rows.append(row)


def ungrounded(row: Row, rules: Rules) -> list[str]:
    """What of the wanted texts no passage holds: values, names, deeds and what a passage denies; by a checker
    also sentences whose words stand nowhere together."""
    problems = check_values(row, rules.task.schema, fixed_wordings=rules.task.wordings)
    if problems or not row.passages:
        return problems
    for name, text in free_texts(row.wanted, rules.task.schema).items():
        bare = without_wordings(text, rules.task.wordings)
        for span in sentences(bare):
            sentence = bare[span.start : span.end].strip()
            if not sentence or any(sentence in passage.text for passage in row.passages):
                continue
            if rules.checker is not None:
                support = rules.checker(sentence, row.passages, question=row.question)
                faults = () if support.supported else support.unsupported or ("no passage says this",)
            else:
                faults = word_signs(sentence, row.passages, question=row.question).faults
            problems += [f"wanted.{name}: {fault!r} in {sentence!r}" for fault in faults]
    return problems


def _masked(row: Row, rules: Rules, redactor: Redactor, cleaned: Cleaned) -> Row:
    texts = () if rules.mask_passages else {passage.text for passage in row.passages}
    published = [found for text in sorted(texts) for found in _published(redactor, text)]
    public = redactor
    if published:
        public = replace(redactor, keep=(*redactor.keep, *(text for _, text in published)))
        cleaned.in_passages.update(kind for kind, _ in published)

    def clean(text: str) -> str:
        done = public.redact(text)
        cleaned.masked += done.kinds
        return done.text

    passages = row.passages
    if rules.mask_passages:
        passages = tuple(
            replace(passage, title=clean(passage.title), text=clean(passage.text)) for passage in passages
        )
    written = free_texts(row.wanted, rules.task.schema)
    return replace(
        row,
        question=clean(row.question),
        passages=passages,
        history=tuple(Message(said.role, clean(said.content)) for said in row.history),
        wanted={name: clean(value) if name in written else value for name, value in row.wanted.items()},
        required=tuple(public.redact(text).text for text in row.required),
        stale_values=tuple(public.redact(text).text for text in row.stale_values),
    )


def _redacted(value: Any, redactor: Redactor) -> Any:
    """Plain data without the personal data of its texts."""
    if isinstance(value, str):
        return redactor.redact(value).text
    if isinstance(value, Mapping):
        return {name: _redacted(part, redactor) for name, part in value.items()}
    return [_redacted(part, redactor) for part in value] if isinstance(value, list) else value


@lru_cache(maxsize=1 << 14)
def _published(redactor: Redactor, text: str) -> tuple[tuple[str, str], ...]:
    """What looks like personal data in a passage: kind and words. Many rows show the same passage."""
    return tuple((found.kind.value, text[found.start : found.end]) for found in redactor.redact(text).found)


def fits(row: Row, encoding: Encoding) -> bool:
    """Whether a row is trained on as a whole."""
    example = encode(row, encoding.template, encoding.tokenizer)
    return not check_example(example, encoding.tokenizer, max_tokens=encoding.max_tokens)


def _fits(row: Row, encoding: Encoding, cleaned: Cleaned) -> bool:
    example = encode(row, encoding.template, encoding.tokenizer)
    problems = check_example(example, encoding.tokenizer, max_tokens=encoding.max_tokens)
    if problems:
        too_long = len(example.input_ids) > encoding.max_tokens
        cleaned.reject(row, TOO_LONG if too_long else MASK, problems[-1])
        return False
    trained = sum(label >= 0 for label in example.labels)
    cleaned.prompt_tokens.append(len(example.labels) - trained)
    cleaned.answer_tokens.append(trained)
    return True


def _drop_exact(cleaned: Cleaned) -> None:
    first_of: dict[tuple[Any, ...], Row] = {}
    rows, cleaned.rows = cleaned.rows, []
    for row in rows:
        key = (row.question, row.history, _shown(row), repr(row.wanted))
        first = first_of.setdefault(key, row)
        if first is row:
            cleaned.rows.append(row)
        else:
            cleaned.reject(row, EXACT, f"the same as {first.id!r}")


def _same_numbers(one: Row, other: Row) -> bool:
    """Whether two rows show the same and their questions name the same numbers, in any order of words."""
    mine, theirs = (known_values([asked(row)]).numbers for row in (one, other))
    return mine == theirs and _shown(one) == _shown(other)


def _shown(row: Row) -> tuple[tuple[str, ...], ...]:
    """The passages in their order, without their place in the document."""
    return tuple((each.title, each.heading, each.text, each.effective_from) for each in row.passages)
