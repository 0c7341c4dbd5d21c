from __future__ import annotations

import pytest

from eval.documents import DocumentHistory, PastVersion, Release
from eval.errors import CaseFileError
from eval.sets.checking import check_documents
from eval.sets.questions import Question


class Shelf:
    """Documents by id, with all that each ever said."""

    def __init__(self, **texts: tuple[str, ...]) -> None:
        self.texts = texts
        self.read: list[str] = []

    async def document(self, document_id: str) -> DocumentHistory:
        self.read.append(document_id)
        versions = tuple(
            PastVersion(
                version=n,
                title="Plus",
                text=text,
                effective_from="",
                effective_to="",
                releases=(Release(born=n, died=None),),
            )
            for n, text in enumerate(self.texts.get(document_id, ()), start=1)
        )
        return DocumentHistory(id=document_id, head=1, versions=versions, readers=("customer",))


def question(*facts: dict[str, object], **fields: object) -> Question:
    row = {"id": "q1", "text": "?", "source": "a.csv:4", "status": "answerable", "facts": facts, **fields}
    return Question.model_validate(row, strict=False)


async def test_facts_that_a_document_says_now_or_said_once_are_no_doubt() -> None:
    shelf = Shelf(plus=("It was $8.", "It is $9.00 for two weeks."))
    known = question(
        {"values": ["$8"]},
        {"match": "number", "values": ["14 days"]},
        {"values": ["$7", "$9"]},
        gold=["plus"],
    )
    assert await check_documents(shelf, [known, known], concurrency=2) == ()
    assert shelf.read == ["plus"], "each document once"


async def test_a_fact_that_stands_nowhere_is_a_doubt_with_its_documents() -> None:
    shelf = Shelf(plus=("It is $9.",), team=("It is $14.",))
    doubtful = question({"values": ["$14", "14 dollars"], "document": "plus"}, gold=["plus", "team"])
    (doubt,) = await check_documents(shelf, [doubtful], concurrency=2)
    assert doubt.sentence() == "q1: '$14 / 14 dollars' does not stand in plus"
    assert (
        await check_documents(shelf, [question({"values": ["$14"]}, gold=["plus", "team"])], concurrency=1)
        == ()
    )
    assert await check_documents(shelf, [question({"values": ["$14"]})], concurrency=1) == ()


@pytest.mark.parametrize(
    ("fields", "fact", "field"),
    [
        ({"gold": ["gone"]}, {"values": ["$9"]}, "gold"),
        ({}, {"values": ["$9"], "document": "gone"}, "facts.document"),
    ],
)
async def test_a_document_that_is_not_there_is_refused(
    fields: dict[str, object], fact: dict[str, object], field: str
) -> None:
    with pytest.raises(CaseFileError, match=r"a\.csv:4: field .*'gone', which does not exist; ") as caught:
        await check_documents(Shelf(), [question(fact, **fields)], concurrency=2)
    assert caught.value.field == field
