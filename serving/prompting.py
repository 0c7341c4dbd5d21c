"""The prompt of a model version: fixed head first (for the prefix cache), then numbered passages, the
question.

Used by the gateway for every answer and by tuning for every training row, so that both see the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from serving.errors import PromptBudgetError, PromptFileError
from serving.sentences import best_window

PROMPTS = Path(__file__).parent / "prompts"

#: Passages shown at most; more of them cost prefill time and mislead small models.
MAX_PASSAGES = 3
#: The same where the prompt shows single sentences; a longer one is cut after that many words.
MAX_SENTENCES = 3
LONGEST_SENTENCE_WORDS = 60
#: Sizes of window to try for a passage, in words, best first: a whole chunk if it fits. Windows of at most
#: 100 words lost the answer of one question in ten that whole chunks keep (docs/experiments.md).
WINDOW_WORDS = (250, 100, 60, 30)
#: Share of the budget that passages get even when a long question has used it up, and the most that any
#: prompt takes: an engine's context less the longest answer.
LEAST_PASSAGE_SHARE = 0.5
PROMPT_CEILING_TOKENS = 1800
#: Tokens that a chat template adds around one message (role, start and end marks), an upper bound.
MESSAGE_OVERHEAD_TOKENS = 8

#: What a prompt shows of the hits: windows of them, or the sentences that come closest to the question.
Shown = Literal["passages", "sentences"]

_OPEN, _CLOSE = "<passages>", "</passages>"
#: Marks with a meaning to a chat template or to our fence. Angle brackets of these become single quotation
#: marks.
_MARKS = re.compile(
    r"<\|[^<>\n]{0,64}\|>|<\|>?|\|>"
    r"|</?\s*(?:passages?|question|s|bos|eos|pad|unk|system|user|assistant|think|start_of_turn|end_of_turn"
    r"|repo_name|reponame|file_sep|filename|gh_stars|issue_[a-z]+|jupyter_[a-z]+|empty_output)\s*>"
    r"|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)
_FORGED_HEADER = re.compile(r"^(\s*)\[(\d{1,3})\]", re.MULTILINE)
_FORGED_QUESTION = re.compile(r"^(\s*)(question)(\s*):", re.MULTILINE | re.IGNORECASE)
_SOFTENED = str.maketrans({"<": "\u2039", ">": "\u203a", "[": "(", "]": ")"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document as the prompt shows it. `start` and `end` are offsets in the document's
    canonical text."""

    n: int
    title: str
    text: str
    start: int
    end: int
    #: ISO day from which the text is true, or "".
    effective_from: str = ""
    #: Of a single sentence: what its document says above it, and whether it is far from the question. Both
    #: stand in the prompt's title line and are no evidence for anything.
    heading: str = ""
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A worked example shown to an untuned model."""

    context: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """Wording of a prompt; part of a model version's identity."""

    name: str
    system: str
    shots: tuple[Shot, ...] = ()
    shows: Shown = "passages"


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message as vLLM takes it."""

    role: str
    content: str


def load_prompt(path: Path) -> PromptTemplate:
    """Read a prompt file: YAML with `name`, `system`, optional `shots` of `context`, `question`, `answer`,
    and what it `shows`."""
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise PromptFileError(f"{path}: no such prompt file") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise PromptFileError(f"{path}: not YAML: {exc}") from exc
    if not isinstance(raw, dict):
        raise PromptFileError(f"{path}: must be a mapping with `name` and `system`")
    if unknown := set(raw) - {"name", "system", "shots", "shows"}:
        raise PromptFileError(
            f"{path}: unknown field {sorted(unknown)[0]!r}; known: name, system, shots, shows"
        )
    for name in ("name", "system"):
        if not isinstance(raw.get(name), str) or not raw[name].strip():
            raise PromptFileError(f"{path}: {name}: must be a text")
    shots = raw.get("shots") or []
    for n, shot in enumerate(shots):
        if not isinstance(shot, dict) or set(shot) != {"context", "question", "answer"}:
            raise PromptFileError(f"{path}: shots[{n}]: must have exactly context, question and answer")
    shows = raw.get("shows", "passages")
    if shows not in get_args(Shown):
        raise PromptFileError(f"{path}: shows: is {shows!r}; must be one of {', '.join(get_args(Shown))}")
    return PromptTemplate(
        name=raw["name"],
        system=raw["system"].strip(),
        shots=tuple(Shot(**{key: str(value).strip() for key, value in shot.items()}) for shot in shots),
        shows=shows,
    )


def token_counter(tokenizer_file: Path) -> Callable[[str], int]:
    """A function that counts tokens as the model does, from its `tokenizer.json`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def pack(
    candidates: Sequence[Passage],
    question: str,
    *,
    budget_tokens: int,
    count_tokens: Callable[[str], int],
    window_words: Sequence[int] | None = None,
    shows: Shown = "passages",
) -> tuple[Passage, ...]:
    """Choose passages, best candidate first, and trim each to its best window, until the budget or the most
    that are shown are used.

    A window is contiguous, so it stays a verbatim span of its document: `start` and `end` move with it, `n`
    stays. A candidate that fits in no window is skipped, a shorter one after it may still fit.
    """
    show, most, sizes = _FORMS[shows]
    packed: list[Passage] = []
    left = budget_tokens
    for candidate in candidates:
        if len(packed) == most:
            break
        for words in window_words or sizes:
            start, end = best_window(candidate.text, question, max_words=words)
            if start == end:
                break
            passage = replace(
                candidate,
                text=candidate.text[start:end],
                start=candidate.start + start,
                end=candidate.start + end,
            )
            cost = count_tokens(show(passage, packed[-1] if packed else None)) + 1
            if cost <= left:
                packed.append(passage)
                left -= cost
                break
    return tuple(packed)


def fit(
    template: PromptTemplate,
    candidates: Sequence[Passage],
    question: str,
    *,
    prompt_budget_tokens: int,
    count_tokens: Callable[[str], int],
    history: Sequence[Message] = (),
    window_words: Sequence[int] | None = None,
) -> tuple[Passage, ...]:
    """`pack` into what the rest of the prompt leaves of the whole prompt's budget.

    A long question does not push the passages out: they may exceed the budget then, up to the ceiling.
    Earlier messages may not; the caller leaves some of them out.
    """
    bare = render(template, (), question, history)
    used = sum(count_tokens(message.content) + MESSAGE_OVERHEAD_TOKENS for message in bare)
    room = prompt_budget_tokens - used
    if not history:
        least = int(prompt_budget_tokens * LEAST_PASSAGE_SHARE)
        room = max(room, min(least, PROMPT_CEILING_TOKENS - used))
    if room < 0:
        limit = prompt_budget_tokens if history else PROMPT_CEILING_TOKENS
        raise PromptBudgetError(
            f"question: the prompt takes {used} of {limit} tokens before any passage; shorten the question"
        )
    return pack(
        candidates,
        question,
        budget_tokens=room,
        count_tokens=count_tokens,
        window_words=window_words,
        shows=template.shows,
    )


def render(
    template: PromptTemplate, passages: Sequence[Passage], question: str, history: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The messages of one turn: system (fixed per version), earlier messages if any, then passages and
    question."""
    system = template.system
    if template.shots:
        system += "".join(
            f"\n\nExample {n}\n{_fence(shot.context)}\nQuestion: {shot.question}\nAnswer: {shot.answer}"
            for n, shot in enumerate(template.shots, 1)
        )
    show, _, _ = _FORMS[template.shows]
    before = (None, *passages)
    shown = _fence("".join(map(show, passages, before)).strip())
    return (
        Message("system", system),
        *(Message(message.role, neutralise(message.content)) for message in history),
        Message("user", f"{shown}\nQuestion: {_one_line(question)}"),
    )


def neutralise(text: str) -> str:
    """Take the power from marks that a chat template or our fence would obey; a person reads the same
    text."""
    return _MARKS.sub(lambda mark: mark.group().translate(_SOFTENED), text)


def _fence(text: str) -> str:
    return f"{_OPEN}\n{text or 'none'}\n{_CLOSE}"


def _passage(passage: Passage, _before: Passage | None) -> str:
    body = _FORGED_HEADER.sub(r"\1(\2)", neutralise(passage.text))
    body = _FORGED_QUESTION.sub(r"\1\2 \3:", body)
    return f"\n\n[{passage.n}] {_title(passage)}\n{body}"


def _sentence(passage: Passage, before: Passage | None) -> str:
    """A line of its own, and the title above it unless the sentence before stands under the same."""
    line = f"\n[{passage.n}] {_one_line(passage.text)}"
    # It begins a line, as a number or the question does.
    title = _FORGED_QUESTION.sub(r"\1\2 \3:", _FORGED_HEADER.sub(r"\1(\2)", _title(passage)))
    same = before is not None and _title(passage) == _title(before)
    return line if same else f"\n\n{title}{line}"


def _title(passage: Passage) -> str:
    valid = f" (valid from {passage.effective_from})" if passage.effective_from else ""
    weak = " (weak match)" if passage.weak else ""
    heading = f": {passage.heading}" if passage.heading else ""
    return f"{_one_line(f'{passage.title}{heading}')}{weak}{valid}"


#: How each form is written, how many are shown at most, and the sizes of window that are tried.
_FORMS: Final[Mapping[Shown, tuple[Callable[[Passage, Passage | None], str], int, Sequence[int]]]] = {
    "passages": (_passage, MAX_PASSAGES, WINDOW_WORDS),
    "sentences": (_sentence, MAX_SENTENCES, (LONGEST_SENTENCE_WORDS,)),
}


def _one_line(text: str) -> str:
    return " ".join(neutralise(text).split())
