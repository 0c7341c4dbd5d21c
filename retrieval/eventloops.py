"""One open resource for each event loop that asks, and an event loop for callers that have none."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Generic, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")
R = TypeVar("R")


class PerLoop(Generic[T]):
    """What `opened` opens, once for each event loop: pools and sessions belong to the loop they began on.

    Async code awaits `here()`. Sync code gives `call` the same async work, and it runs on one private event
    loop in a thread of its own, with a resource of its own; that works below a running event loop too, which
    stands still meanwhile. Leave with `async with`, which closes what this loop and the private one hold, or
    with `with`, which closes the private one's. An event loop that ends closes its own.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._opened = opened
        self._held: dict[asyncio.AbstractEventLoop, _Held[T]] = {}
        self._lock = threading.Lock()
        self._thread = ExitStack()
        self._portal: BlockingPortal | None = None

    async def here(self) -> T:
        """The resource of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for ended in [each for each in self._held if each.is_closed()]:
                del self._held[ended]
            held = self._held.get(loop)
            if held is None or held.has_failed:
                held = self._held[loop] = _Held(self._opened)
        return await held.resource()

    def call(self, work: Callable[[], Awaitable[R]]) -> R:
        """Do async work on the private event loop, and wait for it."""
        with self._lock:
            if self._portal is None:
                self._portal = self._thread.enter_context(start_blocking_portal(name="twinrail"))
                # While the thread can still answer: at the interpreter's own end it no longer does.
                atexit.register(self.close)
            portal = self._portal
        return portal.call(work)

    def close(self) -> None:
        """Close what sync calls opened, and end their thread. A later call begins anew."""
        with self._lock:
            portal, self._portal = self._portal, None
            thread = self._thread.pop_all()
        if portal is not None:
            atexit.unregister(self.close)
            with thread:
                portal.call(self._close_here)

    async def aclose(self) -> None:
        """Close what this event loop holds, and what sync calls opened."""
        await self._close_here()
        await asyncio.to_thread(self.close)

    async def _close_here(self) -> None:
        with self._lock:
            held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


class _Held(Generic[T]):
    """What one event loop holds. A task of that loop opens it, keeps it and closes it, also when the loop
    ends: what is left then is cancelled, and leaves by the same way."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._ready: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._hold(opened))

    @property
    def has_failed(self) -> bool:
        """Whether it did not open, so that the next one who asks tries anew."""
        return self._ready.done() and (self._ready.cancelled() or self._ready.exception() is not None)

    async def resource(self) -> T:
        """Whoever gives up waiting leaves the opening to the others."""
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        self._stop.set()
        await self._task

    async def _hold(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        try:
            async with opened() as resource:
                self._ready.set_result(resource)
                await self._stop.wait()
        except asyncio.CancelledError:
            self._ready.cancel()
            raise
        except Exception as exc:
            if self._ready.done():
                raise
            self._ready.set_exception(exc)
