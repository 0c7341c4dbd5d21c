"""A knowledge rail of its own for one bench: an empty database, migrated, and gone afterwards."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from psycopg_pool import AsyncConnectionPool

from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision
from retrieval.connections import Pool
from retrieval.embedding import Vector
from retrieval.lexing import lex

#: For a bench of what is seen and not of time.
_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@asynccontextmanager
async def fresh_rail(*, durable: bool = True, connections: int = 4) -> AsyncIterator[Pool]:
    """A pool on an empty rail, as the plain role. `durable`: writes wait for the disk, as anywhere else."""
    folder = Path(tempfile.mkdtemp(prefix="twinrail-bench-"))
    server = EmbeddedPostgres(folder, settings={} if durable else _HASTY)
    try:
        server.start()
        url = provision(server.admin_url, database="bench", password=secrets.token_hex(16))
        await migrate(url)
        async with AsyncConnectionPool(url, min_size=1, max_size=connections, open=False) as pool:
            yield pool
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class WordVectors:
    """An embedder that costs nothing: a text is the sum of its words' fixed directions."""

    id = "bench-words-64"
    dims = 64

    def __init__(self) -> None:
        #: Texts that it was asked for.
        self.made = 0

    async def embed_query(self, text: str) -> Vector:
        """The vector of one text."""
        return self._vector(text)

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of several."""
        self.made += len(texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vector:
        total = np.full(self.dims, 1e-3, dtype=np.float32)
        for word in lex(text):
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            total += np.random.default_rng(seed).standard_normal(self.dims).astype(np.float32)
        unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return unit
