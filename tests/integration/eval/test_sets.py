"""Question sets from a gateway over real sockets, and what a run makes of a frozen one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eval.cli import main
from eval.settings import EvalSettings
from gateway.schemas.documents import DocumentList
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, STAFF_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served

WORDS = ("invoice", "password", "router", "refund", "backup", "seat", "archive", "trial", "webhook", "export")


@pytest.fixture
def served() -> Iterator[Served]:
    answers = {model: lambda question: CannedAnswer(answer="Plus is $9 a month.") for model in (BASE, TUNED)}
    server = Served(FakeGateway(answers=answers))
    yield server
    server.close()


@pytest.fixture
def settings(served: Served, tmp_path: Path) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "staff_api_key": STAFF_KEY,
            "runs": tmp_path / "runs",
            "attempts": 2,
            "timeout_s": 20,
            "resamples": 200,
        }
    )


def asked(gateway: FakeGateway, n: int, question: str, *, pinned: bool = False) -> None:
    turn_id = f"0190c6f5-0000-7000-8000-{n:012d}"
    gateway.turns[turn_id] = {
        "id": turn_id,
        "conversation_id": f"c{n}",
        "question": question,
        "pinned": pinned,
        "created_at": f"2026-03-01T10:00:{n % 60:02d}Z",
        "answer": {"answer": "Plus is $9 a month."},
        "used": {"hits": [{"document_id": f"doc-{n % 10}"}]},
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def made_set(folder: Path, n: int = 40) -> Path:
    """Questions of ten clusters that somebody wrote an answer key for."""
    folder.mkdir()
    lines = [
        {
            "id": f"q{at:02d}",
            "text": f"{WORDS[at % 10]} {chr(97 + at // 10) * 7} {at * 7919 % 9973}",
            "cluster": WORDS[at % 10],
            "status": "answerable",
            "gold": ["plus"],
            "facts": [{"match": "number", "values": ["$9"]}],
        }
        for at in range(n)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_real_questions_become_a_set(
    served: Served, settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(served.gateway, 1, "My name is Ann Lee, how much is plus?")
    asked(served.gateway, 2, "how do I reset my password, ann@mail.example")
    asked(served.gateway, 3, "how do I reset my password, bob@mail.example")
    asked(served.gateway, 4, "asked by an evaluation", pinned=True)
    folder = tmp_path / "set"
    assert main(["import", str(folder), "--turns", "--json"], settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["read"], report["added"], report["repeated"]) == (3, 2, 1)
    assert report["redacted"] == {"email": 2, "name": 1}
    first, second = sorted(rows(folder), key=lambda row: str(row["text"]))
    assert first["text"] == "My name is [name], how much is plus?"
    assert first["source"] == "turn:0190c6f5-0000-7000-8000-000000000001"
    assert (second["asked_at"], "status" in second) == ("2026-03-01", False)
    assert all(row["cluster"] for row in (first, second))
    assert main(["import", str(folder), "--turns"], settings=settings) == 0
    assert capsys.readouterr().out.startswith("0 of 3 questions added")
    assert len(rows(folder)) == 2


def test_only_evaluations_asked_is_no_set(served: Served, settings: EvalSettings, tmp_path: Path) -> None:
    asked(served.gateway, 1, "asked by an evaluation", pinned=True)
    assert main(["import", str(tmp_path / "set"), "--turns"], settings=settings) == 2
    assert not (tmp_path / "set").exists()


def test_a_gold_document_that_does_not_exist_is_an_error(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("text,gold,exact\nhow much?,plus,$9\nand team?,team,$14\n")
    folder = tmp_path / "set"
    assert main(["import", str(folder), "--from", str(file)], settings=settings) == 2
    said = capsys.readouterr().err
    assert (
        "asked.csv:3: field 'gold': question 'asked-3' names the document 'team', which does not exist"
        in said
    )
    assert not folder.exists(), "nothing is half imported"
    file.write_text("text,gold,exact\nhow much?,plus,$90\n")
    assert main(["import", str(folder), "--from", str(file)], settings=settings) == 0
    assert "'$90' does not stand in plus" in capsys.readouterr().err


def test_without_a_gateway_documents_are_said_to_be_unchecked(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("text,gold\nhow much?,nowhere\n")
    gone = settings.model_copy(update={"gateway_url": "http://127.0.0.1:9"})
    assert main(["import", str(tmp_path / "set"), "--from", str(file)], settings=gone) == 0
    assert "gold documents were not looked up" in capsys.readouterr().err


def test_documents_become_proposals_and_accepted_ones_questions(
    served: Served, settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.documents["team"] = ["Sync Team costs $12 a user.", "Sync Team costs $14 a user."]
    folder = tmp_path / "set"
    assert main(["draft", str(folder), "--json"], settings=settings) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2
    proposals = [json.loads(line) for line in (folder / "proposed.jsonl").read_text().splitlines()]
    team = next(each for each in proposals if each["document"] == "team")
    assert (team["text"], team["quote"]) == ("How much does Sync Team cost?", "Sync Team costs $14 a user.")
    assert main(["import", str(folder), "--accepted"], settings=settings) == 2
    assert "no proposal is accepted" in capsys.readouterr().err
    for each in proposals:
        each["accepted"] = each is team
    (folder / "proposed.jsonl").write_text("".join(json.dumps(each) + "\n" for each in proposals))
    assert main(["import", str(folder), "--accepted"], settings=settings) == 0
    (row,) = rows(folder)
    assert (row["status"], row["gold"], row["facts"][0]["values"]) == ("answerable", ["team"], ["$14"])


def test_a_set_is_split_frozen_run_and_its_holdout_opened_under_witness(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_set(tmp_path / "set")
    assert main(["split", str(folder), "--json"], settings=settings) == 0
    assert set(json.loads(capsys.readouterr().out)["counts"]) == {"dev", "gate", "holdout"}
    assert main(["freeze", str(folder), "--json"], settings=settings) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert main(["split", str(folder), "--again"], settings=settings) == 2
    assert "was frozen" in capsys.readouterr().err

    run = ["run", "--questions", str(folder), "--arms", "rag_tuned", "--json"]
    assert main([*run, "--split", "dev"], settings=settings) == 4
    assert not (folder / "openings.jsonl").exists(), "nobody looked at the holdout"
    capsys.readouterr()
    assert main([*run, "--split", "holdout", "--run", str(tmp_path / "first")], settings=settings) == 4
    answers = json.loads(capsys.readouterr().out)["arms"]["rag_tuned"]["metrics"]["answer_right"]
    assert answers["k"] == answers["n"] > 0
    assert main([*run, "--split", "holdout", "--run", str(tmp_path / "second")], settings=settings) == 4
    assert "the holdout was opened 1 times before" in capsys.readouterr().err
    opened = [json.loads(line) for line in (folder / "openings.jsonl").read_text().splitlines()]
    assert [each["sha256"] for each in opened] == [manifest["sha256"]] * 2
    assert [(each["kind"], each["run"]) for each in opened] == [("run", "first"), ("run", "second")]
    assert TUNED in opened[0]["versions"]

    record = json.loads((tmp_path / "first" / "run.json").read_text())
    assert record["selection"]["frozen_sha256"] == manifest["sha256"]
    questions = folder / "questions.jsonl"
    questions.chmod(0o644)
    questions.write_text(questions.read_text().replace("$9", "$8"))
    assert main(run, settings=settings) == 2
    assert "changed since it was frozen" in capsys.readouterr().err


def test_too_few_questions_are_not_enough_evidence(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_set(tmp_path / "set", n=3)
    for command in ("split", "freeze"):
        assert main([command, str(folder)], settings=settings) == 4
        assert "3 questions, and nothing can be decided on fewer than 30" in capsys.readouterr().err
    assert not (folder / "manifest.json").exists()


def test_a_set_without_splits_is_not_frozen(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_set(tmp_path / "set")
    assert main(["freeze", str(folder)], settings=settings) == 2
    assert "40 questions have none" in capsys.readouterr().err


@pytest.mark.parametrize("shares", ["dev", "dev=0", "test=1", "dev=-1", "dev=inf"])
def test_shares_that_make_no_split_are_refused(settings: EvalSettings, tmp_path: Path, shares: str) -> None:
    assert main(["split", str(made_set(tmp_path / "set")), "--shares", shares], settings=settings) == 2


async def test_the_fakes_list_of_documents_is_the_gateways(served: Served) -> None:
    headers = {"Authorization": f"Bearer {CUSTOMER_KEY}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{served.url}/v1/documents") as reply,
    ):
        assert DocumentList.model_validate(await reply.json()).documents[0].id == "plus"
