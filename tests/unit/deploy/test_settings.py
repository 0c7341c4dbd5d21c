"""Settings errors name the variable and the fix; what is written follows TWINRAIL_HOME."""

import os
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from deploy.cli import eval_settings
from deploy.errors import UsageError
from deploy.home import Home
from deploy.settings import DeploySettings, load
from eval.settings import EvalSettings
from gateway.settings import GatewaySettings
from retrieval.settings import RetrievalSettings
from serving.settings import ServingSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if (
            name.startswith(("TWINRAIL_", "GATEWAY_", "EVAL_", "SERVING_", "RETRIEVAL_"))
            or name == "DATABASE_URL"
        ):
            monkeypatch.delenv(name)


def test_home_is_absolute_wherever_it_is_given_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINRAIL_HOME", "data")
    assert load(DeploySettings).home == tmp_path / "data"


def test_default_home_is_in_the_users_folder() -> None:
    assert load(DeploySettings).home == Path.home() / ".twinrail"


@pytest.mark.parametrize(
    ("variable", "value", "settings", "says"),
    [
        ("TWINRAIL_URL", "localhost:8080", DeploySettings, "http://127.0.0.1:8080"),
        ("TWINRAIL_POSTGRES_PORT", "http", DeploySettings, "valid integer"),
        ("GATEWAY_PORT", "70000", GatewaySettings, "less than or equal to 65535"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    settings: type[DeploySettings | GatewaySettings],
    says: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"^{variable}: .*{says}.*; correct the environment variable"):
        load(settings)


def test_database_url_is_secret_and_accepted_under_its_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden@h/d")
    settings = load(DeploySettings)
    assert settings.database_url.get_secret_value() == "postgresql://u:hidden@h/d"
    assert "hidden" not in repr(settings)


def test_whatever_is_written_follows_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path))
    assert load(GatewaySettings).spool_dir == Home(load(DeploySettings).home).spool == tmp_path / "spool"
    assert eval_settings().runs == tmp_path / "runs"
    monkeypatch.setenv("GATEWAY_SPOOL_DIR", "/elsewhere/spool")
    monkeypatch.setenv("EVAL_RUNS", "/elsewhere/runs")
    assert load(GatewaySettings).spool_dir == Path("/elsewhere/spool")
    assert eval_settings().runs == Path("/elsewhere/runs")


@pytest.mark.parametrize(
    "settings", [DeploySettings, GatewaySettings, RetrievalSettings, ServingSettings, EvalSettings]
)
def test_a_variable_that_is_set_to_nothing_is_not_set(
    monkeypatch: pytest.MonkeyPatch, settings: type[BaseSettings]
) -> None:
    unset = load(settings)
    prefix = settings.model_config.get("env_prefix", "")
    for name in ("TWINRAIL_HOME", "DATABASE_URL", *(f"{prefix}{field}" for field in settings.model_fields)):
        monkeypatch.setenv(name.upper(), "")
    assert load(settings) == unset
    assert not load(settings).model_fields_set


def test_without_a_home_the_spool_is_in_the_users_folder() -> None:
    assert load(GatewaySettings).spool_dir.expanduser() == Path.home() / ".twinrail" / "spool"
