"""Spans and metrics of a search, as a backend would receive them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from retrieval import instruments as names
from retrieval.documents import Access
from retrieval.errors import FilterError
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.fakes.telemetry import Recorded, recorded
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
SECRET = "unmistakable"


@pytest.fixture
def telemetry() -> Iterator[Recorded]:
    recorder = recorded()
    recorder.clear()
    yield recorder
    recorder.clear()


def of_arm(telemetry: Recorded, metric: str, arm: str) -> list[tuple[Any, Any]]:
    """Series of this test: metrics are cumulative over the session, arms are not."""
    return [point for point in telemetry.points(metric) if point[0].get(names.KNOWLEDGE_ARM) == arm]


async def test_a_search_is_three_spans_and_its_metrics(
    telemetry: Recorded, store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": f"red {SECRET}", "b": "blue"})
    version = (await store.pointer()).stable
    request = SearchRequest(question=SECRET, access=PUBLIC, version=version, k=1)
    await retriever.search(request, arm="arm-of-three-spans")
    embed, query, search = telemetry.spans()
    assert [span.name for span in (embed, query, search)] == [
        "embeddings fake-words-32",
        "SELECT retrieval.search",
        "retrieval knowledge",
    ]
    assert {span.kind for span in (embed, query, search)} == {SpanKind.CLIENT}
    for child in (embed, query):
        assert child.parent is not None
        assert search.context is not None
        assert child.parent.span_id == search.context.span_id
    attributes = dict(search.attributes or {})
    assert attributes[names.OPERATION] == "retrieval"
    assert attributes[names.KNOWLEDGE_VERSION] == version
    assert attributes[names.KNOWLEDGE_SNAPSHOT] == 1
    assert (attributes[names.TOP_K], attributes[names.RETURNED], attributes[names.CANDIDATES]) == (1, 1, 2)
    assert attributes[names.EMPTY] is False
    assert dict(query.attributes or {})["db.system.name"] == "postgresql"
    for span in (embed, query, search):
        assert SECRET not in str(dict(span.attributes or {}))

    stages = {
        point[0][names.STAGE]
        for point in of_arm(telemetry, "twinrail.retrieval.stage.duration", "arm-of-three-spans")
    }
    assert stages == {"embed", "search"}
    operations = {
        point[0][names.OPERATION]
        for point in of_arm(telemetry, "gen_ai.client.operation.duration", "arm-of-three-spans")
    }
    assert operations == {"retrieval", "embeddings"}
    for metric in (
        "twinrail.retrieval.documents",
        "twinrail.retrieval.top_score",
        "db.client.operation.duration",
    ):
        ((_, point),) = of_arm(telemetry, metric, "arm-of-three-spans")
        assert point.count == 1
    ((_, durations),) = of_arm(telemetry, "db.client.operation.duration", "arm-of-three-spans")
    assert 0.01 in durations.explicit_bounds


async def test_nothing_found_is_counted(
    telemetry: Recorded, store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red"})
    nobody = Access(tenant="acme", principals=())
    request = SearchRequest(question="red", access=nobody, version=(await store.pointer()).stable)
    await retriever.search(request, arm="arm-of-nothing")
    ((_, point),) = of_arm(telemetry, "twinrail.retrieval.empty", "arm-of-nothing")
    assert point.value == 1
    assert of_arm(telemetry, "twinrail.retrieval.top_score", "arm-of-nothing") == []


async def test_a_failure_is_on_the_spans_by_type_only(
    telemetry: Recorded, store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red"})
    request = SearchRequest(
        question="red", access=PUBLIC, version=(await store.pointer()).stable, filters={SECRET: "x"}
    )
    with pytest.raises(FilterError):
        await retriever.search(request, arm="arm-of-failure")
    _, query, search = telemetry.spans()
    for span in (query, search):
        assert span.status.status_code is StatusCode.ERROR
        assert dict(span.attributes or {})[names.ERROR_TYPE] == "FilterError"
        assert SECRET not in str(span.events) + str(span.status.description) + str(
            dict(span.attributes or {})
        )
    ((labels, _),) = [
        point
        for point in of_arm(telemetry, "gen_ai.client.operation.duration", "arm-of-failure")
        if point[0][names.OPERATION] == "retrieval"
    ]
    assert labels[names.ERROR_TYPE] == "FilterError"
