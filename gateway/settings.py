"""Settings of the gateway process. Built once, in the entry point, and passed down as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Read from the environment with the prefix `GATEWAY_`; `DATABASE_URL` is accepted as an alias."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("GATEWAY_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL URL of a role that is neither superuser nor BYPASSRLS.",
    )
    records_pool_size: int = Field(
        default=4, ge=1, le=64, description="Connections for keys, turns and rails."
    )
    knowledge_pool_size: int = Field(default=8, ge=1, le=256, description="Connections for retrieval.")
    home: Path = Field(
        default=Path("~/.twinrail"),
        validation_alias="TWINRAIL_HOME",
        description="Folder that everything is written under where no other one is set.",
    )
    spool_dir: Path = Field(
        default_factory=lambda data: data["home"] / "spool",
        description="Folder that holds turns while PostgreSQL is away; `spool` in TWINRAIL_HOME if unset.",
    )

    deadline_s: float = Field(
        default=30.0, gt=0, le=600, description="Time for a whole answer, from arrival."
    )
    retrieval_timeout_s: float = Field(
        default=5.0, gt=0, description="Time for retrieval within the deadline."
    )
    first_token_timeout_s: float = Field(
        default=12.0, gt=0, description="Time for the first token of an answer."
    )
    circuit_open_s: float = Field(
        default=15.0,
        ge=0,
        le=120,
        description="Time for which a model version that keeps failing is not asked; 0: it is always asked.",
    )
    hits: int = Field(default=8, ge=1, le=8, description="Hits asked of retrieval for an answer.")
    history_messages: int = Field(
        default=6, ge=0, le=40, description="Earlier messages that a prompt may hold."
    )
    shadow_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the stable arm's searches that the shadow version repeats; 0: none.",
    )
    clarify: Literal["off", "on"] = Field(
        default="off",
        description="`on`: nearly enough confidence and several close articles: ask which one is meant.",
    )
    handover: Literal["off", "on"] = Field(
        default="on",
        description="`on`: a question that comes close to an example of the rules is passed to a person.",
    )
    handover_file: Path | None = Field(
        default=None, description="Examples of questions that a person has to see (YAML); packaged if unset."
    )

    review_sample_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the answers that wait for review by chance alone."
    )
    review_second_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of the reviews that a second reader reads unseen."
    )

    body_limit_bytes: int = Field(default=256 * 1024, ge=1024, description="Largest request body.")
    documents_limit_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest request body that writes documents."
    )
    max_running: int = Field(default=64, ge=1, description="Answers in progress at the same time.")
    max_queued: int = Field(default=128, ge=0, description="Requests that may wait for a place.")
    queue_timeout_s: float = Field(default=5.0, gt=0, description="Longest wait for a place.")
    requests_per_minute: int = Field(
        default=600, ge=1, description="Sustained requests a minute of one API key."
    )
    burst: int = Field(default=120, ge=1, description="Requests that a key may send at once.")

    pointer_max_age_s: float = Field(
        default=1.0, ge=0, le=1.0, description="Age at which pointers are re-read."
    )
    key_max_age_s: float = Field(default=5.0, ge=0, le=5.0, description="Age at which API keys are re-read.")
    key_grace_s: float = Field(
        default=300.0, ge=0, description="How long a known key is good while PostgreSQL cannot be asked."
    )
    keepalive_s: float = Field(
        default=10.0, gt=0, description="Silence after which a stream sends a comment."
    )
    shutdown_grace_s: float = Field(
        default=20.0, gt=0, description="Time that running streams get at shutdown."
    )

    turn_queue_size: int = Field(
        default=2000, ge=1, description="Turns kept in memory before they are spooled."
    )
    turn_flush_s: float = Field(
        default=0.1, gt=0, le=1.0, description="Longest wait before turns are written."
    )
    capture_content: bool = Field(
        default=False, description="Put questions and answers on spans. Off: only ids and numbers."
    )
    embedder_dir: Path = Field(
        default=Path("models/minilm"),
        validation_alias=AliasChoices("GATEWAY_EMBEDDER_DIR", "RETRIEVAL_EMBEDDER_DIR"),
        description="Folder of the packaged embedder (`prepare_minilm`).",
    )
    tokenizer: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("GATEWAY_TOKENIZER", "SERVING_TOKENIZER"),
        description="`tokenizer.json` of the base model, for prompt budgets; estimated without it.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Level of the logs on stderr."
    )
