"""Live traffic of the real gateway by the metrics of a run; the same turn gives the same value both ways."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eval.answer_scores import AnswerScorer
from eval.arms import choose_arms
from eval.cases import Case, CaseSet
from eval.cli import main
from eval.client import GatewayClient
from eval.metrics import METRICS
from eval.online.measuring import GroupBy, Online, Source, measure_online, review_outcomes, turn_outcomes
from eval.online.online_report import online_json, online_text
from eval.online.recorded import Window, live_turn, read_window
from eval.record import RunFolder
from eval.scorers import NotApplicable, Score
from eval.scoring import build_scoring
from eval.settings import EvalSettings
from gateway.access import KeyStore
from gateway.settings import GatewaySettings
from serving.versions import SCHEMAS
from tests.integration.eval.asking import asked_all
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    reply,
    settings,
    started,
    without_a_document,
)

__all__ = ["settings"]

pytestmark = pytest.mark.usefixtures("help_centre")

SCORING = build_scoring(schema=SCHEMAS / "support_answer.json")
FOUND_NOTHING = "zebra quantum bagpipes"
RIGHT = reply("Sync Plus costs $9 a month or $90 a year.")
INVENTED = reply("Sync Plus costs $7 a month or $70 a year.")


@pytest.fixture
async def live(database_url: str, tmp_path: Path, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway whose sample is every answer."""
    every = settings.model_copy(update={"review_sample_share": 1.0})
    async with started(database_url, tmp_path, every) as running:
        yield running


def client_of(gateway: Gateway, **more: str) -> GatewayClient:
    keys = {"customer": gateway.keys.evaluation, **more}
    return GatewayClient(gateway.session, url=gateway.url, keys=keys, attempts=2, first_pause_s=0.01)


async def ask(gateway: Gateway, question: str, *, model: str = RIGHT, **body: Any) -> str:
    gateway.vllm.program(gateway.stable, answer=model)
    key = gateway.keys.evaluation if "pin" in body else None
    status, answer, _ = await gateway.post("/v1/answers", {"question": question, **body}, key=key)
    assert status == 200, answer
    await gateway.stored(answer["id"])
    return str(answer["id"])


async def review(gateway: Gateway, turn: str, label: str | None, sub: str = "", **more: Any) -> None:
    ending = "training_example" if label else "no_fault"
    body = {"ending": ending, "label": label, "sub": sub, **more}
    status, answer, _ = await gateway.post(f"/v1/reviews/{turn}", body, key=gateway.keys.staff)
    assert status == 200, answer
    assert answer["state"] == "closed", "nobody else has to read it"


def window(**more: Any) -> Window:
    now = datetime.now(UTC)
    return Window(since=now - timedelta(hours=1), until=now + timedelta(hours=1), **more)


async def measured(gateway: Gateway, *, by: GroupBy = GroupBy.PAIR, floor: int = 1, **more: Any) -> Online:
    asked = window(**more)
    recording = await read_window(client_of(gateway), asked, at_once=4, out=io.StringIO())
    return measure_online(recording, asked, SCORING, by=by, floor=floor)


def numbers(online: Online, source: Source, group: int = 0) -> dict[str, tuple[int, int]]:
    return {
        line.metric.name: (line.rate.k, line.rate.n)
        for line in online.groups[group].lines
        if line.source is source and line.rate is not None
    }


async def test_live_turns_by_the_metrics_of_a_run(live: Gateway) -> None:
    right = await ask(live, PRICE_QUESTION)
    wrong = await ask(live, PRICE_QUESTION, model=reply("Sync Plus costs $90 a month."))
    nothing = await ask(live, FOUND_NOTHING)
    unread = await ask(live, REFUND_QUESTION, model=reply("A full refund is possible within 30 days!"))
    await ask(live, PRICE_QUESTION, pin={"model": live.stable})
    await review(live, right, None)
    await review(live, wrong, "weak_reasoning", "wrong_passage", corrected_answer="$9 a month.")
    await review(live, nothing, "missing_knowledge")
    await live.post("/v1/feedback", {"turn_id": unread, "rating": "down"})

    online = await measured(live)
    (group,) = online.groups
    assert (group.knowledge, group.model) == (await stable_knowledge(live), live.stable)
    assert (online.turns, group.sampled, group.reviewed) == (4, 4, 3), "pinned turns are no live traffic"
    assert group.statuses == {"answered": 3, "abstained": 1}
    assert group.feedback == {"down": 1}
    assert numbers(online, Source.TURNS) == {
        "format_valid": (3, 3),
        "hallucination_draft": (0, 3),
        "hallucination_served": (0, 4),
        "tone_kept": (3, 4),
        "policy_broken": (0, 4),
        "citations_valid": (3, 3),
    }
    reviews = numbers(online, Source.REVIEWS)
    assert reviews == {
        "hit": (2, 2),
        "gold_in_prompt": (2, 2),
        "answer_right": (2, 3),
        "facts_right": (1, 2),
        "status_right": (3, 3),
        "hallucination_served": (0, 3),
        "corrected": (1, 3),
        "abstained_when_due": (1, 1),
        "abstained_wrongly": (0, 2),
        "tone_kept": (1, 1),
        "policy_broken": (0, 3),
    }
    stages = {stage.name: stage for stage in group.stages}
    assert stages["retrieval"].n == 4
    assert stages["generation"].n == 3, "an abstention generates nothing"
    assert stages["total"].p95_ms is None


async def stable_knowledge(gateway: Gateway) -> str:
    stable = (await client_of(gateway).pointers())["knowledge"]["stable"]
    return str(stable).partition("@")[0]


async def test_only_the_random_sample_is_a_rate(database_url: str, tmp_path: Path) -> None:
    settings = GatewaySettings(
        port=0, spool_dir=tmp_path / "spool", review_sample_share=0.0, review_second_share=0.0
    )
    async with started(database_url, tmp_path, settings) as gateway:
        turn = await ask(gateway, PRICE_QUESTION)
        await gateway.post("/v1/feedback", {"turn_id": turn, "rating": "down"})
        await review(gateway, turn, "weak_reasoning")
        chosen = {"turn_id": turn, "reason": "sample"}
        status, problem, _ = await gateway.post("/v1/reviews", chosen, key=gateway.keys.staff)
        assert (status, problem["field"]) == (422, "reason"), "nobody chooses what the sample holds"
        online = await measured(gateway)
    assert (online.groups[0].sampled, online.groups[0].reviewed) == (0, 0)
    assert numbers(online, Source.REVIEWS) == {}
    assert "weak" not in online_text(online)


async def test_below_the_floor_there_is_no_number(live: Gateway) -> None:
    turn = await ask(live, PRICE_QUESTION)
    await review(live, turn, None)
    online = await measured(live, floor=30)
    assert online.thin == ("1 turns; at least 30 are needed",)
    (group,) = online_json(online)["groups"]
    for metric in group["metrics"]:
        assert "value" not in metric, metric
        assert metric["not_enough_because"]
    assert "%" not in online_text(online).split("metric  ")[1].split("Milliseconds")[0].replace("95 %", "")
    assert "retrieval miss rate" in online_text(online)


async def test_windows_and_versions(live: Gateway) -> None:
    await ask(live, PRICE_QUESTION)
    await ask(live, REFUND_QUESTION, conversation_id="second")
    stable = await stable_knowledge(live)
    assert (await measured(live, version=stable)).turns == 2
    assert (await measured(live, version=live.stable)).turns == 2
    assert (await measured(live, version="m-other-00000000")).turns == 0
    assert (await measured(live, limit=1)).cut
    await live.post("/v1/answers", {"question": PRICE_QUESTION}, key=live.keys.staff)
    client = client_of(live, staff=live.keys.staff)
    latest = await read_window(client, window(limit=1), at_once=1, out=io.StringIO())
    assert ([turn.asker for turn in latest.turns], latest.cut) == (["staff"], True), "of all keys together"
    past = replace(window(), until=datetime.now(UTC) - timedelta(minutes=30))
    recording = await read_window(client_of(live), past, at_once=1, out=io.StringIO())
    assert recording.turns == ()
    by_model = await measured(live, by=GroupBy.MODEL)
    assert [(group.knowledge, group.model) for group in by_model.groups] == [("all", live.stable)]
    query = window().query(conversation_id="second")
    status, listed = await live.get(f"/v1/turns?{query}", key=live.keys.evaluation)
    assert (status, len(listed["turns"])) == (200, 1)


PRICE = Case(
    id="price",
    topic="plans",
    split="dev",
    text=PRICE_QUESTION,
    kind="answerable",
    gold=("sync-plus-price",),
    facts=(("$9",), ("$90",)),
    status="answered",
)
CASES = (
    PRICE,
    replace(PRICE, id="wrong", text="What does Sync Plus cost a month or a year?"),
    replace(PRICE, id="tone", text="What is the price of Sync Plus a month or a year?"),
    replace(
        PRICE, id="nothing", text=FOUND_NOTHING, kind="unanswerable", gold=(), facts=(), status="abstained"
    ),
    replace(
        PRICE, id="missed", text="Are guests free on Sync Team?", gold=("guest-prices",), facts=(("$2",),)
    ),
)
#: What a reader says of each of them who knows what the answer key says.
REVIEWS = {
    "price": (None, ""),
    "wrong": ("hallucination", "wrong_fact"),
    "tone": ("wrong_tone", ""),
    "nothing": (None, ""),
    "missed": ("wrong_retrieval", "miss"),
}
#: What an answer key knows and a review does not, and what offline stands for a review.
KEY_ONLY = {"facts_some", "answer_vital", "cites_gold", "would_be_corrected", "corrected"}


def written(body: dict[str, Any]) -> str:
    asked = str(body["messages"])
    if "What does Sync Plus" in asked:
        return INVENTED
    if "price of Sync Plus" in asked:
        return reply("Sync Plus costs $9 a month or $90 a year!")
    if "Are guests free" in asked:
        return reply("Guests are free on Sync Team.")
    return RIGHT


async def test_the_same_turn_gives_the_same_value_offline_and_online(live: Gateway, tmp_path: Path) -> None:
    live.vllm.program(live.stable, answer=written)
    live.vllm.program(live.fallback, answer=INVENTED)
    client = client_of(live)
    arms = choose_arms(["rag_tuned"], [])
    cases = CaseSet.of("five questions", CASES)
    data = await asked_all(client, live.url, RunFolder(tmp_path / "run"), cases, arms)
    scorer = AnswerScorer(data, SCORING)
    compared: set[str] = set()
    for (case_id, _), seen in data.observations.items():
        assert not seen.failed, seen
        asked = {"turn_id": seen.turn_id, "reason": "canary_disagreement"}
        await live.post("/v1/reviews", asked, key=live.keys.staff)
        label, sub = REVIEWS[case_id]
        await review(live, seen.turn_id, label, sub)
        row = await client.get(f"/v1/turns/{seen.turn_id}", asker="customer")
        status, stored = await live.get(f"/v1/reviews/{seen.turn_id}", key=live.keys.evaluation)
        assert status == 200
        turn = live_turn(row, asker="customer", review=stored)
        offline = scorer.score(seen)
        online = {**turn_outcomes(turn, SCORING), **review_outcomes(turn)}
        for metric in METRICS:
            name = metric.name
            if name in KEY_ONLY or name not in online:
                continue
            first, second = offline[name], online[name]
            if isinstance(first, Score) and isinstance(second, Score):
                assert first.value == second.value, (case_id, name, first, second)
                compared.add(name)
            elif isinstance(second, Score):
                assert isinstance(first, NotApplicable), (case_id, name, first, second)
    assert compared >= {
        *("hit", "gold_in_prompt", "answer_right", "facts_right", "status_right", "format_valid"),
        *("hallucination_draft", "hallucination_served", "abstained_when_due", "abstained_wrongly"),
        *("tone_kept", "citations_valid", "policy_broken"),
    }


async def test_the_command_prints_stores_scores_and_sends_a_report(
    live: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = await ask(live, PRICE_QUESTION)
    settings = EvalSettings(
        gateway_url=live.url, api_key=SecretStr(live.keys.evaluation), attempts=2, min_questions=1
    )

    def run(*words: str) -> int:
        return main(["online", *words], settings=settings)

    assert await asyncio.to_thread(run, "--send", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["turns"] == 1
    staff = await KeyStore(live.database).create(
        name="reader", tenant="acme", principals=["public"], scopes=["review"]
    )
    status, reports = await live.get("/v1/reports?kind=online", key=staff.secret)
    assert (status, len(reports["reports"])) == (200, 1)
    _, report = await live.get(f"/v1/reports/{reports['reports'][0]['name']}", key=staff.secret)
    assert report["content"] == printed
    _, scores = await live.get(f"/v1/turns/{turn}/scores", key=staff.secret)
    stored = {score["name"]: score["value"] for score in scores["scores"]}
    assert stored["format_valid"] == 1
    assert "hit" not in stored, "only what the turn shows by itself"

    await without_a_document(live, turn)
    assert await asyncio.to_thread(run, "--send") == 0
    capsys.readouterr()
    _, scores = await live.get(f"/v1/turns/{turn}/scores", key=staff.secret)
    kept = {score["name"]: score["value"] for score in scores["scores"]}
    assert kept == stored, "what was measured before an erasure stays"

    assert await asyncio.to_thread(run, "--send", "--json", "--version", live.stable) == 0
    capsys.readouterr()
    _, reports = await live.get("/v1/reports?kind=online", key=staff.secret)
    names = [report["name"] for report in reports["reports"]]
    assert sorted(name.endswith(f"-pair-{live.stable}") for name in names) == [False, True]

    assert await asyncio.to_thread(run, "--since", "2026-02-01", "--until", "2026-01-01") == 2
    assert "--until" in capsys.readouterr().err
    assert await asyncio.to_thread(run, "--since", "yesterday") == 2
    assert await asyncio.to_thread(run, "--until", "2026-01-02") == 4
    assert "0 turns; at least 1 are needed" in capsys.readouterr().err
