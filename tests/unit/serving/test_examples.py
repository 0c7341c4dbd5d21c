"""Training rows: what may be trained on, and what exactly is trained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ExampleError
from serving.examples import (
    IGNORED,
    check_example,
    check_row,
    chosen_fields,
    dataset_digest,
    encode,
    free_texts,
    read_rows,
    row_json,
)
from serving.prompting import PROMPTS, load_prompt
from serving.versions import SCHEMAS, canonical_json, load_task_schema

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
TEMPLATE = load_prompt(PROMPTS / "support_short.yaml")
WANTED = {
    "citations": [1],
    "answer": "Plus costs $9 a month.",
    "intent": "billing",
    "escalate": False,
    "escalation_reason": "none",
    "follow_up": "",
}
ROW = {
    "id": "plans-01",
    "question": "how much is plus",
    "passages": [{"n": 1, "title": "Plans", "text": "Plus | $9 a month", "effective_from": "2026-03-01"}],
    "wanted": WANTED,
}


class Letters:
    """A tokenizer in which each character is a token."""

    eos_token_id = 0

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        text = "".join(f"<{m['role']}>{m['content']}</{m['role']}>" for m in conversation)
        return text + ("<assistant>" if add_generation_prompt else "")

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_the_wanted_json_is_put_into_the_schemas_order(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "rows.jsonl", ROW, ""), SCHEMA)
    assert list(row.wanted) == list(SCHEMA["properties"])
    assert row.passages[0].end == len("Plus | $9 a month")
    assert check_row(row, SCHEMA) == []


def test_only_the_completion_and_its_end_are_trained(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "rows.jsonl", ROW), SCHEMA)
    example = encode(row, TEMPLATE, Letters())
    trained = [token for token in example.labels if token != IGNORED]
    assert "".join(map(chr, trained[:-1])) == canonical_json(dict(row.wanted))
    assert trained[-1] == Letters.eos_token_id
    prompt = "".join(map(chr, example.input_ids[: len(example.labels) - len(trained)]))
    assert prompt.endswith("<assistant>")
    assert TEMPLATE.system in prompt
    assert check_example(example, Letters(), max_tokens=5000) == []


def test_the_places_of_a_choice_are_those_of_its_value(tmp_path: Path) -> None:
    wanted = WANTED | {"answer": 'Say "billing" or none: $9.', "escalation_reason": "legal"}
    (row,) = read_rows(write(tmp_path / "rows.jsonl", ROW | {"wanted": wanted}), SCHEMA)
    chosen = chosen_fields(SCHEMA)
    assert chosen == {"intent", "escalation_reason"}
    example = encode(row, TEMPLATE, Letters(), chosen=chosen)
    said = "".join(chr(example.input_ids[place]) for place in sorted(example.choices))
    assert said == "billinglegal"
    before = "".join(map(chr, example.input_ids[: min(example.choices)]))
    assert before.endswith('"intent":"')
    assert encode(row, TEMPLATE, Letters()).choices == frozenset()


def test_what_a_run_would_not_show_is_found(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "rows.jsonl", ROW), SCHEMA)
    example = encode(row, TEMPLATE, Letters())
    length = len(example.labels)

    def problems(labels: tuple[int, ...]) -> str:
        return "; ".join(check_example(replace(example, labels=labels), Letters(), max_tokens=5000))

    assert "no token of the completion" in problems((IGNORED,) * length)
    assert "the prompt is trained" in problems(example.input_ids)
    assert "end-of-turn" in problems((*example.labels[:-1], IGNORED))
    assert "not the token at its place" in problems((*example.labels[:-2], 7, 0))
    assert "at most 10" in check_example(example, Letters(), max_tokens=10)[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answer": "Plus costs $8 a month."}, r"'\$8' stands in no passage"),
        ({"citations": [3]}, "there is no passage 3"),
        ({"intent": "weather"}, "wanted.intent"),
        ({"extra": 1}, r"wanted.\(whole\)"),
    ],
)
def test_a_row_that_would_teach_something_wrong_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    row = ROW | {"wanted": WANTED | changes}
    (read,) = read_rows(write(tmp_path / "rows.jsonl", row), SCHEMA)
    assert any(re.search(problem, one) for one in check_row(read, SCHEMA))


def test_values_of_the_question_and_of_fixed_wordings_may_stand_in_the_answer(tmp_path: Path) -> None:
    row = ROW | {"question": "is 3 TB ok", "wanted": WANTED | {"answer": "Yes, 3 TB is. Call 112 now."}}
    (read,) = read_rows(write(tmp_path / "rows.jsonl", row), SCHEMA)
    assert check_row(read, SCHEMA, fixed_wordings=("Call 112 now.",)) == []
    assert len(check_row(read, SCHEMA)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", ":1: not JSON"),
        ('{"question": NaN}', ":1: NaN is no JSON number"),
        ([1], "must be an object"),
        ({"question": "", "passages": [], "wanted": {}}, "question: must be a text"),
        ({"question": "q", "passages": [], "wanted": 1}, "wanted: must be an object"),
        ({"question": "q", "passages": 1, "wanted": {}}, "passages: must be a list"),
        ({"question": "q", "passages": [{"title": "t"}], "wanted": {}}, r"passages\[0\]"),
        ({"question": "q", "passages": [], "wanted": {}, "group": 7}, "group: must be a text"),
        (
            {"question": "q", "passages": [], "wanted": {}, "history": [{"role": "system", "text": "x"}]},
            r"history\[0\]: must have role",
        ),
        ('{"question": "what \\ud83d", "passages": [], "wanted": {}}', r":1: \\ud83d is half a character"),
        (
            {
                "question": "q",
                "passages": [{"title": "t", "text": "", "effective_from": 1}],
                "wanted": {},
            },
            r"passages\[0\].effective_from: is 1; must be a text",
        ),
        (
            {"question": "q", "passages": [{"title": "t", "text": "x", "n": "1"}], "wanted": {}},
            r"passages\[0\].n: is '1'; must be a whole number",
        ),
        (
            {"question": "q", "passages": [{"title": t, "text": t, "n": 1} for t in "ab"], "wanted": {}},
            "passages: two have the same n",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_field(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(ExampleError, match=message):
        read_rows(write(tmp_path / "rows.jsonl", row), SCHEMA)


def test_a_file_without_rows_or_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="holds no rows"):
        read_rows(write(tmp_path / "rows.jsonl", ""), SCHEMA)
    with pytest.raises(ExampleError, match="'plans-01' stands twice"):
        read_rows(write(tmp_path / "rows.jsonl", ROW, ROW), SCHEMA)
    with pytest.raises(ExampleError, match="no such file"):
        read_rows(tmp_path / "none.jsonl", SCHEMA)


def test_the_datasets_digest_does_not_hang_on_the_order_of_rows(tmp_path: Path) -> None:
    other = ROW | {"id": "plans-02"}
    one = read_rows(write(tmp_path / "a.jsonl", ROW, other), SCHEMA)
    two = read_rows(write(tmp_path / "b.jsonl", other, ROW), SCHEMA)
    assert dataset_digest(one) == dataset_digest(two)
    assert dataset_digest(one) != dataset_digest(one[:1])


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    about = {"task": "support_answer", "kind": "distractor", "group": "c-1", "at": "2026-03-01", "label": "x"}
    said = [{"role": "user", "text": "hello"}, {"role": "assistant", "text": "Hi."}]
    (row,) = read_rows(write(tmp_path / "a.jsonl", ROW | about | {"history": said}), SCHEMA)
    assert (row.kind, row.group, row.customer) == ("distractor", "c-1", "")
    assert read_rows(write(tmp_path / "b.jsonl", row_json(row)), SCHEMA) == [row]
    prompt = "".join(map(chr, encode(row, TEMPLATE, Letters()).input_ids))
    assert "<user>hello</user><assistant>Hi.</assistant>" in prompt


def test_a_row_without_an_id_is_called_by_what_it_holds(tmp_path: Path) -> None:
    nameless = {key: value for key, value in ROW.items() if key != "id"}
    other = nameless | {"question": "what does plus cost"}
    one, two = read_rows(write(tmp_path / "a.jsonl", nameless, other), SCHEMA)
    assert one.id != two.id
    assert [row.id for row in read_rows(write(tmp_path / "b.jsonl", "", other, nameless), SCHEMA)] == [
        two.id,
        one.id,
    ]


def test_values_are_looked_for_in_every_text_that_the_model_writes(tmp_path: Path) -> None:
    row = ROW | {"wanted": WANTED | {"follow_up": "Or do you mean the $7 plan?"}}
    (read,) = read_rows(write(tmp_path / "rows.jsonl", row), SCHEMA)
    assert check_row(read, SCHEMA) == ["wanted.follow_up: '$7' stands in no passage"]
    assert list(free_texts(read.wanted, SCHEMA)) == ["answer", "follow_up"]
