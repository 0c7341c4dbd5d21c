"""Every embedder that a process has at hand: the packaged model and any number of services.

While one index version replaces another, both need theirs: publishes write both, and an undo must find the
old one. So gateway, worker and commands read the same settings and open all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from retrieval.embedding import Embedder, HttpEmbedder, OnnxEmbedder
from retrieval.errors import EmbeddingError
from retrieval.settings import EmbeddingService, RetrievalSettings


def open_embedders(
    settings: RetrievalSettings,
    folder: Path,
    session: aiohttp.ClientSession,
    *,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Embedder]:
    """By id. A new rail begins with the first one: a service if any is named, else the packaged model.

    With services, the packaged model is opened only where it has been prepared.
    """
    services = list(settings.embedders)
    if settings.embeddings_url:
        if not settings.embeddings_model:
            raise EmbeddingError(
                "RETRIEVAL_EMBEDDINGS_MODEL: not set, and RETRIEVAL_EMBEDDINGS_URL is; "
                "name the model to ask for"
            )
        services.insert(
            0,
            EmbeddingService(
                url=settings.embeddings_url, model=settings.embeddings_model, dims=settings.embeddings_dims
            ),
        )
    key = settings.embeddings_api_key
    opened: dict[str, Embedder] = {}
    for number, service in enumerate(services):
        is_single = number == 0 and bool(settings.embeddings_url)
        secret = key.get_secret_value() if is_single and key else _key(service, environment)
        embedder = HttpEmbedder(
            session,
            base_url=service.url,
            model=service.model,
            dims=service.dims,
            api_key=secret,
            query_prefix=service.query_prefix,
        )
        if embedder.id in opened:
            raise EmbeddingError(
                f"RETRIEVAL_EMBEDDERS: two services are {embedder.id} (same model, dims and query_prefix); "
                "leave one out"
            )
        opened[embedder.id] = embedder
    if not opened or (folder / "manifest.json").exists():
        packaged = OnnxEmbedder(folder, threads=settings.embed_threads)
        opened[packaged.id] = packaged
    return opened


def _key(service: EmbeddingService, environment: Mapping[str, str]) -> str | None:
    if not service.api_key_env:
        return None
    secret = environment.get(service.api_key_env)
    if not secret:
        raise EmbeddingError(
            f"RETRIEVAL_EMBEDDERS: api_key_env of {service.model} names {service.api_key_env}, "
            "which is not set"
        )
    return secret
