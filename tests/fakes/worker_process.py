"""A worker in a process of its own, for tests that kill it: `python -m tests.fakes.worker_process URL LOG S`.

Its embedder needs no model. It pauses before each batch, and writes a line for each text that it embedded.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from psycopg_pool import AsyncConnectionPool

from retrieval.embedding import Vector
from retrieval.store import KnowledgeStore
from retrieval.worker import Worker, queue_pool
from tests.fakes.embedding import WordEmbedder

#: Short, so that a test need not wait long until a killed worker counts as dead.
HEARTBEAT_S, STALLED_S = 0.5, 4.0


class LoggingEmbedder(WordEmbedder):
    """Says what it was asked for where it can be read after a kill."""

    def __init__(self, log: Path, pause_s: float) -> None:
        super().__init__()
        self._log = log
        self._pause_s = pause_s

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        await asyncio.sleep(self._pause_s)
        vectors = await super().embed_documents(texts)
        with self._log.open("a", encoding="utf-8") as log:
            log.write("".join(f"{' '.join(text.split())}\n" for text in texts))
        return vectors


async def main(database_url: str, log: Path, pause_s: float) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        AsyncConnectionPool(database_url, min_size=1, max_size=4) as pool,
        queue_pool(database_url) as queue,
    ):
        worker = Worker(
            KnowledgeStore(pool, acquire_timeout_s=30.0),
            queue,
            [LoggingEmbedder(log, pause_s)],
            heartbeat_s=HEARTBEAT_S,
            stalled_s=STALLED_S,
        )
        await worker.run(stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
