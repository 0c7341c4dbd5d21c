"""Settings of evaluation, read from EVAL_* in the entry point only."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.grounding import THRESHOLD


class EvalSettings(BaseSettings):
    """Where the gateway is and how hard to drive it."""

    model_config = SettingsConfigDict(
        env_prefix="EVAL_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    #: Base address of the running gateway.
    gateway_url: str = Field(
        "http://127.0.0.1:8080", validation_alias=AliasChoices("EVAL_GATEWAY_URL", "TWINRAIL_URL")
    )
    #: Key with scopes `ask` and `eval` that reads what a customer may read.
    api_key: SecretStr | None = None
    #: The same for questions asked by staff; without it those questions are left out, and the report says so.
    staff_api_key: SecretStr | None = None
    #: Questions that `twinrail eval run` asks when --questions is not given.
    questions: Path = Path(__file__).parents[1] / "deploy" / "demo" / "questions"
    #: JSON Schema of the task, by which drafts are judged.
    task_schema: Path = Path(__file__).parents[1] / "serving" / "schemas" / "support_answer.json"
    #: The fixed wordings that the gateway uses, where they are not the packaged ones.
    wording: Path | None = Field(None, validation_alias=AliasChoices("EVAL_WORDING", "SERVING_WORDING_FILE"))
    #: The gateway's threshold of the grounding check.
    support_threshold: float = Field(
        THRESHOLD,
        ge=0,
        le=1,
        validation_alias=AliasChoices("EVAL_SUPPORT_THRESHOLD", "SERVING_SUPPORT_THRESHOLD"),
    )
    #: The gateway's entailment model: a folder, or `packaged`.
    entailment_model: Path | None = Field(
        None, validation_alias=AliasChoices("EVAL_ENTAILMENT_MODEL", "SERVING_ENTAILMENT_MODEL")
    )
    #: OpenAI-compatible endpoint and model of a judge whose file names none, and the key of any.
    judge_url: str | None = None
    judge_model: str | None = None
    judge_key: SecretStr | None = None
    #: Folder in which each run gets a folder of its own.
    runs: Path = Path(".twinrail/runs")
    #: Questions in flight at a time.
    concurrency: int = Field(2, ge=1, le=64)
    #: Seconds for one request.
    timeout_s: float = Field(120.0, gt=0)
    #: Tries per request when the gateway is busy, restarting or unreachable.
    attempts: int = Field(6, ge=1, le=50)
    #: Below this many questions the exit code says "not enough evidence".
    min_questions: int = Field(30, ge=1)
    #: Bootstrap draws for intervals of differences.
    resamples: int = Field(4000, ge=200, le=100_000)
    #: Seed of the bootstrap and of sampling with --limit.
    seed: int = 20260301
