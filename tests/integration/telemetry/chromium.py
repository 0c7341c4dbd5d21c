"""A headless Chromium over the DevTools protocol: open a page, run a script in it, look at it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)


@dataclass(slots=True)
class Page:
    """One tab. `problems` are script errors, refusals of the content policy and failed loads, in words."""

    socket: aiohttp.ClientWebSocketResponse
    problems: list[str] = field(default_factory=list)
    _number: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command; what the page says meanwhile is kept."""
        self._number += 1
        mine = self._number
        await self.socket.send_json({"id": mine, "method": method, "params": parameters})
        async for message in self.socket:
            body = json.loads(message.data)
            self._note(body)
            if body.get("id") == mine:
                assert "error" not in body, f"{method}: {body['error']}"
                result: dict[str, Any] = body["result"]
                return result
        raise AssertionError(f"{method}: the page is gone")

    async def open(self, url: str, *, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        """Go to an address in a window of this size."""
        for domain in ("Runtime", "Log", "Page"):
            await self.call(f"{domain}.enable")
        await self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)
        await self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def resize(self, width: int, height: int) -> None:
        """Change the window."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, *, timeout_s: float = 30.0) -> None:
        """Wait until an expression is true."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.evaluate(f"Boolean({script})"):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.1)
        except TimeoutError as exc:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {script}\n{text}\n{self.problems}") from exc

    async def press(self, key: str, *, ctrl: bool = False) -> None:
        """One key, as a person presses it; a name (`Enter`, `Tab`) or a character."""
        code = {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, ord(key.upper()[0]))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if ctrl else 0}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text="" if ctrl else text, **event)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def type(self, text: str) -> None:
        """Write into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, body: dict[str, Any]) -> None:
        if body.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(body["params"]["exceptionDetails"]))
        elif body.get("method") == "Log.entryAdded" and body["params"]["entry"]["level"] == "error":
            entry = body["params"]["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")


@asynccontextmanager
async def chromium(session: aiohttp.ClientSession, profile: Path) -> AsyncIterator[Page]:
    """A browser with one empty tab."""
    assert PROGRAM is not None
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            port = None
            while port is None:
                line = (await process.stderr.readline()).decode(errors="replace")
                found = re.search(r"ws://127\.0\.0\.1:(\d+)/", line)
                port = found.group(1) if found else None
        drain = asyncio.create_task(process.stderr.read())
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as response:
            tab = await response.json()
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            yield Page(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    await drain
