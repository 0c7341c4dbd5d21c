"""docs/api.md says everything that the API does, and nothing else."""

from __future__ import annotations

import re

import pytest

from gateway import assembling
from gateway.access import Scope
from gateway.errors import UnsupportedParameterError
from gateway.openai_api import IGNORED, MODEL, parse_chat
from gateway.problems import INTERNAL, KINDS, METHOD_NOT_ALLOWED, NOT_FOUND
from gateway.schemas.answers import AnswerBody, AnswerRequest, Cause, Pin, Status, Step
from gateway.schemas.feedback import Label
from gateway.schemas.turns import DraftRow, TurnRow, TurnView
from retrieval import reordering, rewriting
from tests.unit.docs.api_document import openapi
from tests.unit.docs.pages import ROOT, page

PAGE = page("docs/api.md")
TABLES = PAGE.tables()
TEXT = "\n".join(PAGE.lines)


def codes(cell: str) -> list[str]:
    """Everything between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def first_cells(heading: str, column: str) -> list[str]:
    """The names in the column of all tables under a heading."""
    return [name for row in TABLES[heading] if column in row for name in codes(row[column])]


async def test_every_call_is_in_the_first_table() -> None:
    document = await openapi()
    there = {f"{method.upper()} {path}" for path, calls in document["paths"].items() for method in calls}
    assert set(first_cells("The HTTP API", "call")) == there


def test_scopes() -> None:
    assert first_cells("Keys and scopes", "scope") == [str(scope) for scope in Scope]


def test_fields_and_statuses_of_an_answer() -> None:
    assert first_cells("Ask a question", "field of the request") == list(AnswerRequest.model_fields)
    told = set(first_cells("Ask a question", "field of the reply"))
    assert told >= set(AnswerBody.model_fields) - {"conversation_id"}
    assert first_cells("Ask a question", "status") == [str(status) for status in Status]
    assert first_cells("Pinned questions", "field of `pin`") == list(Pin.model_fields)


def test_everything_that_can_be_degraded() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    own = set(re.findall(r'\.degrade\("(\w+)"\)', sources))
    there = own | {reordering.DEGRADED, rewriting.DEGRADED, assembling.DEGRADED}
    assert set(first_cells("Degraded answers", "in `degraded`")) == there
    for text in (
        page("docs/glossary.md").lines,
        page("docs/telemetry.md").lines,
        (AnswerBody.model_fields["degraded"].description or "",),
    ):
        (line,) = (line for line in text if {"citations", "rewrite"} <= set(re.findall(r"\w+", line)))
        assert there <= set(re.findall(r"\w+", line))


def test_steps_and_causes_of_a_fallback() -> None:
    assert first_cells("Fallbacks", "`step`") == [str(step) for step in Step if step is not Step.ASSIGNED]
    assert first_cells("Fallbacks", "`because`") == [str(cause) for cause in Cause]


def test_labels_and_parts_of_a_turn() -> None:
    assert not {str(label) for label in Label} - {code for _, code in PAGE.inline_code()}
    told = set(re.findall(r"\w+", TEXT))
    assert not (set(TurnView.model_fields) | set(TurnRow.model_fields) | set(DraftRow.model_fields)) - told


def test_every_problem_is_told_with_its_status() -> None:
    told = {
        (codes(row["type, after `urn:twinrail:problem:`"])[0], int(row["status"])) for row in TABLES["Errors"]
    }
    kinds = [*KINDS.values(), INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND]
    assert told == {(kind.slug, kind.status) for kind in kinds}


def parameters(outcome: str) -> list[str]:
    """Parameters of the OpenAI surface that the page gives this outcome."""
    return [
        name
        for row in TABLES["OpenAI clients"]
        if row["what happens"].startswith(outcome)
        for name in codes(row["parameter"])
    ]


def test_parameters_that_are_ignored() -> None:
    assert set(parameters("taken and ignored")) == IGNORED


@pytest.mark.parametrize("name", parameters("refused"))
def test_parameters_that_are_refused(name: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(UnsupportedParameterError) as refused:
        parse_chat({**body, name: ["something"]})
    assert refused.value.field == name


def test_parameters_that_are_used() -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    assert set(parameters("used")) == set(type(parse_chat(body)).model_fields)
