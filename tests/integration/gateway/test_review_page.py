"""The review page in a real browser, worked with keys only."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import PRICE_QUESTION, REFUND_QUESTION, Gateway, reply
from tests.integration.gateway.test_reviews import reader
from tests.integration.telemetry.chromium import PROGRAM, Page, chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium (Debian package) is absent")

REFUND = "A full refund is possible within 30 days of a yearly renewal."
PRICE = "Sync Plus costs $9 a month or $90 a year."
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> Is a refund possible after a yearly renewal?"
PROPOSED: dict[str, Any] = {
    "label": "stale_knowledge",
    "sub": "index",
    "rule": "4b",
    "contributing": [{"label": "wrong_tone"}],
    "checks": [
        {"name": "gold_in_corpus", "value": True, "detail": "refunds@2"},
        {"name": "valid_version_indexed", "value": False, "detail": "snapshot 3 is older"},
        {"name": "tone", "value": None},
    ],
    "criteria": "c1-5e6f7a8b",
    "cluster": "refunds",
    "source": "auto",
}
SHOWN = "document.querySelector('.turn-review')"
IDLE = "document.body.dataset.busy === 'no'"
CHOSEN = "document.getElementById('chosen')?.textContent"
PROGRESS = "document.getElementById('progress').textContent"


@pytest.fixture
async def page(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Page]:
    """A fresh browser."""
    async with chromium(gateway.session, tmp_path / "profile") as page:
        yield page


@pytest.fixture
def settings(settings: GatewaySettings, request: pytest.FixtureRequest) -> GatewaySettings:
    """With `second`, everything is read twice."""
    share = 1.0 if request.node.get_closest_marker("parametrize") else 0.0
    return settings.model_copy(update={"review_second_share": share})


async def waiting(gateway: Gateway) -> list[str]:
    """Three turns that wait: one labelled, one disliked, one that looks like markup."""
    turns = []
    for question, answer in ((REFUND_QUESTION, REFUND), (PRICE_QUESTION, PRICE), (HOSTILE, REFUND)):
        gateway.vllm.program(gateway.stable, answer=reply(answer))
        _, body, _ = await gateway.post("/v1/answers", {"question": question})
        turns.append(str(body["id"]))
    await gateway.state.recorder.flushed()
    headers = gateway.headers(gateway.keys.evaluation)
    url = f"{gateway.url}/v1/turns/{turns[0]}/labels"
    async with gateway.session.put(url, json=PROPOSED, headers=headers) as response:
        assert response.status == 200
    for turn in turns[1:]:
        said = {"turn_id": turn, "rating": "down", "comment": "That is the old price."}
        await gateway.post("/v1/feedback", said)
    return turns


async def open_page(gateway: Gateway, page: Page, key: str | None = None) -> None:
    await page.open(f"{gateway.url}/console/review#key={key or gateway.keys.staff}")
    await page.until(f"{SHOWN} && {IDLE}")


async def pressed(page: Page, *keys: str) -> None:
    for key in keys:
        await page.press(key)
        await page.until(IDLE)


async def review(gateway: Gateway, turn: str) -> dict[str, Any]:
    _, body = await gateway.get(f"/v1/reviews/{turn}", key=gateway.keys.staff)
    return body


async def shown_is(page: Page, turn: str) -> None:
    await page.until(f"{SHOWN}?.dataset.review === '{turn}' && {IDLE}")


async def test_three_turns_with_keys_only(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    labelled, disliked, hostile = await waiting(gateway)
    await open_page(gateway, page)
    await shown_is(page, labelled)
    assert await page.evaluate(PROGRESS) == "0 of 3 read"
    text = await page.evaluate(f"{SHOWN}.innerText")
    for told in (REFUND_QUESTION, REFUND, "stale knowledge", "Rule 4b", "snapshot 3 is older", "current"):
        assert told in text
    marks = await page.evaluate("[...document.querySelectorAll('mark.supports')].map((m) => m.textContent)")
    assert {"30", "refund", "renewal"} <= set(marks)
    await page.screenshot(shots(tmp_path) / "review-open.png")

    # Accept what is proposed; take it back; accept it again with a note.
    await pressed(page, "a")
    await page.until(f"{CHOSEN} === 'stale knowledge (index) → knowledge gap'")
    assert (await review(gateway, labelled))["ending"] == "knowledge_gap"
    await pressed(page, "u")
    await page.until(f"{SHOWN}.dataset.saved === 'no' && {IDLE}")
    assert (await review(gateway, labelled))["state"] == "open"
    await pressed(page, "a", "m")
    await page.until("document.getElementById('editor').open")
    await page.type("Renewals changed in March.")
    await page.press("Enter", ctrl=True)
    await page.until(f"{SHOWN}.innerText.includes('Renewals changed')")
    closed = await review(gateway, labelled)
    assert (closed["label"], closed["sub"], closed["note"]) == (
        "stale_knowledge",
        "index",
        "Renewals changed in March.",
    )

    # A label of one's own, then the answer as it should have been.
    await pressed(page, "n")
    await shown_is(page, disliked)
    assert "That is the old price." in await page.evaluate(f"{SHOWN}.innerText")
    await pressed(page, "4")
    await page.until(f"{CHOSEN} === 'hallucination → training example'")
    await pressed(page, "r")
    await page.until(f"{CHOSEN} === 'hallucination → regression test'")
    await pressed(page, "e")
    await page.until("document.getElementById('editor').open")
    assert await page.evaluate("document.getElementById('editor-text').value") == PRICE
    await page.evaluate("document.getElementById('editor-text').select()")
    await page.type("Sync Plus is $10 a month.")
    await page.press("Enter", ctrl=True)
    await page.until(f"{SHOWN}.innerText.includes('$10 a month')")
    corrected = await review(gateway, disliked)
    assert (corrected["ending"], corrected["corrected_answer"]) == (
        "training_example",
        "Sync Plus is $10 a month.",
    )
    await page.screenshot(shots(tmp_path) / "review-said.png")

    # A pass, then on with nothing left; undo goes back to it.
    await pressed(page, "n")
    await shown_is(page, hostile)
    assert await page.evaluate("document.title") == "Twinrail review"
    assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    await pressed(page, "p", "n")
    await page.until("document.body.innerText.includes('Nothing waits')")
    assert await page.evaluate(PROGRESS) == "3 of 3 read"
    await pressed(page, "u")
    await shown_is(page, hostile)
    await page.until(f"{PROGRESS} === '2 of 3 read'")
    assert page.problems == []
    for width in (1400, 400):
        await page.resize(width, 1000)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.screenshot(shots(tmp_path) / f"review-{width}.png")


@pytest.mark.parametrize("second", [True])
async def test_a_second_reader_sees_nothing_of_the_first(gateway: Gateway, page: Page, second: bool) -> None:
    labelled, *_ = await waiting(gateway)
    first = {"ending": "policy_case", "label": "policy_violation", "note": "told the limit"}
    await gateway.post(f"/v1/reviews/{labelled}", first, key=gateway.keys.staff)
    other = await reader(gateway)
    await open_page(gateway, page, other)
    await page.evaluate(
        "(() => { const mode = document.getElementById('filter-state'); mode.value = 'second';"
        " mode.dispatchEvent(new Event('change')); })()"
    )
    await shown_is(page, labelled)
    text = await page.evaluate(f"{SHOWN}.querySelector('.saying').innerText")
    assert "policy" not in text
    assert "told the limit" not in await page.evaluate("document.body.innerText")
    await pressed(page, "a")
    await page.until("document.querySelector('.others')")
    text = await page.evaluate("document.querySelector('.others').innerText")
    assert "policy violation" in text
    assert "told the limit" in text
    assert (await review(gateway, labelled))["state"] == "disputed"
    assert "two readers gave the same label in 0 of 1" in await page.evaluate(
        "document.getElementById('agreement').textContent"
    )


async def test_filters_and_a_key_that_may_not_review(gateway: Gateway, page: Page) -> None:
    labelled, disliked, _ = await waiting(gateway)
    await page.open(f"{gateway.url}/console/review#key={gateway.keys.customer}")
    await page.until("!document.getElementById('gate').hidden")
    assert (
        await page.evaluate("document.getElementById('gate-title').textContent") == "This key may not review"
    )
    await page.evaluate(
        f"document.getElementById('gate-key').value = {gateway.keys.staff!r};"
        "document.getElementById('gate-form').requestSubmit()"
    )
    await shown_is(page, labelled)
    assert await page.evaluate("document.getElementById('gate').hidden")
    await page.evaluate(
        "(() => { const reason = document.getElementById('filter-reason');"
        " reason.value = 'negative_feedback'; reason.dispatchEvent(new Event('change')); })()"
    )
    await shown_is(page, disliked)
    assert await page.evaluate(PROGRESS) == "0 of 2 read"


async def test_an_abstention_shows_what_was_found_and_sources_show_their_dates(
    gateway: Gateway, page: Page
) -> None:
    await gateway.post("/v1/answers", {"question": "zebra quantum bagpipes refunds"})
    await gateway.state.recorder.flushed()
    await open_page(gateway, page)
    text = await page.evaluate(f"{SHOWN}.querySelector('.sources').innerText")
    assert "Retrieval had found:" in text
    assert "Confidence" in text
    assert "refunds" in text

    # The same page with an answer whose documents have a date, have changed and are erased.
    citations = [
        {"n": n, "document_id": f"d{n}", "title": f"T{n}", "start": 10, "end": 20} for n in (1, 2, 3)
    ]
    turn = {
        "created_at": "2026-03-01T10:00:00Z",
        "question": "How much?",
        "status": "answered",
        "answer": {"answer": "It is $9.", "citations": citations},
        "cited": [
            {"n": 1, "current": True},
            {"n": 2, "current": False, "changed_at": "2026-02-03T00:00:00Z"},
            {"n": 3, "current": False, "erased_at": "2026-02-04T00:00:00Z"},
        ],
        "used": {
            "passages": [
                {"n": n, "document_id": f"d{n}", "title": f"T{n}", "start": 10, "text": "Costs $9 a month"}
                | {"effective_from": "2026-01-16"}
                for n in (1, 2, 3)
            ]
        },
    }
    shown = {
        "review": {"id": "x", "state": "open", "reasons": ["sample"], "ticket": "sample", "readings": []},
        "turn": turn,
        "labels": [],
        "draft": {"label": None, "ending": None},
    }
    text = await page.evaluate(
        "import('/console/ticket.js').then(({showReview}) => { const place = document.createElement('div');"
        f" showReview(place, {json.dumps(shown)}, new Proxy({{}}, {{get: () => () => null}}));"
        " return [...place.querySelectorAll('.source')].map((each) => each.textContent); })"
    )
    assert len(text) == 3
    assert all("in force since 2026-01-16" in each for each in text)
    assert "current" in text[0]
    assert "changed since, 2026-02-03" in text[1]
    assert "erased 2026-02-04" in text[2]


def shots(folder: Path) -> Path:
    """Where pictures go: CONSOLE_SHOTS to look at them, else a temporary folder."""
    return Path(os.environ.get("CONSOLE_SHOTS", folder))
