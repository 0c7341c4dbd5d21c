"""Settings of the knowledge rail. Built in entry points, passed inward as plain values."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class RetrievalSettings(BaseSettings):
    """Environment variables `RETRIEVAL_*`. The database is named by the process that opens its pool."""

    model_config = SettingsConfigDict(
        env_prefix="RETRIEVAL_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    #: Seconds to wait for a free connection before the store counts as unavailable.
    acquire_timeout_s: float = Field(default=2.0, gt=0)
    #: Base URL of an OpenAI-style /embeddings service; empty means the packaged MiniLM.
    embeddings_url: str = ""
    #: Model to ask that service for.
    embeddings_model: str = ""
    #: Dimensions of its vectors.
    embeddings_dims: int = Field(default=384, ge=1, le=4000)
    #: Bearer token for that service.
    embeddings_api_key: SecretStr | None = None
    #: CPU threads of the packaged embedder.
    embed_threads: int = Field(default=1, ge=1)
    #: Largest document in bytes that an ingest reads.
    max_document_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
