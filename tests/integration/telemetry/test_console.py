"""The console page in a real browser on the running gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.telemetry.chromium import PROGRAM, Page, chromium
from tests.integration.telemetry.conftest import Observed
from tests.integration.telemetry.load import without_engine, without_retrieval
from tests.integration.telemetry.running_gateway import INVENTED, OFF_TOPIC, PERSON, REFUND

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(PROGRAM is None, reason="chromium (Debian package) is absent"),
]

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> refund renewal?"
)
ROWS = "document.querySelectorAll('details.turn').length"
STATE = "document.getElementById('link').dataset.state"


@pytest_asyncio.fixture(loop_scope="module")
async def page(observed: Observed, tmp_path: Path) -> AsyncIterator[Page]:
    """A fresh browser: nothing is remembered from another test."""
    async with chromium(observed.gateway.session, tmp_path / "profile") as page:
        yield page


def row(question: str) -> str:
    """JavaScript for the row of a question."""
    return (
        "[...document.querySelectorAll('details.turn')]"
        f".find((turn) => turn.querySelector('.question').textContent.includes({question!r}))"
    )


async def test_without_a_key_and_with_a_wrong_one_it_says_what_to_do(observed: Observed, page: Page) -> None:
    url = f"{observed.gateway.url}/console"
    await page.open(url)
    await page.until("!document.getElementById('gate').hidden")
    assert await page.evaluate("document.getElementById('gate-title').textContent") == "A key is needed"
    assert await page.evaluate("document.querySelectorAll('#health li').length") >= 3
    await page.evaluate(
        "document.getElementById('gate-key').value = 'tw_wrong';"
        "document.getElementById('gate-form').requestSubmit()"
    )
    await page.until("document.getElementById('gate-title').textContent === 'This key is not valid'")
    await page.evaluate(
        f"document.getElementById('gate-key').value = {observed.gateway.customer_key!r};"
        "document.getElementById('gate-form').requestSubmit()"
    )
    await page.until("document.getElementById('gate-title').textContent === 'This key may not read turns'")
    await page.evaluate(
        f"document.getElementById('gate-key').value = {observed.gateway.reviewer_key!r};"
        "document.getElementById('gate-form').requestSubmit()"
    )
    await page.until(f"{STATE} === 'live'")
    assert await page.evaluate("document.getElementById('gate').hidden")


async def test_turns_show_their_two_layers_apart(observed: Observed, page: Page, tmp_path: Path) -> None:
    gateway = observed.gateway
    answer = await gateway.ask(REFUND)
    for question in (OFF_TOPIC, PERSON, INVENTED, HOSTILE):
        await gateway.ask(question)
    await without_retrieval(gateway)
    await without_engine(gateway)
    await page.open(f"{gateway.url}/console#key={gateway.reviewer_key}")
    await page.until(f"{ROWS} >= 7 && {STATE} === 'live'")

    assert await page.evaluate("location.href") == f"{gateway.url}/console", "the key left the address bar"
    rails = await page.evaluate("document.getElementById('rails').innerText")
    for version in (gateway.knowledge, gateway.stable, gateway.fallback, "@1"):
        assert version in rails

    await page.evaluate(f"document.querySelector('[data-turn=\"{answer['id']}\"]').open = true")
    await page.until("document.querySelector('details[open] .layer.generation')")
    retrieval = await page.evaluate("document.querySelector('details[open] .layer.retrieval').innerText")
    generation = await page.evaluate("document.querySelector('details[open] .layer.generation').innerText")
    said = await page.evaluate("document.querySelector('details[open] .answer').innerText")
    assert answer["versions"]["knowledge"] in retrieval
    assert "Refunds" in retrieval
    assert "cited" in retrieval
    assert gateway.stable in generation
    assert answer["citations"][0]["quote"] in said
    assert answer["trace_id"] in said

    # Each failure is marked on its own layer, and on that one only.
    marks = (
        "(row) => [...row.querySelectorAll('.strip')].map((strip) => strip.querySelectorAll('.pill').length)"
    )
    degraded = f"[...document.querySelectorAll('details.turn')].map({marks})"
    counted = await page.evaluate(degraded)
    assert [True, False] in [[bool(left), bool(right)] for left, right in counted]
    assert [False, True] in [[bool(left), bool(right)] for left, right in counted]

    # A refusal is the request's fault, so it stands at the status and on neither layer.
    await gateway.ask("Whose fault is a refusal?", pin={"model": gateway.fallback})
    refused = row("Whose fault")
    await page.until(refused)
    assert await page.evaluate(f"({marks})({refused}).join()") == "0,0"
    meta = await page.evaluate(f"{refused}.querySelector('.turn-meta').innerText")
    assert "The key does not allow this" in meta
    await page.evaluate(f"{refused}.open = true")
    await page.until(f"{refused}.querySelector('.layer.generation')")
    opened = await page.evaluate(f"{refused}.querySelector('.turn-body').innerText")
    assert opened.count("Not asked: the request was refused.") == 2
    assert "scope eval" in opened

    # A customer's markup is text.
    assert await page.evaluate("document.title") == "Twinrail console"
    assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert await page.evaluate(f"Boolean({row('onerror')})")
    assert page.problems == []

    for width in (1400, 400):
        await page.resize(width, 1000)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.screenshot(shots(tmp_path) / f"console-{width}.png")


async def test_a_refresh_keeps_what_is_open_and_adds_what_is_new(observed: Observed, page: Page) -> None:
    gateway = observed.gateway
    opened = await gateway.ask(REFUND)
    await page.open(f"{gateway.url}/console#key={gateway.reviewer_key}")
    mine = f"document.querySelector('[data-turn=\"{opened['id']}\"]')"
    await page.until(mine)
    await page.evaluate(f"{mine}.open = true; {mine}.marked = true; {mine}.querySelector('summary').focus()")
    await page.until(f"{mine}.querySelector('.layer')")
    newer = await gateway.ask(REFUND)
    await page.until(f"document.querySelector('[data-turn=\"{newer['id']}\"]')")
    assert await page.evaluate(f"{mine}.open && {mine}.marked")
    assert await page.evaluate(f"document.activeElement === {mine}.querySelector('summary')")
    order = "[...document.querySelectorAll('details.turn')].map((turn) => turn.dataset.turn)"
    shown = await page.evaluate(order)
    assert shown.index(newer["id"]) < shown.index(opened["id"])


async def test_a_gateway_that_is_down_is_said_and_what_is_known_stays(observed: Observed, page: Page) -> None:
    gateway = observed.gateway
    await gateway.ask(REFUND)
    await page.open(f"{gateway.url}/console#key={gateway.reviewer_key}")
    await page.until(f"{STATE} === 'live' && {ROWS} > 0")
    await page.call("Network.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await page.call("Network.emulateNetworkConditions", **offline)
    await page.until(f"{STATE} === 'down'")
    assert "does not answer" in await page.evaluate("document.getElementById('link').textContent")
    assert await page.evaluate(ROWS) > 0
    await page.call("Network.emulateNetworkConditions", **{**offline, "offline": False})
    await page.until(f"{STATE} === 'live'")


def shots(folder: Path) -> Path:
    """Where pictures go: CONSOLE_SHOTS to look at them, else a temporary folder."""
    return Path(os.environ.get("CONSOLE_SHOTS", folder))
