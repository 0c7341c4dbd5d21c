"""The database of a running stack: the one given, or an embedded PostgreSQL that is kept running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from deploy.child import FIRST_PAUSE_S, LONGEST_PAUSE_S
from deploy.database import place
from deploy.errors import DeployError
from deploy.guard import Guard
from deploy.home import Home
from deploy.postgres import EmbeddedPostgres
from deploy.settings import DeploySettings
from deploy.sharing import SharedPostgres
from deploy.watchdog import postmaster_pid

LOOK_EVERY_S = 1.0


class LocalDatabase:
    """From `start` to `stop`."""

    def __init__(
        self, settings: DeploySettings, home: Home, guard: Guard, say: Callable[[str], None]
    ) -> None:
        self._given = settings.database_url.get_secret_value()
        self._server = (
            None
            if self._given
            else SharedPostgres(EmbeddedPostgres(home.postgres, port=settings.postgres_port), home.run)
        )
        self._guard = guard
        self._say = say
        self._keeper: asyncio.Task[None] | None = None
        #: Where it is, without its password.
        self.description = f"{place(self._given)} (DATABASE_URL)" if self._given else ""

    async def start(self) -> str:
        """The database's URL."""
        if self._server is None:
            return self._given
        url = await self._start_server(self._server)
        self.description = f"{place(url)} (embedded)"
        self._keeper = asyncio.create_task(self._keep(self._server), name="keep database")
        return url

    async def stop(self) -> None:
        """Stop the embedded server unless a command still uses it; a given one is none of our business."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._server:
            await self._server.stop()
            self._guard.forget_postgres()

    async def _start_server(self, shared: SharedPostgres) -> str:
        self._guard.watch_postgres(shared.server.data / "postmaster.pid")
        return await shared.start()

    async def _keep(self, shared: SharedPostgres) -> None:
        """Start the server again whenever it is gone; pause longer each time that fails."""
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if postmaster_pid(shared.server.data / "postmaster.pid") is not None:
                continue
            self._say(f"the database ended; starting it again; log: {shared.server.log}")
            try:
                await self._start_server(shared)
                pause_s = FIRST_PAUSE_S
            except DeployError as exc:
                self._say(f"the database does not start ({exc}); trying again in {pause_s:g} s")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
