"""An embedder for large corpora: a text's vector is its digest, which costs nothing and means nothing.

Only the lexical leg then finds anything; use it where an ingest is tested and not what is near to what.
"""

from __future__ import annotations

import hashlib

import numpy as np

from retrieval.embedding import Vector
from tests.fakes.embedding import WordEmbedder


class DigestEmbedder(WordEmbedder):
    """Equal texts have equal vectors, and that is all. Counts what it was asked for, as its parent does."""

    def _vector(self, text: str) -> Vector:
        digest = hashlib.blake2b(text.encode(), digest_size=self.dims).digest()
        total = np.frombuffer(digest, dtype=np.int8).astype(np.float32) + np.float32(0.5)
        unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return unit
