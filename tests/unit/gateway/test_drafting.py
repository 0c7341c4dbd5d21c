"""Nothing of a draft is shown before its check: neither its sentences nor its question back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from gateway.drafting import Drafter, DraftOrder, DraftResult, Released
from gateway.outcome import text_field, validator_of
from serving.client import ChatRequest
from serving.grounding import check_sentence
from serving.prompting import Passage
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.chat import ScriptedChat

SUPPORT = load_task_schema(SCHEMAS / "support_answer.json")
TEXT = "A full refund is possible within 30 days of a yearly renewal."
PASSAGES = (Passage(n=1, title="Refunds", text=TEXT, start=0, end=len(TEXT)),)


async def draft(
    *,
    enforce: bool = True,
    finish: bool = False,
    field: str | None = text_field(SUPPORT),
    schema: Mapping[str, Any] = SUPPORT,
    **changes: Any,
) -> tuple[list[str], DraftResult]:
    """What is released of a draft, and its result."""
    value = {
        "answer": TEXT,
        "citations": [1],
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    } | changes
    drafter = Drafter(
        chat=ScriptedChat(json.dumps(value)),
        check_sentence=partial(check_sentence, fixed=load_wording().all()),
        check_tone=lambda _text: (),
    )
    order = DraftOrder(
        request=ChatRequest(served_name="m", messages=()),
        question="Can I have my money back?",
        passages=PASSAGES,
        validator=validator_of(schema),
        field=field,
        enforce=enforce,
        finish=finish,
    )
    pieces = [piece async for piece in drafter.write(order)]
    result = pieces.pop()
    assert isinstance(result, DraftResult)
    return [piece.text for piece in pieces if isinstance(piece, Released)], result


@pytest.mark.parametrize(
    "follow_up",
    [
        "Your refund of $500 was approved today.",
        "Did you know that refunds take 90 days?",
        "Tell me which plan you have.",
    ],
)
async def test_a_question_back_that_does_not_pass_is_no_answer(follow_up: str) -> None:
    released, result = await draft(answer="", citations=[], follow_up=follow_up)
    assert released == []
    assert (result.parsed, result.failure) == (None, "unsupported")
    assert result.detail in follow_up


async def test_a_question_back_in_place_of_an_answer() -> None:
    released, result = await draft(answer="", citations=[], follow_up=" Is it the yearly plan?")
    assert released == []
    assert result.parsed is not None
    assert [sentence.text for sentence in result.sentences] == ["Is it the yearly plan?"]


async def test_a_question_back_beside_an_answer_is_left_out_when_it_does_not_pass() -> None:
    released, result = await draft(follow_up="Your refund of $500 was approved today.")
    assert released == [TEXT]
    assert result.parsed is not None
    assert result.parsed.fields["follow_up"] == ""
    assert result.flags == ("follow_up: unsupported",)
    assert [sentence.text for sentence in result.sentences] == [TEXT]


async def test_a_question_back_beside_an_answer_stays_when_it_passes() -> None:
    _, result = await draft(follow_up="Is it the yearly plan?")
    assert result.parsed is not None
    assert result.parsed.fields["follow_up"] == "Is it the yearly plan?"


async def test_where_nothing_can_be_grounded_the_question_back_is_measured_only() -> None:
    _, result = await draft(enforce=False, answer="", citations=[], follow_up="Refunds take 90 days.")
    assert result.parsed is not None
    assert not result.sentences[0].support.supported


async def test_blanks_are_never_released() -> None:
    released, result = await draft(answer="  ", citations=[], follow_up="Is it the yearly plan?")
    assert released == []
    assert result.parsed is not None


async def test_what_claims_nothing_waits_for_a_claim_that_holds() -> None:
    released, _ = await draft(answer=f"Yes, you can. {TEXT}")
    assert released == [f"Yes, you can. {TEXT}"]
    released, _ = await draft(answer="Yes, you can.")
    assert released == []
    released, _ = await draft(answer="Yes, you can. It costs $5.")
    assert released == []


async def test_fixed_wording_does_not_wait() -> None:
    released, _ = await draft(answer=load_wording().passing_on, citations=[])
    assert released == [load_wording().passing_on]


LOOP = "A full refund is possible within 30 days, " + "and it is a full refund, and a refund it is, " * 30


async def test_a_model_that_repeats_itself_is_stopped() -> None:
    released, result = await draft(answer=LOOP)
    assert released == []
    assert (result.parsed, result.failure) == (None, "repetitive")
    assert len(result.text) < 600


async def test_evaluation_reads_a_loop_to_its_end() -> None:
    _, result = await draft(finish=True, enforce=False, answer=LOOP)
    assert (result.parsed, result.failure) == (None, "repetitive")
    assert json.loads(result.text)["answer"] == LOOP


async def test_evaluation_and_customers_get_the_same_reason_for_a_loop() -> None:
    _, result = await draft(finish=True, answer=LOOP + ". It costs $500.")
    assert result.failure == "repetitive"


async def test_rows_that_are_alike_are_no_loop() -> None:
    rows = {"lines": [{"sku": "A-100", "qty": 1, "note": "in stock"}] * 24}
    _, result = await draft(field=None, schema={"type": "object"}, **rows)
    assert result.failure is None
    table = "| Plan | Price |\n|-------------------------|-------------------------|\n"
    _, result = await draft(answer=table + TEXT, enforce=False)
    assert result.failure is None
