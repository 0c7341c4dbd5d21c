"""A pilot against the gateway itself, with a model that answers from its passages alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eval.errors import GatewayUnavailableError, PilotError
from eval.pilot import command
from eval.pilot.state import PilotFolder, PilotState
from eval.record import RunFolder
from eval.settings import EvalSettings
from retrieval.building import build
from retrieval.store import KnowledgeStore
from serving.wording import load_wording
from tests.fakes.embedding import WordEmbedder
from tests.fakes.responder import AnswerKey, Responder
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    gateway,
    settings,
)

__all__ = ["gateway", "settings"]

GUESTS, HEN = "Are guests free on Sync Team?", "How many eggs does a hen lay a year?"
ANSWERS: dict[str, tuple[str, str, str]] = {
    PRICE_QUESTION: ("sync-plus-price", "$9", "Sync Plus costs $9 a month or $90 a year."),
    REFUND_QUESTION: ("refunds", "30 days", "A full refund is possible within 30 days of a yearly renewal."),
    GUESTS: ("guests", "free", "Guests are free on Sync Team."),
}
TEAM = 'team_size = "startup"\nregulated = false\n[knowledge]\nfreshness_hours = 24\n'


def write_questions(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "id": f"q{n}",
            "text": text,
            "status": "answerable",
            "task_type": "facts",
            "cluster": gold,
            "gold": [gold],
            "facts": [{"values": [fact]}],
        }
        for n, (text, (gold, fact, _)) in enumerate(ANSWERS.items())
    ]
    rows.append({"id": "q9", "text": HEN, "status": "unanswerable", "task_type": "other", "cluster": "farm"})
    file = folder / "asked" / "questions.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "team.toml").write_text(TEAM, encoding="utf-8")
    return file.parent


def answering(gateway: Gateway) -> None:
    keys = [
        AnswerKey(
            question=text,
            facts=((fact,),),
            stale_values=(),
            status="answered",
            answer=answer,
            intent="billing",
            escalate=False,
            escalation_reason="none",
        )
        for text, (_, fact, answer) in ANSWERS.items()
    ]
    keys.append(
        AnswerKey(
            question=HEN,
            facts=(),
            stale_values=(),
            status="abstained",
            answer="",
            intent="how_to",
            escalate=True,
            escalation_reason="not_in_help_centre",
        )
    )
    responder = Responder(keys, load_wording())
    for model in (gateway.stable, gateway.fallback):
        gateway.vllm.program(model, answer=responder)


def settings_for(gateway: Gateway, *, url: str = "") -> EvalSettings:
    return EvalSettings(
        gateway_url=url or gateway.url,
        api_key=SecretStr(gateway.keys.evaluation),
        min_questions=3,
        resamples=200,
        attempts=2,
    )


async def pilot(settings: EvalSettings, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return await command.run(parser.parse_args(["pilot", *words]), settings)


def done(folder: Path) -> PilotState:
    return PilotFolder(folder).read()


async def test_the_whole_week_with_one_command(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(gateway)
    asked, folder = write_questions(tmp_path), tmp_path / "pilot"
    code = await pilot(settings_for(gateway), str(folder), "--questions", str(asked), "--all", "--send")
    state = done(folder)
    said = capsys.readouterr().out
    assert list(state.days) == [1, 2, 3, 4, 5, 6, 7]
    assert code == command.THIN, "four questions decide nothing, and the reports say so"
    assert state.days[7].outputs["verdict"] == "not_enough_evidence"
    assert "50 are the least" in said

    run = RunFolder(folder / "run").read()
    assert [arm.name for arm in run.record.arms] == ["prompt_only", "rag", "oracle"]
    assert not any(seen.failed for seen in run.observations.values())
    assert {
        arm: sum(seen.status == "answered" for (_, name), seen in run.observations.items() if name == arm)
        for arm in ("prompt_only", "rag", "oracle")
    } == {"prompt_only": 0, "rag": 3, "oracle": 3}
    baseline, retrieval = state.days[2].report, state.days[3].report
    labels = {table.title: table.rows for table in baseline.tables}
    assert labels["Failures by primary label, k/n and 95 % interval"][0][0] == "missing_knowledge"
    assert "rag passes 4 of 4 questions, prompt_only 1: +75 points" in retrieval.sentences[0]
    moved = next(table for table in retrieval.tables if table.title.startswith("What became of it"))
    assert ("missing_knowledge", "3", "0", "-") in moved.rows
    assert "No other index version is ready" in state.days[4].report.sentences[0]
    assert any("twinrail knowledge build --name" in note for note in state.days[4].report.notes)
    assert "0 of 4 questions wrong" in state.days[5].report.sentences[0]
    assert state.days[6].outputs["candidates"] == 0
    metrics = json.loads((folder / "rollout-metrics.json").read_bytes())
    assert {each["rail"] for each in metrics} == {"knowledge", "model", "both"}
    assert all(each["threshold"] is None for each in metrics if each["unit"] == "share"), "four answers"
    assert {"pilot.html", "advice.html", "advice.json"} <= {path.name for path in folder.iterdir()}
    _, stored = await gateway.get("/v1/reports/pilot-pilot", key=gateway.keys.evaluation)
    assert (stored["kind"], stored["page_type"]) == ("pilot", "text/html")
    assert stored["page"] == (folder / "pilot.html").read_text()
    turn = run.observations["q0", "prompt_only"].turn_id
    _, found = await gateway.get(f"/v1/turns/{turn}/labels", key=gateway.keys.evaluation)
    assert [label["label"] for label in found["labels"]] == ["missing_knowledge"]

    asked_so_far = len(gateway.vllm.requests)
    assert await pilot(settings_for(gateway), str(folder), "--all") == command.THIN
    assert len(gateway.vllm.requests) == asked_so_far, "a finished week asks nothing"


async def test_a_version_built_later_is_compared_once_day_four_is_done_again(
    gateway: Gateway, tmp_path: Path
) -> None:
    answering(gateway)
    asked, folder, ours = write_questions(tmp_path), tmp_path / "pilot", settings_for(gateway)
    await pilot(ours, str(folder), "--questions", str(asked), "--all")
    store, embedder = KnowledgeStore(gateway.chunks), WordEmbedder(dims=256)
    (stable,) = await store.versions()
    other = stable.derived(name="lexical", dense_weight=0.0)
    await store.register(other)
    await build(store, {embedder.id: embedder}, other.id)
    with pytest.raises(PilotError, match=r"day 4: inputs changed .*index versions was none .*k-lexical"):
        await pilot(ours, str(folder), "--all")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    asked_so_far = len(gateway.vllm.requests)
    await pilot(ours, str(folder), "--all", "--redo")
    state = done(folder)
    assert list(state.days) == [1, 2, 3, 4, 5, 6, 7]
    (arm,) = state.days[4].outputs["arms"]
    assert arm.startswith("rag_lexical")
    # It passes as many as the stable one and no more, so that one goes on.
    assert (state.days[4].outputs["chosen"], state.days[5].outputs["best"]) == (None, "rag")
    first, second = state.days[4].report.sentences
    assert first.endswith("it stays.")
    assert f"{arm} passes" in second
    assert "+0 points" in second
    run = RunFolder(folder / "run-2").read()
    assert [each.name for each in run.record.arms] == ["prompt_only", "rag", arm, "oracle"]
    assert run.record.arms[2].pin.knowledge == f"{other.id}@1"
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    assert len(gateway.vllm.requests) - asked_so_far <= 8, "answers of days 2 and 3 are taken along"


async def test_a_gateway_that_goes_away_leaves_the_day_to_be_gone_on_with(
    gateway: Gateway, tmp_path: Path
) -> None:
    answering(gateway)
    asked, folder, ours = write_questions(tmp_path), tmp_path / "pilot", settings_for(gateway)
    await pilot(ours, str(folder), "--questions", str(asked))
    await pilot(ours, str(folder))
    away = settings_for(gateway, url="http://127.0.0.1:9")
    with pytest.raises(GatewayUnavailableError):
        await pilot(away, str(folder))
    assert list(done(folder).days) == [1, 2]
    await pilot(ours, str(folder))
    assert list(done(folder).days) == [1, 2, 3]


async def test_an_export_becomes_a_frozen_set_without_personal_data(gateway: Gateway, tmp_path: Path) -> None:
    rows = [
        "Message,task_type,Ticket",
        f"{REFUND_QUESTION} Write to ann.lee@example.org,billing,17",
        f"{PRICE_QUESTION},billing,18",
        f"{PRICE_QUESTION},billing,19",
        f"{GUESTS},,20",
    ]
    export = tmp_path / "export.csv"
    export.write_text("\n".join(rows), encoding="utf-8")
    folder, ours = tmp_path / "pilot", settings_for(gateway)
    words = (str(folder), "--questions", str(export), "--column", "text=Message")
    assert await pilot(ours, *words) == command.DONE
    day = done(folder).days[1]
    kept = (folder / day.outputs["set"] / "questions.jsonl").read_text(encoding="utf-8")
    assert "ann.lee" not in kept
    assert day.outputs["questions"] == 3
    report = (folder / day.file).read_text(encoding="utf-8")
    assert "4 of the 4 of" in report
    assert "1 repeated" in report
    assert "Personal data taken out: 1 email" in report
    assert "| billing | 2 |" in report
    for said in ("1 questions have no task type", "3 questions have no status", "mean nothing here: Ticket"):
        assert said in report
    export.write_text("\n".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(PilotError, match=r"day 1: inputs changed since .*\(questions was "):
        await pilot(ours, str(folder))
    await pilot(ours, str(folder), "--day", "1", "--redo")
    assert done(folder).days[1].outputs["questions"] == 2


async def test_bad_input_is_named(gateway: Gateway, tmp_path: Path) -> None:
    asked, ours = write_questions(tmp_path), settings_for(gateway)
    with pytest.raises(PilotError, match=r"--questions .*does not exist"):
        await pilot(ours, str(tmp_path / "a"), "--questions", str(tmp_path / "none.csv"))
    with pytest.raises(PilotError, match="--day 3: before its time"):
        await pilot(ours, str(tmp_path / "b"), "--questions", str(asked), "--day", "3")
    answering(gateway)
    (tmp_path / "team.toml").unlink()
    with pytest.raises(PilotError, match="--team: days 6 and 7"):
        await pilot(ours, str(tmp_path / "c"), "--questions", str(asked), "--all")
    assert list(done(tmp_path / "c").days) == [1, 2, 3, 4, 5]
