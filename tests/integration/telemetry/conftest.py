"""One gateway process per module of these tests, sending its telemetry to a real OTLP receiver."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from psycopg import sql

from retrieval.minilm import prepare_minilm
from tests.conftest import TestServer
from tests.fakes.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.integration.telemetry.running_gateway import RunningGateway, running_gateway
from tests.prepared import MODELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A gateway and what it tells about itself."""

    gateway: RunningGateway
    receiver: OtlpReceiver


@pytest.fixture(scope="module")
def module_database_url(postgres: TestServer, template_database: str) -> Iterator[str]:
    """A migrated database for all tests of a module."""
    name = f"telemetry_{secrets.token_hex(6)}"
    names = {
        "new": sql.Identifier(name),
        "old": sql.Identifier(template_database),
        "role": sql.Identifier(postgres.role),
    }
    postgres.execute(sql.SQL("CREATE DATABASE {new} OWNER {role} TEMPLATE {old}").format(**names))
    yield postgres.database_url(name)
    postgres.execute(sql.SQL("DROP DATABASE {new} WITH (FORCE)").format(**names))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def observed(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Observed]:
    """The gateway of the module."""
    prepare_minilm(MODELS / "minilm")
    async with otlp_receiver() as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            # Often, so that a test need not wait; spans a batch later than their end.
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "GATEWAY_REQUESTS_PER_MINUTE": "60000",
            "GATEWAY_SHADOW_SHARE": "1",
            # For the hand-over rules, which need a model of this machine; searches use the service.
            "GATEWAY_EMBEDDER_DIR": str(MODELS / "minilm"),
        }
        folder = tmp_path_factory.mktemp("gateway")
        async with running_gateway(module_database_url, folder, environ=environ) as gateway:
            yield Observed(gateway=gateway, receiver=receiver)
