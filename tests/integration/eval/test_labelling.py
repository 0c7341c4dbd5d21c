"""`twinrail eval label` on the fake gateway: what it writes, asks, sends, and that twice changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.cli import main
from eval.labelling.labels import Label, LabelRecord
from eval.labelling.records import LabelFile
from eval.settings import EvalSettings
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, STAFF_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, question_row, write_topics

INVENTED = "Sync Plus is $7 a month."
INTERNAL = "Agents may waive the sticker fee of Sync Plus partners."
FOUND_NOTHING = (
    "I can't find that in our help centre, so I won't guess. "
    "I've passed your question to a colleague who will reply by email."
)


def tuned(question: str) -> CannedAnswer:
    """Fails in one way for each question."""
    number = int(question.split()[-1])
    return [
        CannedAnswer(answer=RIGHT),
        CannedAnswer(answer=INVENTED),
        CannedAnswer(answer=FOUND_NOTHING, status="abstained"),
        CannedAnswer(answer=f"{RIGHT[:-1]}!"),
        CannedAnswer(answer="A colleague will reply.", status="fallback", draft="Sure!", failure="schema"),
        CannedAnswer(answer="The trial lasts 14 days."),
        CannedAnswer(answer=INTERNAL),
    ][number]


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(
        FakeGateway(
            answers={BASE: lambda question: CannedAnswer(answer=RIGHT), TUNED: tuned},
            documents={"plus": ["Sync Plus is $9 a month. The trial lasts 14 days."], "notes": [INTERNAL]},
            hidden=frozenset({"notes"}),
            finds=lambda version, question: ["notes"] if question == INTERNAL else ["plus"],
        )
    )
    yield server
    server.close()


@pytest.fixture
def settings(served: Served, tmp_path: Path) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "staff_api_key": STAFF_KEY,
            "attempts": 2,
            "timeout_s": 20,
            "min_questions": 5,
            "resamples": 200,
        }
    )


@pytest.fixture
def folder(settings: EvalSettings, tmp_path: Path) -> Path:
    """A run over seven questions with one article."""
    rows = [
        question_row(f"plans-{n:02d}", topic="plans", text=f"what is plus, question {n}", stale_values=["$8"])
        for n in range(7)
    ]
    questions = write_topics(tmp_path / "questions", {"plans": rows}) / "plans.jsonl"
    run = tmp_path / "run"
    ended = main(
        ["run", "--questions", str(questions), "--run", str(run), "--arms", "rag_base,oracle,rag_tuned"],
        settings=settings,
    )
    assert ended == 0
    return run


def labels_of(folder: Path, arm: str) -> list[str]:
    found = {record.case_id: record for record in LabelFile(folder).read() if record.arm == arm}
    return [_name(found[case_id]) for case_id in sorted(found)]


def _name(record: LabelRecord) -> str:
    primary = record.primary
    return "" if primary is None else f"{primary.label}.{primary.sub}"


def test_each_failure_gets_the_label_of_its_cause(
    folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["label", str(folder), "--json"], settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    assert labels_of(folder, "rag_tuned") == [
        "",
        "hallucination.wrong_fact",
        "weak_reasoning.over_abstain",
        "wrong_tone.",
        "bad_format.schema",
        "weak_reasoning.wrong_passage",
        "policy_violation.internal",
    ]
    assert set(labels_of(folder, "rag_base")) == set(labels_of(folder, "oracle")) == {""}
    tuned_arm = report["arms"]["rag_tuned"]
    assert (tuned_arm["labels"]["weak_reasoning"]["k"], tuned_arm["labels"]["weak_reasoning"]["n"]) == (2, 7)
    assert tuned_arm["undetermined_share"]["k"] == 0
    assert report["clusters"]["plans"]["hallucination"] == 1
    section = (folder / "report.md").read_text().partition("## Failures by cause")[2]
    assert "weak_reasoning" in section
    assert "(rule 6b)" in section
    (abstained,) = [
        record for record in LabelFile(folder).read() if _name(record) == "weak_reasoning.over_abstain"
    ]
    assert abstained.primary is not None
    rests_on = {name: abstained.check(name) for name in abstained.primary.evidence}
    assert all(check is not None and check.detail and check.version for check in rests_on.values())
    gold = abstained.check("right_with_gold")
    assert gold is not None
    assert (gold.value, BASE in gold.detail) == (True, True), (
        "the oracle arm is the re-run of every other arm"
    )


def test_labelling_again_changes_nothing_and_asks_nothing(
    served: Served, folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(folder)], settings=settings)
    files = {name: (folder / name).read_bytes() for name in ("labels.jsonl", "documents.jsonl")}
    asked = len(served.gateway.requests)
    capsys.readouterr()
    assert main(["label", str(folder), "--offline", "--json"], settings=settings) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == {
        "new": 0,
        "changed": 0,
        "reopened": 0,
        "gone": 0,
    }
    assert files == {name: (folder / name).read_bytes() for name in files}
    assert main(["label", str(folder)], settings=settings) == 0
    assert len(served.gateway.requests) == asked, "what the folder holds is not asked for again"
    assert (folder / "report.md").read_text().count("## Failures by cause") == 1


def test_other_criteria_open_rows_again_and_people_keep_theirs(
    folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(folder)], settings=settings)
    file = LabelFile(folder)
    records = [json.loads(line) for line in file.path.read_text().splitlines()]
    of_old = [{**record, "criteria": "c0-00000000"} for record in records]
    by_hand = {**records[-1], "source": "human", "reviewer": "ana", "note": "not internal at all"}
    file.path.write_text("".join(json.dumps(row) + "\n" for row in (*of_old, by_hand)))
    capsys.readouterr()
    assert main(["label", str(folder), "--offline", "--json"], settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["changes"] == {"new": 0, "changed": 21, "reopened": 21, "gone": 0}
    assert report["labelled_by_people"] == 1
    assert [record.reviewer for record in file.read() if record.source == "human"] == ["ana"]


def test_missing_reruns_are_asked_once(served: Served, folder: Path, settings: EvalSettings) -> None:
    assert main(["label", str(folder), "--rerun"], settings=settings) == 0
    again = [body for _, path, body in served.gateway.requests if path == "/v1/answers"][21:]
    assert len(again) == 6, "six failed turns of the tuned arm; the base model answered each already"
    assert all(body["pin"]["model"] == TUNED for body in again)
    assert all(body["pin"]["context"][0]["text"].startswith("Sync Plus is $9") for body in again)
    over_abstain = next(
        record
        for record in LabelFile(folder).read()
        if record.primary and record.primary.sub == "over_abstain"
    )
    gold = over_abstain.check("right_with_gold")
    assert gold is not None
    assert gold.value is False, "its own model abstains with the gold documents too"
    assert main(["label", str(folder), "--rerun"], settings=settings) == 0
    assert len([path for _, path, _ in served.gateway.requests if path == "/v1/answers"]) == 27


def test_labels_are_sent_for_turns_that_were_judged(
    served: Served, folder: Path, settings: EvalSettings
) -> None:
    assert main(["label", str(folder), "--send"], settings=settings) == 0
    sent = [body for rows in served.gateway.labels.values() for body in rows]
    assert len(sent) == 21
    assert sorted(body["label"] for body in sent if body["label"]) == [
        Label.BAD_FORMAT,
        Label.HALLUCINATION,
        Label.POLICY_VIOLATION,
        Label.WEAK_REASONING,
        Label.WEAK_REASONING,
        Label.WRONG_TONE,
    ]
    assert {body["source"] for body in sent} == {"auto"}
    scores = {
        turn_id: {row["name"]: row["value"] for row in rows}
        for turn_id, rows in served.gateway.scores.items()
    }
    assert len(scores) == 21
    by_label = {body["label"]: turn_id for turn_id, (body,) in served.gateway.labels.items()}
    assert scores[by_label[Label.WRONG_TONE]]["tone_kept"] == 0
    assert scores[by_label[Label.HALLUCINATION]]["answer_right"] == 0
    assert scores[by_label[None]]["answer_right"] == 1
    assert "corrected" not in scores[by_label[None]], "what does not apply is no score"
    report = served.gateway.reports[f"labels-{folder.name}"]
    assert report["content"]["arms"]["rag_tuned"]["judged"] == 7
    assert report["page"]["type"] == "text/markdown"
    assert report["page"]["text"] in (folder / "report.md").read_text()


def test_reviews_stand_beside_the_rules_and_agreement_is_told(
    served: Served, folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(folder)], settings=settings)
    failed = [record for record in LabelFile(folder).read() if record.primary]
    for record, label in zip(failed, ("hallucination", "wrong_retrieval", None), strict=False):
        finer = "threshold" if label == "wrong_retrieval" else ""
        said = {"label": label, "sub": finer, "rule": "", "source": "human", "reviewer": "ana"}
        served.gateway.labels[record.turn_id] = [said]
    capsys.readouterr()
    for _ in range(2):
        assert main(["label", str(folder), "--reviews", "--json"], settings=settings) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["labelled_by_people"] == 3
        agreement = report["agreement_with_people"]
        assert (agreement["k"], agreement["n"]) == (1, 3)
    assert report["changes"]["new"] == report["changes"]["changed"] == 0
    assert sum(each["n"] for each in report["said_by_people"]) == 3
    assert {each["people"] for each in report["said_by_people"]} == {
        "hallucination",
        "wrong_retrieval.threshold",
        "passed",
    }
    people = [record for record in LabelFile(folder).read() if record.source == "human"]
    assert {record.reviewer for record in people} == {"ana"}
    assert sorted(record.outcome for record in people) == ["failed", "failed", "passed"]
    main(["label", str(folder), "--send"], settings=settings)
    sent = [body["source"] for rows in served.gateway.labels.values() for body in rows]
    assert sent.count("human") == 3, "what people said is never sent back"


def test_what_people_take_back_is_gone_here_too(
    served: Served, folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(folder)], settings=settings)
    first, second = [record for record in LabelFile(folder).read() if record.primary][:2]
    said = {"label": None, "sub": "", "rule": "", "source": "human", "reviewer": "ana"}
    served.gateway.labels |= {first.turn_id: [said], second.turn_id: [said]}
    main(["label", str(folder), "--reviews"], settings=settings)
    del served.gateway.labels[first.turn_id]
    capsys.readouterr()
    assert main(["label", str(folder), "--reviews", "--json"], settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["labelled_by_people"], report["changes"]["gone"]) == (1, 1)
    people = [record for record in LabelFile(folder).read() if record.source == "human"]
    assert [record.turn_id for record in people] == [second.turn_id]


def test_an_article_that_nobody_can_read_is_missing_and_one_that_customers_cannot_is_not(
    served: Served, folder: Path, settings: EvalSettings, tmp_path: Path
) -> None:
    served.gateway.documents = {}
    served.gateway.finds = lambda version, question: []
    questions = tmp_path / "other.jsonl"
    row = {"id": "q-1", "text": "what is plus, question 2", "gold": ["plus"]}
    questions.write_text(json.dumps(row) + "\n")
    run = tmp_path / "gone"
    main(
        ["run", "--questions", str(questions), "--run", str(run), "--arms", "oracle,rag_tuned"],
        settings=settings,
    )
    assert main(["label", str(run)], settings=settings) == 4, "one question is not enough evidence"
    (lost, abstained) = LabelFile(run).read()
    assert lost.outcome == "run_error"
    assert "no such document; correct gold of q-1" in lost.checks[0].detail
    assert abstained.primary is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--offline", "--send"], "--offline: asks nothing"),
        (["--offline", "--rerun"], "--offline: asks nothing"),
        (["--concurrency=-1"], "--concurrency: must be 1 or more"),
        (["--offline", "--reviews"], "--offline: asks nothing"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    folder: Path,
    settings: EvalSettings,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert main(["label", str(folder), *arguments], settings=settings) == 2
    assert said in capsys.readouterr().err


def test_a_broken_file_is_named_with_its_line(
    folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(folder)], settings=settings)
    path = folder / "labels.jsonl"
    path.write_text(path.read_text().replace('"primary"', '"first"', 1))
    assert main(["label", str(folder), "--offline"], settings=settings) == 2
    assert f"{path}:1" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(folder: Path, settings: EvalSettings) -> None:
    before: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["label", str(folder), "--dry-run", "--offline"], settings=settings) == 0
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_gateway_that_is_gone_is_told_and_keeps_the_labels(
    served: Served, folder: Path, settings: EvalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.gone = True
    assert main(["label", str(folder)], settings=settings.model_copy(update={"attempts": 1})) == 3
    assert "gateway" in capsys.readouterr().err
    assert not (folder / "labels.jsonl").exists()
