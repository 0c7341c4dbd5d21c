"""Settings of the model rail. Built in entry points, passed inward as plain values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Form(StrEnum):
    """How a local engine serves a tuned version."""

    #: Weights of its own, the adapter folded in: fast everywhere, one engine for each.
    MERGED = "merged"
    #: The adapter on the base that all versions share: one engine for all, several times slower on CPU.
    ADAPTER = "adapter"


#: The entailment model that ships with this package; training.json there says how it was made.
PACKAGED_ENTAILMENT = Path(__file__).parent / "entailment_model"


class ServingSettings(BaseSettings):
    """Environment variables `SERVING_*`."""

    model_config = SettingsConfigDict(
        env_prefix="SERVING_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    #: OpenAI-compatible base URLs, separated by commas; empty means that `twinrail` starts its own vLLM.
    engines: str = ""
    #: Bearer token for those engines.
    engine_api_key: SecretStr | None = None
    #: Seconds for which an engine's list of models is believed.
    models_ttl_s: float = Field(default=5.0, gt=0)
    #: Folder of `adapter-<digest8>` folders that engines see under the same path: a gateway loads wanted
    #: adapters from there; unset, it loads none and only watches and probes.
    adapters_dir: Path | None = None
    #: Seconds between two looks at every engine.
    reconcile_s: float = Field(default=1.0, gt=0)
    #: Seconds for which an adapter stays loaded after the last move away from it.
    evict_after_s: float = Field(default=60.0, ge=0)
    #: vLLM processes that this machine runs at most at a time.
    max_engines: int = Field(default=4, ge=1)
    #: Seconds for a TCP connection to an engine.
    connect_timeout_s: float = Field(default=1.0, gt=0)
    #: Base URL of an OpenAI-compatible endpoint that is asked when no version of ours gave an answer; empty
    #: means that nothing leaves the house.
    endpoint_url: str = ""
    #: Name of the model there.
    endpoint_model: str = ""
    #: Bearer token for it.
    endpoint_api_key: SecretStr | None = None
    #: Longest time of a draft of its.
    endpoint_timeout_s: float = Field(default=10.0, gt=0)
    #: Tokens, in and out, that one gateway process may use there in any hour.
    endpoint_tokens_an_hour: int = Field(default=200_000, ge=0)
    #: Whether it is held to the task schema; false for one that knows no `json_schema`.
    endpoint_constrained: bool = True
    #: How a local engine serves tuned versions.
    tuned_as: Form = Form.MERGED
    #: Memory in GiB for the KV cache of a local engine.
    kv_cache_gib: int = Field(default=1, ge=1)
    #: Longest prompt + answer in tokens of a local engine.
    max_model_len: int = Field(default=2048, ge=256)
    #: Concurrent sequences of a local engine.
    max_num_seqs: int = Field(default=8, ge=1)
    #: Whether a local engine compiles its graph at start (about 90 s more on CPU).
    compile: bool = False
    #: Seconds in which a local engine must become ready.
    start_timeout_s: float = Field(default=300.0, gt=0)
    #: YAML file with the fixed wordings; the packaged one if unset.
    wording_file: Path | None = None
    #: Words of overlap (0 to 1) from which a sentence counts as supported.
    support_threshold: float = Field(default=0.4, ge=0, le=1)
    #: Folder of an entailment model that decides what words and values cannot, or `packaged`; without one
    #: they decide alone.
    entailment_model: Path | None = None

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_is_a_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is not an http(s) URL; write e.g. https://models.example/v1")
        return value

    @field_validator("endpoint_model")
    @classmethod
    def _endpoint_has_a_model(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("endpoint_url") and not value:
            raise ValueError("SERVING_ENDPOINT_URL is set: name the model to ask for there")
        return value

    @field_validator("engines")
    @classmethod
    def _engines_are_urls(cls, value: str) -> str:
        for url in (part.strip() for part in value.split(",")):
            if url and not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an http(s) URL; write e.g. http://127.0.0.1:8000/v1")
        return value

    @property
    def engine_urls(self) -> tuple[str, ...]:
        """The URLs of `engines`, one by one."""
        return tuple(part.strip() for part in self.engines.split(",") if part.strip())
