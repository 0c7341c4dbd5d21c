"""A client of the gateway from settings: with the keys of those who ask, a connection for each question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from pydantic import SecretStr

from eval.arms import IMPROVED, Arm, improved_version
from eval.client import GatewayClient
from eval.errors import GatewayRefusedError
from eval.settings import EvalSettings


@asynccontextmanager
async def open_client(settings: EvalSettings, *, url: str, concurrency: int) -> AsyncIterator[GatewayClient]:
    """The client, for as long as the block runs."""
    # One connection per question in flight; the client's own retries make the pool's limit the only queue.
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield GatewayClient(
            session,
            url=url,
            keys=_keys(settings),
            timeout_s=settings.timeout_s,
            attempts=settings.attempts,
        )


async def pointers_for(client: GatewayClient, arms: Sequence[Arm]) -> dict[str, dict[str, str | None]]:
    """What each rail's pointer names, with what `improved` stands for where an arm asks for it."""
    pointers = await client.pointers()
    if any(arm.pin.knowledge == IMPROVED for arm in arms):
        knowledge = pointers["knowledge"]
        knowledge[IMPROVED] = improved_version(knowledge, await client.versions("knowledge"))
    return pointers


async def prompt_digests(client: GatewayClient) -> dict[str, str]:
    """The digest of the prompt of each model version."""
    found = {str(row["id"]): row["details"].get("prompt_sha256") for row in await client.versions("model")}
    return {version: str(digest) for version, digest in found.items() if digest}


def _keys(settings: EvalSettings) -> dict[str, str]:
    def text(key: SecretStr | None) -> str:
        return key.get_secret_value().strip() if key else ""

    keys = {"customer": text(settings.api_key), "staff": text(settings.staff_api_key)}
    if not keys["customer"]:
        raise GatewayRefusedError(
            "EVAL_API_KEY: not set; set it to a key with the scopes ask and eval (see `twinrail keys`)"
        )
    return {asker: key for asker, key in keys.items() if key}
