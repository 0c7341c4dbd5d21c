"""Body of a purge."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class PurgeView(BaseModel):
    """What a purge took away; zeros where it had been done before."""

    document_id: str
    tombstone: str = Field(description="Digest of the id: all that is left of the document.")
    erased_at: datetime | None
    texts: int = Field(description="Versions of the document.")
    chunks: int = Field(description="Chunks, over all index versions.")
    vectors: int = Field(description="Vectors that no other document needs.")
    turns: int = Field(description="Recorded turns that held the document.")
