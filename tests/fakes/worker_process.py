"""Workers in processes of their own, for tests that kill them: `-m tests.fakes.worker_process URL LOG S D`.

Their embedder needs no model. It pauses before each batch, and writes a line for each text that it embedded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from psycopg_pool import AsyncConnectionPool

from retrieval.embedding import Vector
from retrieval.store import KnowledgeStore
from retrieval.worker import Worker, queue_pool
from tests.fakes.embedding import WordEmbedder

#: Short, so that a test need not wait long until a killed worker counts as dead.
HEARTBEAT_S, STALLED_S = 0.5, 4.0
ROOT = Path(__file__).resolve().parents[2]


class Workers:
    """Worker processes that share a log of what they have embedded."""

    def __init__(self, database_url: str, log: Path, *, dims: int = 32) -> None:
        self._url = database_url
        self._log = log
        self._dims = dims

    @asynccontextmanager
    async def one(self, *, pause_s: float = 0.0) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker, ended at the latest with the test."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.worker_process"),
            *(self._url, str(self._log), str(pause_s), str(self._dims)),
            cwd=ROOT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def embedded(self) -> list[str]:
        """Every text so far, again if it was embedded again."""
        return self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []


async def kill(process: asyncio.subprocess.Process) -> None:
    """As a machine that is gone: nothing is said to anybody."""
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()


class LoggingEmbedder(WordEmbedder):
    """Says what it was asked for where it can be read after a kill."""

    def __init__(self, log: Path, pause_s: float, dims: int) -> None:
        super().__init__(dims=dims)
        self._log = log
        self._pause_s = pause_s

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        await asyncio.sleep(self._pause_s)
        vectors = await super().embed_documents(texts)
        with self._log.open("a", encoding="utf-8") as log:
            log.write("".join(f"{' '.join(text.split())}\n" for text in texts))
        return vectors


async def main(database_url: str, log: Path, pause_s: float, dims: int) -> None:
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
            [LoggingEmbedder(log, pause_s, dims)],
            heartbeat_s=HEARTBEAT_S,
            stalled_s=STALLED_S,
        )
        await worker.run(stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
