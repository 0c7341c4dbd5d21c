"""Every reranker that a process has at hand: a model in a folder and a service, where settings name them."""

from __future__ import annotations

import aiohttp

from retrieval.errors import RerankError
from retrieval.reranking import HttpReranker, OnnxReranker, Reranker
from retrieval.settings import RetrievalSettings


def open_rerankers(settings: RetrievalSettings, session: aiohttp.ClientSession) -> dict[str, Reranker]:
    """By id. Empty where the settings name none: versions that name one then keep the fused order, marked."""
    opened: list[Reranker] = []
    if settings.reranker_dir is not None:
        opened.append(OnnxReranker(settings.reranker_dir, threads=settings.rerank_threads))
    if settings.rerank_url:
        if not settings.rerank_model:
            raise RerankError(
                "RETRIEVAL_RERANK_MODEL: not set, and RETRIEVAL_RERANK_URL is; name the model to ask for"
            )
        key = settings.rerank_api_key
        opened.append(
            HttpReranker(
                session,
                base_url=settings.rerank_url,
                model=settings.rerank_model,
                api_key=key.get_secret_value() if key else None,
            )
        )
    return {reranker.id: reranker for reranker in opened}
