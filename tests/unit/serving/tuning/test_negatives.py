"""Made rows: what they teach, and that they hold nothing that their row does not prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml

from serving.examples import Row, check_row, parse_row
from serving.redaction import Redactor
from serving.tuning.cleaning import Rules
from serving.tuning.dataset import accepts
from serving.tuning.leaks import find_leaks
from serving.tuning.likeness import Task
from serving.tuning.negatives import MATERIAL, NO_NEGATIVES, Kind, Made, NegativeMaker, Shares
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.support_rows import row

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
WORDING = load_wording()
TASK = Task(schema=SCHEMA, wordings=WORDING.all())
RULES = Rules(task=TASK, redactor=Redactor())
INSTRUCTIONS = frozenset(yaml.safe_load(MATERIAL.read_text(encoding="utf-8"))["instructions"])
COUNT = 60


def sources(first: int = 0, **changes: Any) -> list[Row]:
    return [parse_row(row(n, **changes), "test", SCHEMA) for n in range(first, first + COUNT)]


def made(
    shares: Shares, rows: Sequence[Row], *, split: str = "train", seed: int = 0, task: Task = TASK
) -> Made:
    maker = NegativeMaker(
        task=task, wording=WORDING, shares=shares, seed=seed, accepts=lambda each: accepts(each, RULES)
    )
    return maker.make(split, rows)


def of(kind: Kind, rows: Sequence[Row]) -> list[Row]:
    return made(replace(NO_NEGATIVES, **{kind.value: 0.5}), rows).rows


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_made_in_its_share_and_may_be_trained_on(kind: Kind) -> None:
    rows = of(kind, sources())
    assert len(rows) == 30
    assert {each.kind for each in rows} == {kind.value}
    assert len({each.id for each in rows}) == 30
    for each in rows:
        assert check_row(each, SCHEMA, fixed_wordings=TASK.wordings) == []
        assert [passage.n for passage in each.passages] == list(range(1, len(each.passages) + 1))


def test_the_answer_is_taken_out_and_the_wording_put_in() -> None:
    by_id = {each.id: each for each in sources()}
    for each in of(Kind.UNANSWERABLE, sources()):
        source = by_id[each.id.removesuffix("/unanswerable")]
        assert each.wanted["answer"] == WORDING.not_in_help_centre
        assert each.wanted["citations"] == []
        assert each.wanted["intent"] == source.wanted["intent"]
        assert each.passages
        assert all(str(source.wanted["answer"]) not in passage.text for passage in each.passages)


def test_a_distractor_leaves_the_citation_on_the_same_passage() -> None:
    by_id = {each.id: each for each in sources()}
    for each in of(Kind.DISTRACTOR, sources()):
        source = by_id[each.id.removesuffix("/distractor")]
        (cited,) = each.wanted["citations"]
        assert each.passages[cited - 1].text == source.passages[0].text
        assert {p.title for p in each.passages} > {p.title for p in source.passages[:1]}
        assert each.wanted["answer"] == source.wanted["answer"]


def test_of_two_versions_the_newest_is_right() -> None:
    positions = set()
    for each in of(Kind.STALE, sources()):
        (cited,) = each.wanted["citations"]
        newest = each.passages[cited - 1]
        (older,) = (p for p in each.passages if p.title == newest.title and p is not newest)
        assert older.effective_from < newest.effective_from
        assert str(each.wanted["answer"]) in newest.text
        assert str(each.wanted["answer"]) not in older.text
        positions.add(cited < older.n)
    assert positions == {True, False}


def test_without_a_date_nothing_is_made_old() -> None:
    undated = [
        replace(each, passages=tuple(replace(p, effective_from="") for p in each.passages))
        for each in sources()
    ]
    result = made(replace(NO_NEGATIVES, stale=0.5), undated)
    assert result.rows == []
    assert result.wanted == {Kind.STALE: 30}


def test_an_instruction_changes_nothing_that_is_wanted() -> None:
    by_id = {each.id: each for each in sources()}
    for each in of(Kind.INJECTION, sources()):
        source = by_id[each.id.removesuffix("/injection")]
        assert each.wanted == source.wanted
        assert sum(len(p.text) for p in each.passages) > sum(len(p.text) for p in source.passages)


def test_what_the_desk_does_not_answer_gets_a_fixed_wording() -> None:
    rows = of(Kind.OUT_OF_POLICY, sources())
    assert {each.wanted["answer"] for each in rows} == {
        WORDING.off_topic,
        WORDING.abusive,
        WORDING.not_in_help_centre,
    }


def test_splits_share_no_instruction_and_no_request() -> None:
    shares = replace(NO_NEGATIVES, injection=0.5, out_of_policy=0.3)
    splits = {
        "train": made(shares, sources(0)).rows,
        "valid": made(shares, sources(100), split="valid").rows,
        "test": made(shares, sources(200), split="test").rows,
    }
    assert all(splits.values())
    assert find_leaks(splits, task=TASK) == []
    train, valid, test = (
        {
            part
            for each in rows
            for p in each.passages
            for part in p.text.split("\n\n")
            if part in INSTRUCTIONS
        }
        for rows in splits.values()
    )
    assert train
    assert train.isdisjoint(valid | test)
    assert valid.isdisjoint(test)


def test_rows_that_abstain_already_count() -> None:
    silent = {"wanted": row(0)["wanted"] | {"answer": WORDING.not_in_help_centre, "citations": []}}
    rows = [*sources()[:50], *(parse_row(row(n, **silent), "test", SCHEMA) for n in range(50, 60))]
    assert len(made(replace(NO_NEGATIVES, unanswerable=0.2), rows).rows) == 2


def test_the_same_seed_makes_the_same_rows() -> None:
    assert made(Shares(), sources()).rows == made(Shares(), sources()).rows
    assert made(Shares(), sources()).rows != made(Shares(), sources(), seed=1).rows


def test_a_task_without_text_for_customers_gets_none_that_need_it() -> None:
    routing = load_task_schema(SCHEMAS / "ticket_routing.json")
    wanted = {"queue": "billing", "priority": "P2", "product": "other", "reason": "asks"}
    rows = [
        parse_row({"id": f"{n}", "question": f"q {n}", "passages": [], "wanted": wanted}, "test", routing)
        for n in range(20)
    ]
    assert made(Shares(), rows, task=Task(schema=routing)).rows == []
