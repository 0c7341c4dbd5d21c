"""Parts of a pilot's days: versions to compare, questions to take, behaviour alone, thresholds."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, Logs, Row
from eval.advice.team import Team
from eval.arms import ArmKind, parse_arm
from eval.errors import CaseFileError
from eval.flips import Flips
from eval.labelling.labelling_report import count_labels
from eval.labelling.labels import Label, Outcome
from eval.labelling.records import changes
from eval.observations import Draft, Observation
from eval.pilot.comparing_arms import compare_passed, most_passed, moved_table
from eval.pilot.measuring import Measured
from eval.pilot.not_fixed import unfixed
from eval.pilot.questions_day import Source, narrow
from eval.pilot.retrieval_day import TRY, candidate_arm, ready_versions, what_to_build
from eval.pilot.rollout import guardrails
from eval.record import RunData, RunRecord
from eval.sets.questions import Question
from eval.summary import Summary
from tests.unit.docs.pages import page

DAY = date(2026, 3, 1)
PROMPT, RAG, ORACLE = "prompt_only", "rag", "oracle"
KINDS = {PROMPT: ArmKind.PROMPT, RAG: ArmKind.RAG, ORACLE: ArmKind.ORACLE}


def row(case: int, label: Label | None = None, sub: str = "") -> Row:
    outcome = Outcome.FAILED if label else Outcome.PASSED
    return Row(
        case_id=f"q{case:02d}", cluster=f"c{case % 5}", task_type="", outcome=outcome, label=label, sub=sub
    )


def measured(seen: dict[tuple[str, str], Observation] | None = None, **arms: list[Row]) -> Measured:
    record = RunRecord(
        id="run",
        gateway_url="",
        question_set="",
        question_set_sha256="",
        selection={},
        requested_arms=(),
        arms=(),
        knowledge=(),
    )
    data = RunData(record=record, cases=(), observations=seen or {})
    return Measured(
        data=data,
        summary=Summary(
            data=data,
            questions=0,
            topics=0,
            left_out=0,
            left_out_staff=0,
            rankings=(),
            arms=(),
            comparisons=(),
            flips=Flips(repeats=1, rates={}),
            costing=(),
            thin=(),
            checker="",
            outcomes={},
        ),
        labels=count_labels((), changes((), ())),
        logs=Logs(
            run="run",
            question_set_sha256="",
            labels_sha256="",
            criteria=(),
            arms=tuple(
                ArmLog(name=name, kind=KINDS.get(name, ArmKind.RAG_PLUS), rows=tuple(rows))
                for name, rows in arms.items()
            ),
        ),
        draws=Draws(resamples=200, seed=1),
    )


# ---- index versions ----------------------------------------------------------------------------


def test_only_ready_versions_beside_the_measured_one_are_candidates() -> None:
    listed = [
        {"id": "k-start-1a", "state": "ready"},
        {"id": "k-words-2b", "state": "ready"},
        {"id": "k-new-3c", "state": "building"},
        {"id": "k-old-4d", "state": "retired"},
    ]
    assert ready_versions(listed, besides="k-start-1a@7") == ["k-words-2b"]


def test_a_candidate_is_an_arm_of_the_base_model_on_the_same_documents() -> None:
    arm = candidate_arm("k-small.Chunks-1a2b3c4d", snapshot="7")
    assert (arm.name, arm.kind) == ("rag_small.chunks-1a2b3c4d", ArmKind.RAG_PLUS)
    assert arm.pin.as_body() == {"knowledge": "k-small.Chunks-1a2b3c4d@7", "model": "fallback"}
    long = candidate_arm(f"k-{'x' * 60}-1a2b3c4d", snapshot="")
    assert parse_arm(f"{long.name}=knowledge:k").name == long.name, "a name that an arm may have"
    assert long.name.endswith("-1a2b3c4d")


def test_what_fails_most_is_tried_first_and_other_layers_ask_for_nothing() -> None:
    said = list(
        what_to_build(
            {"wrong_retrieval.rank": 2, "wrong_retrieval.chunking": 5, "missing_knowledge.article": 9}
        )
    )
    assert [line.split(":")[0] for line in said] == ["5 wrong_retrieval.chunking", "2 wrong_retrieval.rank"]
    assert "--chunker structure-" in said[0]
    assert next(iter(what_to_build({"missing_knowledge.article": 9}))).startswith("No failure of retrieval")


@pytest.mark.parametrize("command", sorted(set(re.findall(r"twinrail [a-z ]+", " ".join(TRY.values())))))
def test_commands_that_are_named_are_in_the_docs(command: str) -> None:
    words = " ".join(command.split()[:3])
    pages = [page(f"docs/{name}.md") for name in ("operations", "evaluation", "api")]
    assert any(words in line for each in pages for line in each.lines), words


# ---- questions ---------------------------------------------------------------------------------


def questions(n: int, split: str | None = None) -> list[Question]:
    return [
        Question.model_validate(
            {"id": f"q{i}", "text": f"question {i}", "cluster": f"c{i % 3}", "split": split}
        )
        for i in range(n)
    ]


def source(**changes: object) -> Source:
    values = {
        "path": Path("asked.csv"),
        "splits": (),
        "limit": None,
        "columns": {},
        "redact": True,
        "seed": 1,
        **changes,
    }
    return Source(**values)  # type: ignore[arg-type]


def test_the_dev_split_is_taken_where_there_is_one_and_the_holdout_stays_shut() -> None:
    both = [
        *questions(3, "dev"),
        *(each.model_copy(update={"id": f"h{each.id}"}) for each in questions(3, "holdout")),
    ]
    assert [each.id for each in narrow(both, source(), DAY)] == ["q0", "q1", "q2"]
    assert len(narrow(both, source(splits=("all",)), DAY)) == 6
    assert len(narrow(questions(4), source(), DAY)) == 4


def test_a_limit_takes_from_every_cluster() -> None:
    taken = narrow(questions(30), source(limit=6), DAY)
    assert sorted(each.cluster for each in taken) == ["c0", "c0", "c1", "c1", "c2", "c2"]


def test_no_question_is_an_error_that_names_the_file() -> None:
    with pytest.raises(CaseFileError, match=r"asked\.csv: holds no question"):
        narrow([], source(), DAY)


# ---- what is left ------------------------------------------------------------------------------


def test_behaviour_alone_is_what_fails_the_same_way_with_the_gold_documents() -> None:
    prompt = [row(n, Label.MISSING_KNOWLEDGE) for n in range(5)]
    rag = [
        row(0, Label.WRONG_TONE),
        row(1, Label.WRONG_TONE),
        row(2, Label.WRONG_TONE),
        row(3, Label.WRONG_RETRIEVAL, "rank"),
        row(4),
    ]
    oracle = [row(0, Label.WRONG_TONE), row(1, Label.BAD_FORMAT), row(2), row(3, Label.WRONG_TONE), row(4)]
    found = unfixed(measured(prompt_only=prompt, rag=rag, oracle=oracle), PROMPT, RAG, ORACLE)
    assert [each.row.case_id for each in found] == ["q00", "q01", "q02", "q03"]
    assert [each.behaviour_only for each in found] == [True, False, False, False]
    assert [each.with_gold for each in found] == ["wrong_tone", "bad_format", "", "wrong_tone"]


def test_a_question_without_gold_documents_is_not_called_behaviour_alone() -> None:
    found = unfixed(
        measured(prompt_only=[row(0)], rag=[row(0, Label.WRONG_TONE)], oracle=[]), PROMPT, RAG, ORACLE
    )
    assert [(each.before, each.with_gold, each.behaviour_only) for each in found] == [("", None, False)]


def test_what_became_of_each_failure() -> None:
    before = [*(row(n, Label.MISSING_KNOWLEDGE) for n in range(4)), row(4), row(5)]
    after = [
        row(0),
        row(1),
        row(2, Label.MISSING_KNOWLEDGE),
        row(3, Label.WRONG_TONE),
        row(4),
        row(5, Label.WRONG_TONE),
    ]
    table = moved_table(measured(prompt_only=before, rag=after), PROMPT, RAG)
    assert table.rows == (
        ("missing_knowledge", "2", "1", "1 wrong_tone"),
        ("passed", "1", "-", "1 wrong_tone"),
    )


def test_few_questions_are_not_said_to_show_a_difference() -> None:
    one = [row(n, Label.MISSING_KNOWLEDGE) for n in range(4)]
    few = compare_passed(measured(prompt_only=one, rag=[row(n) for n in range(4)]), PROMPT, RAG)
    assert few is not None
    assert not few.shown
    assert "do not show" in few.sentence()
    many = compare_passed(
        measured(
            prompt_only=[row(n, Label.MISSING_KNOWLEDGE) for n in range(40)], rag=[row(n) for n in range(40)]
        ),
        PROMPT,
        RAG,
    )
    assert many is not None
    assert many.shown


# ---- metrics of the rollout --------------------------------------------------------------------


def answers(n: int, **changes: object) -> dict[tuple[str, str], Observation]:
    seen = {}
    for i in range(n):
        values: dict[str, object] = {
            "case_id": f"q{i:02d}",
            "arm": RAG,
            "status": "abstained" if i % 10 == 0 else "answered",
            "retrieved": ("a",),
            "draft": Draft(text="{}", finish_reason="stop"),
            "timings_ms": {"retrieval": 50.0, "generation": 900.0},
            "wall_ms": 1000.0,
            "prompt_tokens": 400,
            "completion_tokens": 80,
        }
        seen[f"q{i:02d}", RAG] = Observation(**{**values, **changes})  # type: ignore[arg-type]
    return seen


TEAM = Team.model_validate({"team_size": "startup", "regulated": False})


def test_every_metric_of_the_rollout_is_one_that_the_gateway_emits() -> None:
    lines = page("docs/telemetry.md").lines
    known = {match[1] for line in lines if (match := re.match(r"\| `([a-z_.]+)` \|", line))}
    attributes = {name for line in lines for name in re.findall(r"`([a-z_.]+)`", line)}
    found = guardrails(measured(answers(40), rag=[row(n) for n in range(40)]), RAG, TEAM)
    assert {each.rail for each in found} == {"knowledge", "model", "both"}
    for each in found:
        outside = re.sub(r"\{.*?\}", "", each.telemetry)
        named = set(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", outside))
        assert named, each
        assert named <= known, each
        assert set(re.findall(r"[{,]([a-z_.]+)!?=", each.telemetry)) <= attributes, each


def test_thresholds_hold_what_was_measured() -> None:
    failed = [row(n, Label.WRONG_TONE if n < 4 else None) for n in range(40)]
    found = {each.what: each for each in guardrails(measured(answers(40), rag=failed), RAG, TEAM)}
    abstained = found["abstained"]
    assert abstained.measured == 0.1
    assert abstained.threshold is not None
    assert 0.1 < abstained.threshold < 0.3
    assert found["search, 95th percentile"].threshold == pytest.approx(0.1)
    assert found["tokens of an answer, mean"].threshold == pytest.approx(600)
    faults = next(each for what, each in found.items() if what.startswith("reviewed turns"))
    assert (faults.measured, faults.threshold) == (0.1, 0.2), "no more than customers may get at all"
    assert "4 of 40" in faults.reason


def test_a_pilot_that_is_too_bad_gives_no_threshold_to_roll_out_by() -> None:
    rows = [row(n, Label.WRONG_RETRIEVAL if n < 30 else None) for n in range(40)]
    found = {
        each.what: each for each in guardrails(measured(answers(40, status="abstained"), rag=rows), RAG, TEAM)
    }
    unfit = {what.split(" (")[0] for what, each in found.items() if each.unfit}
    assert unfit == {"abstained", "reviewed turns that end in a fault"}
    assert found["abstained"].threshold is None
    assert "not to be rolled out: 40 of 40" in found["abstained"].reason


def test_a_handful_of_answers_gives_no_threshold() -> None:
    found = guardrails(measured(answers(3), rag=[row(n) for n in range(3)]), RAG, TEAM)
    tolerance = [each for each in found if each.threshold is not None]
    assert [each.telemetry for each in tolerance] == ["twinrail.answer.citations.invalid"]
    assert all("week first" in each.reason for each in found if each.unit == "share")
    assert not any(each.unfit for each in found)


def test_freshness_is_what_the_team_file_asks_for() -> None:
    team = TEAM.model_copy(update={"knowledge": TEAM.knowledge.model_copy(update={"freshness_hours": 2})})
    found = guardrails(measured(answers(40), rag=[row(n) for n in range(40)]), RAG, team)
    fresh = next(each for each in found if each.telemetry == "twinrail.knowledge.freshness.lag")
    assert (fresh.threshold, fresh.threshold_text) == (7200, "at most 2 h")


def test_the_version_that_passes_most_goes_on_and_none_that_passes_less_or_answered_a_few() -> None:
    failed = Label.WRONG_RETRIEVAL
    rows = {
        RAG: [row(i, failed if i < 20 else None) for i in range(40)],
        "better": [row(i, failed if i < 10 else None) for i in range(40)],
        "best": [row(i, failed if i < 5 else None) for i in range(40)],
        "worse": [row(i, failed if i < 30 else None) for i in range(40)],
        # Three answers, all right, of questions that the stable version gets wrong: no version to go on with.
        "nearly_gone": [row(i) for i in range(3)],
    }
    compared = {
        name: found for name in rows if name != RAG and (found := compare_passed(measured(**rows), RAG, name))
    }
    assert compared["nearly_gone"].difference.value == 1.0
    assert most_passed(compared, of=40) == "best"
    assert most_passed({name: compared[name] for name in ("worse", "nearly_gone")}, of=40) is None
    assert most_passed({}, of=40) is None
