"""The rerankers that settings name."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from retrieval.errors import RerankError
from retrieval.rerankers import open_rerankers
from retrieval.reranking import HttpReranker, OnnxReranker
from retrieval.settings import RetrievalSettings

SHIPPED = Path(__file__).parents[3] / "deploy/demo/reranker"


async def test_folder_and_service_are_both_at_hand_by_their_ids() -> None:
    settings = RetrievalSettings(
        reranker_dir=SHIPPED, rerank_threads=2, rerank_url="http://rerank:8000", rerank_model="bge"
    )
    async with aiohttp.ClientSession() as session:
        folder, service = open_rerankers(settings, session).values()
    assert isinstance(folder, OnnxReranker)
    assert isinstance(service, HttpReranker)
    assert folder.id.startswith("rerank-minilm4-")
    assert service.id.startswith("http-bge-")
    # Its own number of threads, not the embedder's.
    assert folder._session.get_session_options().intra_op_num_threads == 2


async def test_nothing_is_named_by_default_and_a_service_needs_its_model() -> None:
    async with aiohttp.ClientSession() as session:
        assert open_rerankers(RetrievalSettings(), session) == {}
        with pytest.raises(RerankError, match="RETRIEVAL_RERANK_MODEL: not set"):
            open_rerankers(RetrievalSettings(rerank_url="http://rerank:8000"), session)
