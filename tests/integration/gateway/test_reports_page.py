"""The reports page in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access import KeyStore
from tests.integration.gateway.conftest import Gateway
from tests.integration.gateway.test_labels import client_of
from tests.integration.gateway.test_review_page import shots
from tests.integration.telemetry.chromium import PROGRAM, Page, chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium (Debian package) is absent")

#: What a report must not do: run a script, in either way, or reach its reader's key.
HOSTILE = """<!doctype html><html><head><style>h1 { color: rgb(1, 2, 3) }</style>
<script>top.document.title = 'owned'</script></head>
<body><h1>Retrieval first</h1><img src="/console/icon.svg" alt="" onload="top.document.title = 'owned'">
<p>12 of 40 failures are missing knowledge.</p></body></html>"""
MARKDOWN = """# Gate tuned

Not worse on **all** guards, see `gate.toml` and <b>not bold</b>.

| metric | stable | candidate |
| --- | --- | --- |
| facts | 40/50 | 45/50 \\| more |

- first
- [a link](javascript:alert) and [another](https://example.com/x)
"""
RUN = {
    "run": "r-1",
    "arms": [{"name": "rag_base", "judged": 40, "share": 0.123456}, {"name": "rag_tuned", "judged": 41}],
    "<img src=x onerror=\"document.title='owned'\">": None,
    "deep": {"of": {f"label_{number}": number for number in range(20)}, "and": [1, 2]},
}
IDLE = "document.body.dataset.busy === 'no'"
ROWS = "[...document.querySelectorAll('#list button')].map((row) => row.dataset.report)"
TITLE = "document.getElementById('report-title')?.textContent"
REPORT = "document.getElementById('report').innerText"


@pytest.fixture
async def page(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Page]:
    """A fresh browser."""
    async with chromium(gateway.session, tmp_path / "profile") as page:
        yield page


@pytest.fixture
async def written(gateway: Gateway) -> None:
    """Three reports, the advice last."""
    client = client_of(gateway)
    await client.put_report("labels-r-1", kind="run", content=RUN)
    await client.put_report("gate-tuned", kind="gate", content={"verdict": "pass"}, markdown=MARKDOWN)
    await client.put_report("advice-r-1", kind="advice", content={"verdict": "retrieval"}, html=HOSTILE)


async def open_page(gateway: Gateway, page: Page, query: str = "", *, width: int = 1400) -> None:
    await page.open(f"{gateway.url}/console/reports{query}#key={gateway.keys.staff}", width=width)
    await page.until(IDLE)


async def pressed(page: Page, key: str) -> None:
    await page.press(key)
    await page.until(IDLE)


@pytest.mark.usefixtures("written")
async def test_reports_are_listed_and_opened_with_keys(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    await open_page(gateway, page)
    assert await page.evaluate(ROWS) == ["advice-r-1", "gate-tuned", "labels-r-1"]
    row = await page.evaluate("document.querySelector('#list button').innerText")
    assert "advice" in row
    assert "by eval" in row

    # HTML: in a frame of its own, styled, without a script.
    await pressed(page, "j")
    await page.until(f"{TITLE} === 'advice-r-1'")
    frame = "document.querySelector('#report iframe')"
    assert await page.evaluate(f"[{frame}.getAttribute('sandbox'), {frame}.contentDocument]") == ["", None]
    await page.screenshot(shots(tmp_path) / "reports-html.png")
    await pressed(page, "d")
    assert "retrieval" in await page.evaluate(REPORT)
    assert await page.evaluate(f"{frame} === null")

    # Markdown: what it says is text.
    await pressed(page, "j")
    await page.until(f"{TITLE} === 'gate-tuned'")
    await pressed(page, "d")
    assert await page.evaluate(
        "[...document.querySelectorAll('.prose :is(h3, strong, code, td, li)')].map((is) => is.textContent)"
    ) == [
        "Gate tuned", "all", "gate.toml", "facts", "40/50", "45/50 | more", "first", "a link and another",
    ]  # fmt: skip
    assert "<b>not bold</b>" in await page.evaluate(REPORT)
    assert await page.evaluate("[...document.querySelectorAll('.prose a')].map((a) => a.href)") == [
        "https://example.com/x"
    ]
    await page.screenshot(shots(tmp_path) / "reports-markdown.png")

    # JSON: rows as a table, what is deep behind a fold.
    await pressed(page, "j")
    await page.until(f"{TITLE} === 'labels-r-1'")
    table = "[...document.querySelectorAll('.data tbody tr')].map((row) => row.innerText)"
    assert await page.evaluate(table) == ["rag_base\t0.1235\t40", "rag_tuned\t\t41"]
    assert "label 19" not in await page.evaluate(REPORT)
    await page.evaluate("document.querySelectorAll('.data details').forEach((each) => { each.open = true; })")
    await page.until(f"{REPORT}.includes('label 19')")
    await page.screenshot(shots(tmp_path) / "reports-data.png")
    await pressed(page, "k")
    await page.until(f"{TITLE} === 'gate-tuned'")
    await page.evaluate("history.back()")
    await page.until(f"{TITLE} === 'labels-r-1'")

    assert await page.evaluate("document.title") == "Twinrail reports"
    assert page.problems == []


@pytest.mark.usefixtures("written")
async def test_an_address_names_a_report_and_a_narrow_window_shows_it(
    gateway: Gateway, page: Page, tmp_path: Path
) -> None:
    await open_page(gateway, page, "?report=gate-tuned", width=400)
    await page.until(f"{TITLE} === 'gate-tuned'")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.screenshot(shots(tmp_path) / "reports-narrow.png")
    kind = "document.getElementById('filter-kind')"
    await page.evaluate(f"{kind}.value = 'online'; {kind}.dispatchEvent(new Event('change'))")
    await page.until(
        "document.getElementById('list-note').innerText.includes('No report of the kind online')"
    )
    await page.evaluate(f"{kind}.value = 'gate'; {kind}.dispatchEvent(new Event('change'))")
    await page.until(f"{ROWS}.length === 1")
    assert page.problems == []


#: The network holds one answer back, until the page is told to `arrive` or to `fail`.
HOLD = """
const real = window.fetch.bind(window);
window.fetch = (path, ...rest) => path.endsWith('/labels-r-1')
  ? new Promise((go, no) => Object.assign(window, {
      arrive: () => go(real(path, ...rest)), fail: () => no(new Error('too late')) }))
  : real(path, ...rest);
null
"""
CLICK = "document.querySelector('#list button[data-report=\"{}\"]').click()"
LINK = "document.getElementById('link').textContent"


@pytest.mark.usefixtures("written")
async def test_what_arrives_late_is_shown_only_to_who_still_waits_for_it(
    gateway: Gateway, page: Page
) -> None:
    await open_page(gateway, page)
    await page.evaluate(HOLD)

    async def late(meanwhile: str, *, until: str = "true", ending: str = "arrive") -> str | None:
        """The report that is shown when an answer comes after something else was asked for."""
        await page.evaluate(CLICK.format("labels-r-1"))
        await page.until("window.arrive")
        await page.evaluate(meanwhile)
        await page.until(until)
        await page.evaluate(f"{ending}(); window.arrive = null")
        await page.until(IDLE)
        title: str | None = await page.evaluate(TITLE)
        return title

    other = CLICK.format("gate-tuned")
    arrived = f"{TITLE} === 'gate-tuned'"
    assert await late(other, until=arrived) == "gate-tuned"
    assert await late(other, until=arrived, ending="fail") == "gate-tuned"
    assert await page.evaluate(LINK) == "Open"
    # The list is another thing: reading it anew drops no report.
    assert await late("document.getElementById('again').click()") == "labels-r-1"
    gone = "history.pushState(null, '', location.pathname); dispatchEvent(new PopStateEvent('popstate'))"
    assert await late(gone) is None
    assert await late("document.getElementById('forget').click()") is None
    assert await page.evaluate("document.getElementById('gate-title').textContent") == "A key is needed"


async def test_a_line_of_openings_is_read_through_once(gateway: Gateway, page: Page) -> None:
    """Where each was looked for to the end of the line, a page of these took minutes."""
    lines = ["a " + "[a](" * 200_000, *("a " + each * 10_000 for each in ("[", "**", "`", "[a", "**a*"))]
    await client_of(gateway).put_report("gate-long", kind="gate", content={}, markdown="\n\n".join(lines))
    await open_page(gateway, page, "?report=gate-long")
    await page.until(f"{TITLE} === 'gate-long'")
    assert await page.evaluate("document.querySelectorAll('.prose p').length") == len(lines)


async def test_without_reports_the_page_says_how_to_get_one(
    gateway: Gateway, page: Page, tmp_path: Path
) -> None:
    await open_page(gateway, page)
    assert "No reports yet" in await page.evaluate("document.querySelector('.index').innerText")
    await page.screenshot(shots(tmp_path) / "reports-empty.png")
    await page.open(f"{gateway.url}/console/reports?report=lost#key={gateway.keys.staff}")
    await page.until("document.getElementById('link').textContent.includes('no report lost')")


async def test_a_key_that_may_not_see_them_is_told_so(gateway: Gateway, page: Page) -> None:
    made = await KeyStore(gateway.database).create(
        name="shop", tenant="acme", principals=("public",), scopes=["ask"]
    )
    await page.open(f"{gateway.url}/console/reports#key={made.secret}")
    await page.until("document.getElementById('gate-title').textContent === 'This key may not see reports'")
    assert await page.evaluate("location.hash") == ""
