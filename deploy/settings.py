"""Settings of the command line and of the one-machine stack. Built once in `deploy.cli` and passed down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.errors import UsageError

Settings = TypeVar("Settings", bound=BaseSettings)


class DeploySettings(BaseSettings):
    """Environment variables `TWINRAIL_*`; `DATABASE_URL` is taken as it is."""

    model_config = SettingsConfigDict(
        env_prefix="TWINRAIL_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Field(
        default=Path("~/.twinrail"), description="Folder of the database, the models, the logs and the keys."
    )
    models: Path | None = Field(
        default=None, description="Folder of the prepared models; `models` in TWINRAIL_HOME if unset."
    )
    url: str = Field(
        default="", description="Gateway that commands talk to; the one of TWINRAIL_HOME if unset."
    )
    api_key: SecretStr | None = Field(
        default=None, description="API key that commands use; the one kept in TWINRAIL_HOME if unset."
    )
    tenant: str = Field(
        default="demo", min_length=1, description="Tenant that `ingest`, `keys` and `up` work for."
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("TWINRAIL_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL with pgvector to use; an embedded one is started if unset.",
    )
    postgres_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the embedded PostgreSQL; a free one if unset."
    )
    engine_port: int | None = Field(
        default=None,
        ge=1,
        le=65534,
        description="Port of the stable engine, the next one for the fallback; free ones if unset.",
    )
    stop_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that a process gets to end before it is killed."
    )

    @field_validator("home", "models")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Child processes run elsewhere, so a relative folder would mean another place there."""
        return value.expanduser().absolute() if value is not None else None

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        try:
            conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            # Its words may hold the password.
            raise ValueError(
                "no PostgreSQL address; write e.g. postgresql://user:password@host:5432/name"
            ) from None
        return value

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is not an http(s) address; write e.g. http://127.0.0.1:8080")
        return value.rstrip("/")


def load(settings: type[Settings]) -> Settings:
    """Read one package's settings; a wrong one becomes an error that names the variable."""
    try:
        return settings()
    except ValidationError as exc:
        first = exc.errors()[0]
        name = _variable(settings, str(first["loc"][0])) if first["loc"] else settings.__name__
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name}: {message}; correct the environment variable or unset it") from exc


def _variable(settings: type[BaseSettings], place: str) -> str:
    """The environment variable behind a field name or alias."""
    if place in settings.model_fields:
        return f"{settings.model_config.get('env_prefix', '')}{place}".upper()
    for field in settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices) and place in field.validation_alias.choices:
            names = [str(name) for name in field.validation_alias.choices]
            return next((name for name in names if os.environ.get(name)), place)
    return place.upper()
