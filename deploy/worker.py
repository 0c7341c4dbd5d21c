"""`twinrail worker`: a process that does jobs of the queue, until a signal comes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from deploy.database import pool
from deploy.knowledge import embedders
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from retrieval.worker import Worker, queue_pool


async def run_worker(database_url: str, *, settings: RetrievalSettings, embedder_folder: Path) -> None:
    """Work until SIGTERM or Ctrl-C; a job in mid-run goes back into the queue."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Watching a job and doing it take a connection each.
    size = 2 + 2 * settings.worker_jobs
    async with (
        embedders(settings, embedder_folder) as at_hand,
        pool(database_url, size=size) as connections,
        queue_pool(database_url) as queue,
    ):
        store = KnowledgeStore(connections, acquire_timeout_s=settings.acquire_timeout_s)
        await store.check()
        worker = Worker(
            store,
            queue,
            list(at_hand.values()),
            limits=settings.read_limits,
            resources=settings.index_resources,
            concurrency=settings.worker_jobs,
        )
        await worker.run(stop)
