"""Fakes on a port of their own, for callers that run an event loop themselves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aiohttp import web

from tests.fakes.gateway_server import FakeGateway


class ServedApp:
    """An application on a port of its own, in a thread of its own: `main` runs an event loop itself."""

    def __init__(self, app: web.Application) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._wait(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        self._wait(site.start())
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def _wait(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        self._wait(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


class Served(ServedApp):
    """The fake gateway, served."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway
        super().__init__(gateway.app())
