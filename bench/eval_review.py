"""How fast a queue is reviewed with keys only: what the page and the gateway take, without the reader's own time.

    python -m bench.eval_review [--turns 100]

A real Chromium, a real gateway on a real PostgreSQL, a fake engine. Each turn takes two keys: one that says what is
wrong (A, P or a label in turn) and N for the next. Measured is the time from a key to the moment when the page shows
that it was kept, and from N to the next turn on the screen. Beside it, in the same run, the same readings as bare
requests one after the other, as a script would send them: queue, turn, review, labels, reading.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision
from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply, started
from tests.integration.telemetry.chromium import PROGRAM, Page, chromium

RESULT = Path(__file__).parent / "results" / "eval_review.json"
ANSWER = "A full refund is possible within 30 days of a yearly renewal."
#: What is pressed, in turn.
KEYS = ("a", "p", "4", "a", "6", "a", "1", "p")
PROPOSED = {
    "label": "stale_knowledge",
    "sub": "index",
    "rule": "4b",
    "checks": [{"name": "valid_version_indexed", "value": False}],
    "criteria": "c1-5e6f7a8b",
    "source": "auto",
}
_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_PASSWORD = "bench"  # of a server that lives as long as this program


async def fill(gateway: Gateway, turns: int) -> None:
    """Labelled turns that wait."""
    gateway.vllm.program(gateway.stable, answer=reply(ANSWER))
    for _ in range(turns):
        _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
        url = f"{gateway.url}/v1/turns/{body['id']}/labels"
        headers = gateway.headers(gateway.keys.evaluation)
        async with gateway.session.put(url, json=PROPOSED, headers=headers) as response:
            response.raise_for_status()
    await gateway.state.recorder.flushed()


async def with_keys(gateway: Gateway, page: Page, turns: int) -> list[float]:
    """Seconds of each turn: two keys, until the next turn is on the screen."""
    await page.open(f"{gateway.url}/console/review#key={gateway.keys.staff}")
    await page.until("document.querySelector('.turn-review')")
    took = []
    for number in range(turns):
        now = await page.evaluate("document.querySelector('.turn-review').dataset.review")
        began = time.perf_counter()
        await page.press(KEYS[number % len(KEYS)])
        await _frame(page, "document.querySelector('.turn-review')?.dataset.saved === 'yes'")
        await page.press("n")
        await _frame(page, f"document.querySelector('.turn-review')?.dataset.review !== '{now}'")
        took.append(time.perf_counter() - began)
    assert not page.problems, page.problems
    return took


async def _frame(page: Page, script: str) -> None:
    """Wait for the first frame in which something is true."""
    await page.evaluate(
        "new Promise((done) => { const look = () => "
        f"({script}) ? done(true) : requestAnimationFrame(look); look(); }})"
    )


async def with_requests(gateway: Gateway, turns: int) -> list[float]:
    """Seconds of each turn as bare requests."""
    key, took = gateway.keys.staff, []
    for _ in range(turns):
        began = time.perf_counter()
        _, queue = await gateway.get("/v1/reviews?state=open&unread=true&limit=1", key=key)
        turn = queue["reviews"][0]["id"]
        for path in (f"/v1/turns/{turn}", f"/v1/reviews/{turn}", f"/v1/turns/{turn}/labels"):
            await gateway.get(path, key=key)
        body = {"ending": "knowledge_gap", "label": "stale_knowledge", "sub": "index"}
        status, _, _ = await gateway.post(f"/v1/reviews/{turn}", body, key=key)
        assert status == 200
        took.append(time.perf_counter() - began)
    return took


async def measure(turns: int, folder: Path) -> dict[str, Any]:
    """Both ways, each on turns of its own."""
    server = EmbeddedPostgres(folder / "pg", settings=_HASTY)
    server.start()
    try:
        url = provision(server.admin_url, database="bench", password=_PASSWORD, role="bench")
        await migrate(url)
        settings = GatewaySettings(
            port=0, spool_dir=folder / "spool", review_sample_share=0.0, review_second_share=0.0
        )
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(started(url, folder, settings))
            page = await stack.enter_async_context(chromium(gateway.session, folder / "profile"))
            await fill(gateway, 2 * turns)
            bare = await with_requests(gateway, turns)
            return {
                "turns": turns,
                "keys": _told(await with_keys(gateway, page, turns)),
                "requests": _told(bare),
            }
    finally:
        server.stop()


def _told(seconds: Sequence[float]) -> dict[str, float]:
    median = statistics.median(seconds)
    return {
        "median_ms": round(1000 * median, 1),
        "p95_ms": round(1000 * statistics.quantiles(seconds, n=20)[-1], 1),
        "per_minute": round(60 / statistics.fmean(seconds), 1),
    }


def main() -> None:
    """Print the table and write the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_review", description=__doc__)
    parser.add_argument("--turns", type=int, default=100, help="turns each way")
    turns = parser.parse_args().turns
    if PROGRAM is None:
        raise SystemExit("chromium: not found; install the Debian package chromium")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="twinrail-review-") as folder:
        result = asyncio.run(measure(turns, Path(folder)))
    ratio = result["keys"]["median_ms"] / result["requests"]["median_ms"]
    print(f"{'way':<10}{'median':>12}{'p95':>12}{'a minute':>12}{'ratio':>8}")
    for name, share in (("requests", 1.0), ("keys", ratio)):
        told = result[name]
        print(
            f"{name:<10}{told['median_ms']:>9} ms{told['p95_ms']:>9} ms{told['per_minute']:>12}{share:>8.2f}"
        )
    told = {**result, "ratio": round(ratio, 2), "machine": machine}
    RESULT.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
