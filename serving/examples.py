"""Training rows (question, passages, wanted JSON) as token sequences, and the checks that catch silent
failures.

A row teaches behaviour, never facts: each value in its answer must stand in its passages or its question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

import jsonschema

from serving.errors import ExampleError
from serving.prompting import Message, Passage, PromptTemplate, render
from serving.values import missing_values
from serving.versions import canonical_json

#: Label of a token that is not trained.
IGNORED = -100
#: Fields of a row that say where it comes from.
ABOUT = ("task", "kind", "group", "customer", "cluster", "at", "source", "label")
#: Fields of a row that an evaluation judges by.
JUDGED_BY = ("required", "stale_values")
_PASSAGE_FIELDS: Mapping[str, type] = {
    **dict.fromkeys(("n", "start", "end"), int),
    **dict.fromkeys(("title", "text", "effective_from", "heading"), str),
    "weak": bool,
}


class ChatTokenizer(Protocol):
    """What is needed of a transformers tokenizer."""

    eos_token_id: int

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training row."""

    id: str
    question: str
    passages: tuple[Passage, ...]
    #: The JSON that the model is to write, fields in the schema's order.
    wanted: Mapping[str, Any]
    #: What was said before in the conversation, oldest first.
    history: tuple[Message, ...] = ()
    # Where the row comes from, as far as known. A model never sees any of it.
    #: Title of the task schema; "" = the one that it is read with.
    task: str = ""
    #: What the row teaches besides its answer: `unanswerable`, `distractor`, ...; "" = as it was served.
    kind: str = ""
    #: Rows of one conversation, and of one customer, are never on two sides of a split.
    group: str = ""
    customer: str = ""
    cluster: str = ""
    #: ISO day or time of the question.
    at: str = ""
    source: str = ""
    #: The failure that it is meant to mend, `label` or `label.sub`.
    label: str = ""
    # What an evaluation holds an answer to, beside the wanted fields. Never trained.
    #: Sentences that must be there word for word.
    required: tuple[str, ...] = ()
    #: Values that were right once and must not come back.
    stale_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row as tokens. `labels[i]` is `IGNORED` for the prompt and `input_ids[i]` for the completion."""

    id: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    #: Places of `input_ids` that say which value of a list a field has.
    choices: frozenset[int] = frozenset()


def read_rows(path: Path, schema: Mapping[str, Any]) -> list[Row]:
    """Read JSONL rows of `question`, `passages`, `wanted`, an optional `id` and what else a `Row` has; other
    fields are kept out.

    The wanted fields are put into the schema's order, as the engine will write them.
    """
    rows: list[Row] = []
    seen: set[str] = set()
    for where, raw in read_objects(path):
        row = parse_row(raw, where, schema)
        if row.id in seen:
            raise ExampleError(f"{path}: id {row.id!r} stands twice")
        seen.add(row.id)
        rows.append(row)
    if not rows:
        raise ExampleError(f"{path}: holds no rows")
    return rows


def read_objects(path: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values of a JSONL file, one at a time, each with the place where it stands."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}")
    except FileNotFoundError as exc:
        raise ExampleError(f"{path}: no such file of training rows") from exc
    except UnicodeDecodeError as exc:
        raise ExampleError(f"{path}: not UTF-8 (byte {exc.start}); save it as UTF-8") from exc


def _parse(line: str, where: str) -> Any:
    try:
        parsed = json.loads(line, parse_constant=_no_number)
        if "\\u" in line:
            json.dumps(parsed, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise ExampleError(f"{where}: not JSON ({exc.msg})") from exc
    except UnicodeEncodeError as exc:
        half = exc.object[exc.start].encode("unicode_escape").decode()
        raise ExampleError(f"{where}: {half} is half a character; write the whole of it") from exc
    except ValueError as exc:
        raise ExampleError(f"{where}: {exc}") from exc
    return parsed


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number; write null or leave the field out")


def check_row(row: Row, schema: Mapping[str, Any], *, fixed_wordings: Sequence[str] = ()) -> list[str]:
    """What is wrong with a row, in words; empty if it may be trained on."""
    return [*check_fields(row, schema), *check_values(row, schema, fixed_wordings=fixed_wordings)]


def check_fields(row: Row, schema: Mapping[str, Any]) -> list[str]:
    """What of the wanted JSON is none of the task's, or cites a passage that is not there."""
    problems = [
        f"wanted.{'.'.join(map(str, error.absolute_path)) or '(whole)'}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(dict(row.wanted))
    ]
    if problems:
        return problems
    shown = {passage.n for passage in row.passages}
    problems = [
        f"wanted.citations: there is no passage {n}"
        for n in row.wanted.get("citations") or ()
        if n not in shown
    ]
    written = " ".join(free_texts(row.wanted, schema).values())
    problems += [
        f"required: {text!r} is not in the wanted answer" for text in row.required if text not in written
    ]
    return problems


def check_values(row: Row, schema: Mapping[str, Any], *, fixed_wordings: Sequence[str] = ()) -> list[str]:
    """Values of the wanted texts that the model could only make up."""
    sources = [f"{p.title}\n{p.text}\n{p.effective_from}" for p in row.passages]
    return [
        f"wanted.{name}: {value!r} stands in no passage"
        for name, text in free_texts(row.wanted, schema).items()
        for value in missing_values(without_wordings(text, fixed_wordings), [*sources, row.question])
    ]


def without_wordings(text: str, fixed_wordings: Sequence[str]) -> str:
    """A text without fixed wordings, which claim no facts."""
    for wording in fixed_wordings:
        text = text.replace(wording, "")
    return text


def free_texts(wanted: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, str]:
    """The fields in which the model writes words of its own: texts that are no choice from a list."""
    chosen = chosen_fields(schema)
    return {name: value for name, value in wanted.items() if isinstance(value, str) and name not in chosen}


def chosen_fields(schema: Mapping[str, Any]) -> frozenset[str]:
    """The fields whose value is one of a list."""
    return frozenset(
        name
        for name, field in schema.get("properties", {}).items()
        if isinstance(field, dict) and {"enum", "const"} & field.keys()
    )


def encode(
    row: Row, template: PromptTemplate, tokenizer: ChatTokenizer, *, chosen: Iterable[str] = ()
) -> Example:
    """Tokens of a row, exactly as the engine will see the prompt and is to write the completion.

    The places of the values of the `chosen` fields are noted.
    """
    messages = [_as_dict(message) for message in render(template, row.passages, row.question, row.history)]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    completion = canonical_json(dict(row.wanted))
    completion_ids = tokenizer.encode(completion, add_special_tokens=False)
    places = {
        len(prompt_ids) + place
        for name in chosen
        for place in _value_places(completion, completion_ids, name, row.wanted, tokenizer)
    }
    completion_ids = [*completion_ids, tokenizer.eos_token_id]
    return Example(
        id=row.id,
        input_ids=(*prompt_ids, *completion_ids),
        labels=(*([IGNORED] * len(prompt_ids)), *completion_ids),
        choices=frozenset(places),
    )


def _value_places(
    text: str, ids: Sequence[int], name: str, wanted: Mapping[str, Any], tokenizer: ChatTokenizer
) -> range:
    """Where the tokens of a field's value stand."""
    if not isinstance(wanted.get(name), str):
        return range(0)
    before = dict(takewhile(lambda field: field[0] != name, wanted.items()))
    start = len(canonical_json({**before, name: ""})) - len('"}')
    end = start + len(canonical_json(wanted[name])) - len('""')
    first = _common(tokenizer.encode(text[:start], add_special_tokens=False), ids)
    last = _common(tokenizer.encode(text[:end], add_special_tokens=False), ids)
    return range(first, max(first + 1, last))


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(some, others, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(some), len(others)))


def check_example(example: Example, tokenizer: ChatTokenizer, *, max_tokens: int) -> list[str]:
    """The failures that a training run would not show: nothing trained, no end, a label that is not its
    token."""
    problems: list[str] = []
    trained = [
        (token, label)
        for token, label in zip(example.input_ids, example.labels, strict=True)
        if label != IGNORED
    ]
    if len(trained) < 2:
        problems.append("no token of the completion is trained")
    if len(trained) == len(example.labels):
        problems.append("the prompt is trained, not only the completion")
    if example.labels[-1] != tokenizer.eos_token_id:
        problems.append("the end-of-turn token is not trained, so the model would not stop")
    if any(token != label for token, label in trained):
        problems.append("a label is not the token at its place")
    if len(example.input_ids) > max_tokens:
        problems.append(f"{len(example.input_ids)} tokens, at most {max_tokens} are allowed")
    return problems


def dataset_digest(rows: Sequence[Row]) -> str:
    """sha256 over what is trained of the rows, in any order of rows."""
    lines = sorted(
        canonical_json(
            {
                "id": row.id,
                "question": row.question,
                **({"history": [[said.role, said.content] for said in row.history]} if row.history else {}),
                "passages": [[p.n, p.title, p.text, p.effective_from] for p in row.passages],
                "wanted": dict(row.wanted),
            }
        )
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def row_json(row: Row) -> dict[str, Any]:
    """The row as `read_rows` reads it, without what is empty."""
    about = {name: getattr(row, name) for name in ABOUT if getattr(row, name)}
    history = [{"role": said.role, "text": said.content} for said in row.history]
    return {
        "id": row.id,
        "question": row.question,
        **({"history": history} if history else {}),
        "passages": [
            {key: value for key, value in asdict(passage).items() if value != ""} for passage in row.passages
        ],
        "wanted": dict(row.wanted),
        **about,
        **{name: list(getattr(row, name)) for name in JUDGED_BY if getattr(row, name)},
    }


def parse_row(raw: Any, where: str, schema: Mapping[str, Any]) -> Row:
    """One row of plain data; `where` is what an error begins with."""
    if not isinstance(raw, dict):
        raise ExampleError(f"{where}: must be an object with question, passages and wanted")
    if not isinstance(raw.get("question"), str) or not raw["question"].strip():
        raise ExampleError(f"{where}: question: must be a text")
    if not isinstance(raw.get("wanted"), dict):
        raise ExampleError(f"{where}: wanted: must be an object")
    if not isinstance(raw.get("passages"), list):
        raise ExampleError(f"{where}: passages: must be a list, empty if there are none")
    for name in ABOUT:
        if not isinstance(raw.get(name) or "", str):
            raise ExampleError(f"{where}: {name}: must be a text")
    for name in JUDGED_BY:
        given = raw.get(name) or []
        if not isinstance(given, list) or not all(isinstance(text, str) and text.strip() for text in given):
            raise ExampleError(f"{where}: {name}: must be a list of texts, or left out")
    wanted = raw["wanted"]
    rank = {name: n for n, name in enumerate(schema.get("properties", {}))}
    row = Row(
        id="",
        question=raw["question"],
        passages=_passages(raw["passages"], where),
        wanted=dict(sorted(wanted.items(), key=lambda item: rank.get(item[0], len(rank)))),
        history=parse_history(raw.get("history") or [], where),
        **{name: raw.get(name) or "" for name in ABOUT},
        required=tuple(raw.get("required") or ()),
        stale_values=tuple(raw.get("stale_values") or ()),
    )
    # Without a name a row is called by what it holds, so that it is the same in every file.
    return replace(row, id=str(raw.get("id") or f"row-{dataset_digest([row])[:12]}"))


def parse_history(raw: Any, where: str) -> tuple[Message, ...]:
    """What was said before, oldest first; `where` is what an error begins with."""
    if not isinstance(raw, list):
        raise ExampleError(f"{where}: history: must be a list, or left out")
    said = []
    for n, item in enumerate(raw):
        if (
            not isinstance(item, dict)
            or item.get("role") not in ("user", "assistant")
            or not isinstance(item.get("text"), str)
        ):
            raise ExampleError(f"{where}: history[{n}]: must have role (user or assistant) and text")
        said.append(Message(item["role"], item["text"]))
    return tuple(said)


def _passages(raw: Sequence[Any], where: str) -> tuple[Passage, ...]:
    passages = tuple(_passage(item, n, where) for n, item in enumerate(raw, 1))
    if len({passage.n for passage in passages}) < len(passages):
        raise ExampleError(
            f"{where}: passages: two have the same n, so a citation of it names neither; number them apart, "
            "or leave n out of all"
        )
    return passages


def _passage(raw: Any, n: int, where: str) -> Passage:
    if (
        not isinstance(raw, dict)
        or not isinstance(raw.get("text"), str)
        or not isinstance(raw.get("title"), str)
    ):
        raise ExampleError(f"{where}: passages[{n - 1}]: must have title and text")
    known = {key: value for key, value in raw.items() if key in _PASSAGE_FIELDS and value is not None}
    for name, value in known.items():
        if type(value) is not _PASSAGE_FIELDS[name]:
            wanted = {int: "a whole number", bool: "true or false"}.get(_PASSAGE_FIELDS[name], "a text")
            raise ExampleError(f"{where}: passages[{n - 1}].{name}: is {value!r}; must be {wanted}")
    return Passage(**{"n": n, "start": 0, "end": len(raw["text"]), **known})


def _as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
