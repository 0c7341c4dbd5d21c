"""Settings of the knowledge rail. Built in entry points, passed inward as plain values."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.partitions import DEFAULT_RESOURCES, IndexResources


class EmbeddingService(BaseModel):
    """One OpenAI-style /embeddings service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern="^https?://")
    model: str = Field(min_length=1)
    dims: int = Field(ge=1, le=4000)
    #: Goes before a question, for models that are trained so.
    query_prefix: str = ""
    #: Name of the environment variable that holds the bearer token.
    api_key_env: str = ""


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
    #: Further services, as a JSON list: one for each embedder that an index version in use names.
    embedders: tuple[EmbeddingService, ...] = ()
    #: Memory in MB that the database may take to make a vector index.
    index_memory_mb: int = Field(default=DEFAULT_RESOURCES.memory_mb, ge=1)
    #: Further processes of the database that help to make an index.
    index_workers: int = Field(default=DEFAULT_RESOURCES.workers, ge=0, le=64)
    #: Folder of a reranking model (`retrieval.rerank_training` writes one); empty means none on this machine.
    reranker_dir: Path | None = None
    #: Base URL of a service with vLLM's /score; empty means none.
    rerank_url: str = ""
    #: Model to ask that service for.
    rerank_model: str = ""
    #: Bearer token for that service.
    rerank_api_key: SecretStr | None = None
    #: Seconds that reranking may take of a search; over it the fused order stands, marked.
    rerank_timeout_s: float = Field(default=0.8, gt=0)
    #: CPU threads of the reranking model in `reranker_dir`.
    rerank_threads: int = Field(default=1, ge=1)
    #: Seconds that rewriting a follow-up may take of a search, at most half of what is left; over it the
    #: question is searched as it was asked, marked.
    rewrite_timeout_s: float = Field(default=1.5, gt=0)
    #: Share of searches whose recall is measured against an exact scan, after the answer; 0 switches it off.
    probe_share: float = Field(default=0.01, ge=0, le=1)
    #: Jobs that a worker does at the same time, each for another tenant.
    worker_jobs: int = Field(default=1, ge=1, le=32)
    #: CPU threads of the packaged embedder.
    embed_threads: int = Field(default=1, ge=1)
    #: Largest document in bytes that an ingest reads.
    max_document_bytes: int = Field(default=DEFAULT_LIMITS.max_document_bytes, ge=1)
    #: Largest document in bytes after decompression, and the longest text of one.
    max_unpacked_bytes: int = Field(default=DEFAULT_LIMITS.max_unpacked_bytes, ge=1)
    #: Most pages of a PDF.
    max_pages: int = Field(default=DEFAULT_LIMITS.max_pages, ge=1)
    #: Seconds in which a document must be read.
    parse_timeout_s: float = Field(default=DEFAULT_LIMITS.timeout_s, gt=0)
    #: Seconds of CPU time that reading a document may take.
    parse_cpu_s: float = Field(default=DEFAULT_LIMITS.cpu_s, gt=0)
    #: Memory in MB of the process that reads documents; a process that only starts takes some hundred.
    parse_memory_mb: int = Field(default=DEFAULT_LIMITS.memory_mb, ge=512)

    @property
    def index_resources(self) -> IndexResources:
        """What making an index may take of the database."""
        return IndexResources(memory_mb=self.index_memory_mb, workers=self.index_workers)

    @property
    def read_limits(self) -> ReadLimits:
        """What reading one document may cost."""
        return ReadLimits(
            max_document_bytes=self.max_document_bytes,
            max_unpacked_bytes=self.max_unpacked_bytes,
            max_pages=self.max_pages,
            timeout_s=self.parse_timeout_s,
            cpu_s=self.parse_cpu_s,
            memory_mb=self.parse_memory_mb,
        )
