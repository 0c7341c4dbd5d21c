"""What is left out of a dataset and why, and what is masked."""

from __future__ import annotations

from typing import Any

import pytest

from serving.checker import GroundingChecker
from serving.examples import Row, parse_row
from serving.prompting import PROMPTS, load_prompt
from serving.redaction import Redactor
from serving.tuning import cleaning
from serving.tuning.cleaning import Cleaned, Encoding, Rules
from serving.tuning.likeness import Task
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.support_rows import row

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
WORDING = load_wording()
TASK = Task(schema=SCHEMA, wordings=WORDING.all())
RULES = Rules(task=TASK, redactor=Redactor())


def rows(*raw: dict[str, Any]) -> list[Row]:
    return [parse_row(each, "test", SCHEMA) for each in raw]


def wanting(number: int, **fields: Any) -> dict[str, Any]:
    return row(number, wanted=row(number)["wanted"] | fields)


def checked(*raw: dict[str, Any], rules: Rules = RULES) -> Cleaned:
    cleaned = Cleaned(rows=rows(*raw))
    cleaning.check(cleaned, rules)
    return cleaned


def deduplicated(*raw: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    cleaned = Cleaned(rows=rows(*raw))
    cleaning.drop_duplicates(cleaned, RULES)
    return [each.id for each in cleaned.rows], {each.row["id"]: each.reason for each in cleaned.rejected}


@pytest.mark.parametrize(
    "answer",
    [
        "You may borrow your kettle within 99 days.",
        "You may borrow your kettle within 3 days, says Grandpa Morwen.",
        "I have cancelled your booking. You may borrow your kettle within 3 days.",
        "You may not borrow your kettle within 3 days.",
    ],
)
def test_a_fact_that_no_passage_holds_is_rejected(answer: str) -> None:
    (rejected,) = checked(wanting(0, answer=answer)).rejected
    assert rejected.reason == cleaning.UNGROUNDED
    assert rejected.detail.startswith("wanted.answer: ")


@pytest.mark.parametrize(
    "answer", [WORDING.not_in_help_centre, f"You may borrow your kettle within 3 days. {WORDING.passing_on}"]
)
def test_fixed_wordings_claim_no_facts(answer: str) -> None:
    assert len(checked(wanting(0, answer=answer)).rows) == 1


def test_other_words_are_rejected_only_where_the_gateway_decides() -> None:
    said = wanting(0, answer="Purple elephants juggle seventeen happy oranges nightly in distant valleys.")
    said["question"] += " seventeen"
    assert len(checked(said).rows) == 1
    strict = Rules(task=TASK, redactor=None, checker=GroundingChecker(fixed=WORDING.all()))
    assert checked(said, rules=strict).rejected[0].reason == cleaning.UNGROUNDED


def test_a_row_that_does_not_fit_is_rejected_with_its_length() -> None:
    encoding = Encoding(
        template=load_prompt(PROMPTS / "support_short.yaml"), tokenizer=Letters(), max_tokens=700
    )
    rules = Rules(task=TASK, redactor=None, encoding=encoding)
    long = row(1, question="why " * 400)
    cleaned = checked(row(0), long, rules=rules)
    assert [each.id for each in cleaned.rows] == ["row-0000"]
    assert cleaned.rejected[0].reason == cleaning.TOO_LONG
    assert "at most 700" in cleaned.rejected[0].detail
    assert len(cleaned.prompt_tokens) == 1


class Letters:
    eos_token_id = 0

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        return "".join(message["content"] for message in conversation)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text]


def test_personal_data_is_masked_but_not_what_a_passage_publishes() -> None:
    raw = row(0, question="I am ann@mail.example, may I borrow the kettle", history=[])
    raw["history"] = [{"role": "user", "text": "call me on +44 20 7946 0018"}]
    raw["passages"][0]["text"] += "\nWrite to desk@hall.example."
    raw["wanted"] |= {"answer": "Write to desk@hall.example.", "follow_up": "Is it still ann@mail.example?"}
    cleaned = Cleaned(rows=rows(raw))
    cleaning.mask(cleaned, RULES)
    (done,) = cleaned.rows
    assert done.question == "I am [email], may I borrow the kettle"
    assert done.history[0].content == "call me on [phone]"
    assert done.wanted["answer"] == "Write to desk@hall.example."
    assert done.wanted["follow_up"] == "Is it still [email]?"
    assert dict(cleaned.masked) == {"email": 2, "phone": 1}
    assert dict(cleaned.in_passages) == {"email": 1}


def test_passages_are_masked_too_where_they_are_no_articles() -> None:
    raw = row(0)
    raw["passages"][0]["text"] += "\nWrite to desk@hall.example."
    cleaned = Cleaned(rows=rows(raw))
    cleaning.mask(cleaned, Rules(task=TASK, redactor=Redactor(), mask_passages=True))
    assert cleaned.rows[0].passages[0].text.endswith("Write to [email].")


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("how long may I borrow the old kettle", cleaning.EXACT),
        ("How long may I borrow the old kettle??", cleaning.NEAR),
        ("how long may I borow the old kettle", cleaning.NEAR),
        ("the old kettle, how long may I borrow it", cleaning.NEAR),
        ("can you tell me how long I may borrow the old kettle please", cleaning.NEAR),
    ],
)
def test_one_of_the_same_rows_stays(question: str, reason: str) -> None:
    first = row(0, question="how long may I borrow the old kettle")
    kept, rejected = deduplicated(first, first | {"id": "row-9", "question": question}, row(7))
    assert kept == ["row-0000", "row-0007"]
    assert rejected == {"row-9": reason}


def test_the_same_question_over_other_passages_stays() -> None:
    first = row(0)
    other = first | {"id": "row-9", "passages": [*first["passages"], row(5)["passages"][0]]}
    assert deduplicated(first, other) == (["row-0000", "row-9"], {})
    turned = first | {"id": "row-9", "passages": first["passages"][::-1]}
    turned["wanted"] = first["wanted"] | {"citations": [2]}
    assert deduplicated(first, turned)[1] == {}


def test_another_value_asks_something_else() -> None:
    first = row(0, question="may I borrow 3 kettles for the fair")
    other = wanting(0, answer="You may.") | {"id": "row-9", "question": "may I borrow 5 kettles for the fair"}
    assert deduplicated(first, other)[1] == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"intent": "billing"},
        {"escalate": True},
        {"citations": [2]},
        {"citations": []},
        {"answer": "You may borrow your kettle within 4 days."},
        {"answer": WORDING.not_in_help_centre},
    ],
)
@pytest.mark.parametrize("question", ["borrow kettle", "borow kettle!", "kettle, borrow"])
def test_rows_that_contradict_each_other_all_go(changes: dict[str, Any], question: str) -> None:
    other = wanting(0, **changes) | {"id": "row-9", "question": question}
    kept, rejected = deduplicated(row(0), other, row(7))
    assert kept == ["row-0007"]
    assert set(rejected.values()) == {cleaning.CONTRADICTORY}


def test_other_words_for_the_same_are_no_contradiction() -> None:
    other = wanting(0, answer="Within 3 days you may.", citations=[1, 2]) | {"id": "row-9"}
    assert deduplicated(row(0), other) == (["row-0000"], {"row-9": cleaning.NEAR})


@pytest.mark.parametrize("question", ["never borrow kettle", "when borrow kettle", "borrow kettle handle"])
def test_a_question_that_only_looks_alike_contradicts_nothing(question: str) -> None:
    other = wanting(0, intent="billing") | {"id": "row-9", "question": question}
    assert deduplicated(row(0), other)[1] == {}


def test_disagreement_is_counted_as_noise() -> None:
    cleaned = Cleaned(
        rows=rows(
            row(0),
            wanting(0, intent="billing") | {"id": "a"},
            row(1),
            row(1, id="b", question="repaint ladder"),
        )
    )
    cleaning.drop_duplicates(cleaned, RULES)
    assert (cleaned.compared, cleaned.disagreed) == (1, 1)
