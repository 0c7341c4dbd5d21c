"""`twinrail knowledge compare` against a gateway over sockets: what it asks, what it says, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli import main as twinrail
from eval.cli import main
from gateway.schemas.search import SearchBody
from tests.fakes.gateway_server import KNOWLEDGE, STAFF_KEY
from tests.integration.eval.test_evaluation import Served, questions, served, settings, tuned

__all__ = ["questions", "served"]

OTHER = "k-other-00000001"


def better(version: str, question: str) -> list[str]:
    """The other version has the article first, the stable one only for every third question."""
    good = version == OTHER or int(question.split()[-1]) % 3 == 0
    return ["plus", "trial"] if good else ["trial", "plus"]


def record(
    served: Served, question: str, *, pinned: bool = False, filters: dict[str, str] | None = None
) -> None:
    """A turn that somebody has asked for."""
    turn_id = str(UUID(int=len(served.gateway.turns) + 1))
    served.gateway.turns[turn_id] = {
        "id": turn_id,
        "conversation_id": f"c-{turn_id}",
        "pinned": pinned,
        "question": question,
        "used": {"filters": filters or {}},
    }


def test_a_better_version_is_told_apart(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.finds = better
    command = ["versions", "stable", OTHER, "--questions", str(questions)]
    assert main([*command, "--json"], settings=settings(served, tmp_path)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["first"], report["second"]) == (f"{KNOWLEDGE}@3", f"{OTHER}@3")
    hit = report["quality"]["figures"]["hit@1"]
    assert (hit["first"], hit["second"], hit["wins"], hit["losses"]) == (0.4, 1.0, 24, 0)
    assert hit["resolved"]
    assert report["quality"]["figures"]["recall@10"]["difference"] == 0
    assert {(row["first_rank"], row["second_rank"]) for row in report["quality"]["changes"]} == {(2, 1)}
    searches = [(key, body) for key, path, body in served.gateway.requests if path == "/v1/search"]
    assert {body["version"] for _, body in searches} == {f"{KNOWLEDGE}@3", f"{OTHER}@3"}
    assert {body["question"][-1] for key, body in searches if key == STAFF_KEY} == {"9"}
    for _, body in searches:
        SearchBody.model_validate(body)

    assert main(command, settings=settings(served, tmp_path)) == 0
    output = capsys.readouterr()
    assert "B is better than A in hit@1: +0.600 (24 questions better, 0 worse)." in output.out
    assert "No difference shown in recall@10" in output.out
    assert "40/40" in output.err, "progress goes to stderr"


def test_a_question_without_a_reply_is_in_no_figure(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.refused = frozenset({"plans question 1"})
    command = ["versions", "stable", OTHER, "--questions", str(questions), "--json"]
    assert main(command, settings=settings(served, tmp_path)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["asked"], report["n"], report["quality"]["n"]) == (40, 39, 39)
    assert report["quality"]["figures"]["hit@1"]["second"] == 1.0
    assert list(report["sides"]["second"]["failures"].values()) == [1]


def test_recorded_questions_are_compared_without_gold(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over two pages; those of evaluations are not among them, and each question counts once."""
    served.gateway.finds = better
    long = "word " * 60 + "question 1"
    record(served, long, filters={"language": "en"})
    for n in range(40):
        record(served, f"question {n}")
    record(served, "  Question 1 ")
    record(served, "")
    for n in range(205):
        record(served, f"asked by an evaluation {n}", pinned=True)
    command = ["versions", "stable", OTHER, "--recorded", "100", "--json"]
    assert main(command, settings=settings(served, tmp_path, staff_api_key=None)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["quality"] is None
    assert (report["asked"], report["n"]) == (41, 41)
    assert report["left_out"] == "1 asked again, 1 without their text"
    assert report["agreement"]["overlap"] == 1.0
    assert report["agreement"]["top_changed"]["k"] == 27
    moved = report["agreement"]["moved"]
    assert len(moved) == 27
    assert long in {move["question"] for move in moved}, "the whole question"
    asked = {body["question"]: body for _, path, body in served.gateway.requests if path == "/v1/search"}
    assert asked[long]["filters"] == {"language": "en"}, "the whole question, and as it was narrowed"

    command = ["versions", "stable", OTHER, "--recorded", "5"]
    assert main(command, settings=settings(served, tmp_path, staff_api_key=None)) == 4
    output = capsys.readouterr()
    assert "No gold documents" in output.out
    assert "Most moved: " in output.out
    assert "not enough evidence: 4 questions answered by both; at least 30 are needed" in output.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("stable", "stable"), "the same version"),
        (("stable", "canary"), "no canary version"),
        (("stable", "k-unknown-00000001"), "unknown version"),
        (("stable@2", f"{OTHER}@3"), "two snapshots"),
        (("stable", OTHER, "--recorded", "9", "--kind", "x"), "--recorded"),
        (("stable", OTHER, "--recorded", "9", "--questions", "x"), "not allowed with"),
        (("stable", OTHER, "--k", "21"), "must be 1 to 20"),
        (("stable", OTHER, "--questions", "missing.jsonl"), "missing.jsonl"),
        (("stable",), "required"),
    ],
)
def test_what_cannot_be_compared_is_exit_2(
    served: Served,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    given = () if "--questions" in options or "--recorded" in options else ("--questions", str(questions))
    assert main(["versions", *options, *given], settings=settings(served, tmp_path)) == 2
    assert words in capsys.readouterr().err


def test_few_questions_are_exit_4_and_no_gateway_exit_3(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["versions", "stable", OTHER, "--questions", str(questions), "--limit", "8"]
    assert main(command, settings=settings(served, tmp_path)) == 4
    assert "8 questions with gold documents answered by both" in capsys.readouterr().err
    served.gateway.gone = True
    assert main(command, settings=settings(served, tmp_path, attempts=1)) == 3


def test_twinrail_knowledge_compare_is_this_command(
    served: Served,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.gateway.answers = {"m-base-00000001": tuned}
    for name, value in (
        ("TWINRAIL_HOME", str(tmp_path / "home")),
        ("EVAL_GATEWAY_URL", served.url),
        ("EVAL_API_KEY", "tw_customer"),
        ("EVAL_RESAMPLES", "300"),
    ):
        monkeypatch.setenv(name, value)
    command = ["knowledge", "compare", "stable", OTHER, "--questions", str(questions)]
    assert twinrail(command) == 0
    output = capsys.readouterr()
    assert "No difference shown in hit@1" in output.out
    assert "Not asked: 4 of staff (set EVAL_STAFF_API_KEY)." in output.out
