"""uvicorn with our way of stopping: first not ready, then no new connections, then the running streams
end."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from gateway.app import ASGIApp
from gateway.errors import SettingsError
from gateway.readiness import Readiness
from gateway.settings import GatewaySettings

#: Time in which load balancers see that we are not ready, before connections are refused.
_SETTLE_S = 0.5


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises SettingsError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(2048)
    except (OSError, OverflowError) as exc:
        found.close()
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"port {port} on {host} is in use",
                field="GATEWAY_PORT",
                fix="stop what listens there, or set another port",
            ) from exc
        raise SettingsError(
            f"cannot listen on {host} port {port}: {exc}",
            field="GATEWAY_HOST",
            fix="set an address of this machine",
        ) from exc
    return found


class GatewayServer(uvicorn.Server):
    """Ends on SIGTERM or SIGINT with nothing lost; a second signal ends at once."""

    def __init__(self, config: uvicorn.Config, readiness: Readiness) -> None:
        super().__init__(config)
        self._readiness = readiness
        self._stopping: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Our handlers in place of uvicorn's, which stop listening at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stopping is not None:
            self.force_exit = True
            return
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        self._readiness.draining = True
        await asyncio.sleep(_SETTLE_S)
        self.should_exit = True


async def serve(
    app: ASGIApp, settings: GatewaySettings, readiness: Readiness, listening: socket.socket
) -> None:
    """Serve until a signal comes."""
    # What is here now stays: looking for garbage among it would stop all requests, for tens of milliseconds.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s) or 1,
        backlog=2048,
    )
    await GatewayServer(config, readiness).serve(sockets=[listening])
