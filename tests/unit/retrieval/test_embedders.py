"""Embedders from settings: one service, several, and what is wrong with a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from retrieval.embedders import open_embedders
from retrieval.errors import EmbeddingError
from retrieval.settings import EmbeddingService, RetrievalSettings

BGE = EmbeddingService(url="http://bge/v1", model="bge-m3", dims=1024)
E5 = EmbeddingService(url="http://e5/v1", model="e5", dims=384, query_prefix="query: ", api_key_env="E5_KEY")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_every_service_is_at_hand_and_the_single_one_first(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    settings = RetrievalSettings(
        embeddings_url="http://words/v1", embeddings_model="words", embeddings_dims=32, embedders=(BGE, E5)
    )
    opened = open_embedders(settings, tmp_path, session, environment={"E5_KEY": "secret"})
    assert [(key.rpartition("-")[0], each.dims) for key, each in opened.items()] == [
        ("http-words", 32),
        ("http-bge-m3", 1024),
        ("http-e5", 384),
    ]
    assert all(key == each.id for key, each in opened.items())


async def test_what_is_missing_is_named(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    cases = (
        (RetrievalSettings(embeddings_url="http://words/v1"), "RETRIEVAL_EMBEDDINGS_MODEL: not set"),
        (RetrievalSettings(embedders=(E5,)), "api_key_env of e5 names E5_KEY, which is not set"),
        (RetrievalSettings(embedders=(BGE, BGE)), "two services are http-bge-m3-"),
        (RetrievalSettings(), "no embedding model there"),
    )
    for settings, said in cases:
        with pytest.raises(EmbeddingError, match=said):
            open_embedders(settings, tmp_path, session, environment={})


@pytest.mark.parametrize(
    "given",
    [
        "nothing",
        '[{"url": "bge", "model": "m", "dims": 3}]',
        '[{"url": "http://a", "model": "m", "dims": 0}]',
        '[{"url": "http://a", "model": "m", "dims": 3, "prefix": ""}]',
    ],
)
def test_a_list_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RETRIEVAL_EMBEDDERS", given)
    with pytest.raises((ValidationError, ValueError), match=r"(?i)embedders"):
        RetrievalSettings()
