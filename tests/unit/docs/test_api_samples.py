"""The replies on docs/api.md have the form that the OpenAPI document promises; sentences may differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from tests.unit.docs.api_document import openapi
from tests.unit.docs.pages import Block, page

PAGE = page("docs/api.md")
#: Where something was left out by hand.
CUT = "..."
#: How a hit shows the score that it was ordered by: x / (1 + x).
HIT_SCORE = r'"score": ([0-9.]+),\s+"dense_score"'
#: The schema of the replies under each heading; a problem shows itself by its type.
REPLIES = {
    "Ask a question": "AnswerBody",
    "Other task schemas": "AnswerBody",
    "Search": "SearchResponse",
    "Turns": "TurnView",
    "Documents and jobs": "JobView",
    "Rails": "RailList",
    "Errors": "Problem",
}
EVENTS = {"answer.citation": "Citation", "answer.completed": "AnswerBody"}

Schemas = dict[str, dict[str, Any]]


def heading_of(block: Block) -> str:
    return [line.lstrip("# ") for number, line in PAGE.prose if line.startswith("#") and number < block.line][
        -1
    ]


SAMPLES = [(heading_of(block), block) for block in PAGE.blocks if block.language == "json"]


async def schemas() -> Schemas:
    found: Schemas = (await openapi())["components"]["schemas"]
    return found


@pytest.mark.parametrize(
    ("heading", "block"), [each for each in SAMPLES if each[0] in REPLIES], ids=lambda each: str(each)
)
async def test_a_reply(heading: str, block: Block) -> None:
    assert not list(_faults(read(block.text), REPLIES[heading], await schemas())), block


async def test_every_kind_of_reply_is_shown() -> None:
    assert {heading for heading, _ in SAMPLES} >= set(REPLIES)


def test_scores_of_hits_are_below_1() -> None:
    scores = [float(score) for _, block in SAMPLES for score in re.findall(HIT_SCORE, block.text)]
    assert len(scores) >= 2
    assert all(0 < score < 1 for score in scores)


async def test_the_events_of_a_stream() -> None:
    (block,) = (each for each in PAGE.blocks if each.text.startswith("event: "))
    there = await schemas()
    texts = []
    for event in block.text.split("event: ")[1:]:
        name, _, data = event.partition("\ndata: ")
        value = read(data)
        if name == "answer.delta":
            texts.append(value["text"])
        else:
            assert not list(_faults(value, EVENTS[name], there)), f"{block}: {name}"
    assert texts


async def test_a_chat_completion() -> None:
    ((_, block),) = (each for each in SAMPLES if each[0] == "OpenAI clients")
    shown = read(block.text)
    extension = shown.pop("twinrail")
    official = ChatCompletion.model_json_schema()
    found = _faults(shown | {CUT: CUT}, "", {**official["$defs"], "": official}, optional=True)
    assert not list(found), block
    body = await schemas()
    assert set(extension) <= {*body["AnswerBody"]["properties"]}, block


def read(text: str) -> Any:
    """JSON with what was cut out as a member, an item or a value of its own."""
    text = re.sub(r"\{\.\.\.\}", '{"...": 0}', text)
    text = re.sub(r"\[\.\.\.\]", '["..."]', text)
    text = re.sub(r",\s*\.\.\.\]", ', "..."]', text)
    text = re.sub(r",\s*\.\.\.\}", ', "...": 0}', text)
    return json.loads(text)


def _faults(
    value: Any, name: str, there: Schemas, *, schema: dict[str, Any] | None = None, optional: bool = False
) -> Iterator[str]:
    """Members that the schema does not have, and, of what was not cut, those that the sample lacks."""
    schema = there[name] if schema is None else schema
    for option in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        if "$ref" in option and isinstance(value, dict):
            schema = option
    if "$ref" in schema:
        schema = there[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for item in value:
            if item != CUT:
                yield from _faults(item, name, there, schema=schema.get("items", {}), optional=optional)
    if not isinstance(value, dict) or "properties" not in schema:
        return
    members = schema["properties"]
    yield from (f"{schema.get('title')} has no {each}" for each in value if each not in (*members, CUT))
    if CUT not in value and not optional:
        needed = schema.get("required", ())
        yield from (f"{schema.get('title')} needs {each}" for each in needed if each not in value)
    for each in value:
        if each in members:
            yield from _faults(value[each], name, there, schema=members[each], optional=optional)
