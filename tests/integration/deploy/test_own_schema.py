"""A task schema of the operator's own: registered by the command, answered by the gateway. And the corpora
that the same commands must take."""

from __future__ import annotations

import asyncio
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.knowledge import embedders
from deploy.output import Output
from deploy.release import use_given
from gateway.settings import GatewaySettings
from retrieval.documents import Access
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from serving.pool import EngineHealth
from serving.registry import ModelRegistry
from serving.versions import SCHEMAS, load_task_schema
from tests.fakes.digest_embedding import DigestEmbedder
from tests.fakes.embeddings_server import FakeEmbeddings
from tests.fakes.vllm_server import FakeVllm
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, started

ROUTED = {"queue": "billing", "priority": "P3", "product": "sync", "reason": "Asks for a yearly refund."}
TINY = {
    "title": "summary",
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}
SUMMARY = {"summary": "Wants to know about refunds: \u201c30 days\u201d?"}
CORPORA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> None:
    for name in ("SERVING_ENGINES", "TWINRAIL_MODELS", "TWINRAIL_URL", "TWINRAIL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, str]:
    """A schema and a prompt that a user might write."""
    schema, prompt = tmp_path / "summary.json", tmp_path / "summary.yaml"
    schema.write_text(json.dumps(TINY), encoding="utf-8")
    prompt.write_text("name: summary\nsystem: Summarise the ticket as JSON.\n", encoding="utf-8")
    return str(schema), str(prompt)


def gateway_settings(folder: Path) -> GatewaySettings:
    return GatewaySettings(port=0, spool_dir=folder / "spool", deadline_s=10.0, pointer_max_age_s=0.1)


async def register(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command as a program would be run: with an event loop of its own."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["model", "register", "--json", *arguments], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    return code, json.loads(out.stdout.getvalue() or "{}"), out.stderr.getvalue()


async def registered(*arguments: str) -> str:
    code, told, log = await register(*arguments)
    assert code == 0, log
    return str(told["id"])


async def streamed(gateway: Gateway, body: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    """The events of a streamed answer."""
    events = []
    async with gateway.session.post(
        gateway.url + "/v1/answers", json={**body, "stream": True}, headers=gateway.headers(key)
    ) as response:
        assert response.status == 200, await response.text()
        for block in (await response.text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                events.append((fields["event"], json.loads(fields["data"])))
    return events


async def test_registering_twice_changes_nothing(database_url: str) -> None:
    routing = ("--name", "routing", "--schema", "ticket_routing", "--prompt", "ticket_routing")
    code, first, log = await register(*routing)
    assert code == 0
    assert first["new"]
    assert f"`twinrail model stage {first['id']}`" in log
    assert f"`twinrail model promote {first['id']}`" in log
    code, second, log = await register(*routing)
    assert (code, second) == (0, {**first, "new": False})
    assert (first["state"], first["turns"]) == ("releasable", {"checked": 0, "unfit": 0})
    assert f"registered before: {first['id']}" in log
    async with pool(database_url, size=1) as connections:
        [stored] = await ModelRegistry(connections).versions()
    assert (stored.id, stored.served_name, stored.releasable) == (first["id"], first["id"], True)
    assert (stored.manifest["source"], stored.manifest["served_as"]) == ("wheel", "base")


async def test_stored_answers_that_a_new_schema_would_not_let_pass_are_counted(
    database_url: str, tmp_path: Path, tiny: tuple[str, str]
) -> None:
    summary = ("--name", "summary", "--prompt", tiny[1], "--schema")
    first = await registered(*summary, tiny[0])
    shorter = {**TINY, "properties": {"summary": {"type": "string", "maxLength": 5}}}
    wider = {**TINY, "properties": {"summary": {"type": "string", "maxLength": 500}}}
    files = {}
    for name, schema in (("shorter", shorter), ("wider", wider)):
        files[name] = str(tmp_path / f"{name}.json")
        Path(files[name]).write_text(json.dumps(schema), encoding="utf-8")
    async with started(database_url, tmp_path, gateway_settings(tmp_path)) as gateway:
        gateway.vllm.program(first, answer=json.dumps(SUMMARY))
        body = {"question": REFUND_QUESTION, "pin": {"model": first}}
        status, answered, _ = await gateway.post("/v1/answers", body, key=gateway.keys.evaluation)
        assert (status, answered["status"]) == (200, "answered")

        async def is_stored() -> bool:
            status, _ = await gateway.get(f"/v1/turns/{answered['id']}", key=gateway.keys.evaluation)
            return status == 200

        await gateway.until(is_stored)
    code, told, log = await register(*summary, files["shorter"])
    assert (code, told["new"], told["turns"]) == (0, True, {"checked": 1, "unfit": 1})
    assert (
        "warning: --schema: 1 of the last 1 stored answers of summary do not fit it (schema: $.summary:"
        in log
    )
    code, told, log = await register(*summary, files["wider"])
    assert (code, told["turns"]) == (0, {"checked": 1, "unfit": 0})
    assert "warning" not in log


async def test_routing_answers_with_its_fields_pinned_and_promoted(database_url: str, tmp_path: Path) -> None:
    routing = await registered(
        "--name", "routing", "--schema", "ticket_routing", "--prompt", "ticket_routing"
    )
    async with started(database_url, tmp_path, gateway_settings(tmp_path)) as gateway:
        gateway.vllm.program(routing, answer=json.dumps(ROUTED))
        question = {"question": REFUND_QUESTION}
        key = gateway.keys.evaluation
        status, pinned, _ = await gateway.post(
            "/v1/answers", {**question, "pin": {"model": routing}}, key=key
        )
        assert status == 200, pinned
        assert pinned["arms"]["model"] == "pinned"
        await ModelRegistry(gateway.records).promote(routing)
        promoted: dict[str, Any] = {}

        async def is_live() -> bool:
            nonlocal promoted
            _, promoted, _ = await gateway.post("/v1/answers", question)
            return bool(promoted["versions"]["model"] == routing)

        await gateway.until(is_live)
        assert promoted["arms"]["model"] == "stable"
        schema = load_task_schema(SCHEMAS / "ticket_routing.json")
        for body in (pinned, promoted):
            assert body["status"] == "answered"
            assert body["fields"] == ROUTED
            assert body["versions"]["prompt"] == "ticket_routing"
            assert body["degraded"] == []
            jsonschema.validate(json.loads(body["answer"]), schema)
        request = gateway.vllm.requests[0]
        assert request["response_format"]["json_schema"]["schema"] == schema
        assert (await gateway.turn(promoted["id"], key=gateway.keys.staff))["answer"] == promoted


async def test_a_schema_without_an_answer_is_answered_as_json(
    database_url: str, tmp_path: Path, tiny: tuple[str, str]
) -> None:
    own = await registered("--name", "summary", "--schema", tiny[0], "--prompt", tiny[1])
    async with started(database_url, tmp_path, gateway_settings(tmp_path)) as gateway:
        written = json.dumps(SUMMARY)
        gateway.vllm.program(own, answer=written)
        body = {"question": REFUND_QUESTION, "pin": {"model": own}}
        key = gateway.keys.evaluation
        status, whole, _ = await gateway.post("/v1/answers", body, key=key)
        assert (status, whole["status"], whole["answer"]) == (200, "answered", written)
        assert whole["fields"] == SUMMARY

        events = await streamed(gateway, body, key)
        assert [name for name, _ in events] == ["answer.delta", "answer.completed"]
        assert events[0][1] == {"text": written}
        completed = events[1][1]
        assert (completed["answer"], completed["fields"]) == (written, SUMMARY)
        jsonschema.validate(json.loads(completed["answer"]), TINY)


async def test_a_draft_that_breaks_the_own_schema_is_not_shown(
    database_url: str, tmp_path: Path, tiny: tuple[str, str]
) -> None:
    own = await registered("--name", "summary", "--schema", tiny[0], "--prompt", tiny[1])
    async with started(database_url, tmp_path, gateway_settings(tmp_path)) as gateway:
        drafts = iter(['{"total": 3}', json.dumps(SUMMARY)])
        gateway.vllm.program(own, answer=lambda _body: next(drafts))
        _, body, _ = await gateway.post(
            "/v1/answers",
            {"question": REFUND_QUESTION, "pin": {"model": own}},
            key=gateway.keys.evaluation,
        )
        assert (body["status"], body["fields"]) == ("answered", SUMMARY)
        turn = await gateway.turn(body["id"], key=gateway.keys.staff)
        assert [draft["failure"] for draft in turn["used"]["drafts"]] == ["schema", None]


async def test_versions_share_the_name_that_given_engines_list(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, str]
) -> None:
    own = ("--name", "summary", "--schema", tiny[0], "--prompt", tiny[1])
    async with FakeVllm(models={}).serving() as url, pool(database_url, size=2) as connections:
        monkeypatch.setenv("SERVING_ENGINES", url)
        assert (await register(*own))[0] == 3  # it lists nothing
    vllm = FakeVllm(models={})
    vllm.program("acme/Support-7B")
    async with vllm.serving() as url, pool(database_url, size=2) as connections:
        monkeypatch.setenv("SERVING_ENGINES", url)
        registry = ModelRegistry(connections)
        summary = await registered(*own)  # the only name that is listed
        code, told, log = await register(
            *("--name", "routing", "--schema", "ticket_routing", "--prompt", "ticket_routing"),
            *("--served-name", "acme/Support-7B"),
        )
        assert code == 0
        assert told["weights"] == told["served_name"] == "acme/Support-7B"
        assert "it is served already, as acme/Support-7B" in log

        # `up` still makes the version that answers customers, and that one goes live, not one of these.
        health = EngineHealth(url=url, ready=True, served=("acme/Support-7B",))
        released = await use_given(registry, [health])
        assert released.pointer.stable.startswith("m-support-7b-")
        assert {summary, told["id"]} < {version.id for version in await registry.versions()}
        assert await use_given(registry, [health]) == released

        code, _, log = await register(*own, "--served-name", "other")
        assert code == 2
        assert "--served-name: 'other' is not listed by the engines" in log
        vllm.program("other")
        assert "say which of several names of the engines" in (await register(*own))[2]


# Every so many documents: a few hundred show what this is about. The bench of retrieval quality takes all.
@pytest.mark.parametrize(
    ("corpus", "step", "documents"), [("bank_support", 2, 349), ("mtrag_support", 6, 391)]
)
async def test_the_same_command_takes_other_help_centres(
    corpus: str, step: int, documents: int, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = CORPORA / corpus / "corpus.jsonl"
    if not whole.exists():
        pytest.skip(f"shared/data/{corpus}/corpus.jsonl does not lie beside this checkout")
    # Not splitlines: a text may hold U+2028 as it is.
    lines = whole.read_text(encoding="utf-8").strip().split("\n")[::step]
    source = tmp_path / "corpus.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    service = FakeEmbeddings(embedder=DigestEmbedder())
    async with service.serving() as url, pool(database_url) as connections:
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_URL", url)
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_MODEL", "digests")
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_DIMS", str(service.embedder.dims))
        first = await ingested(source)
        assert (first["documents"], first["added"], first["failures"]) == (documents, documents, [])
        assert first["snapshot"] == 1
        assert 0 < first["embedded"] <= first["chunks"]  # equal texts are embedded once

        embedded = len(service.embedder.texts)
        second = await ingested(source)
        changes = ("added", "changed", "removed", "access_changed", "embedded")
        assert {name: second[name] for name in changes} == dict.fromkeys(changes, 0)
        assert (second["documents"], second["snapshot"]) == (documents, 1)
        assert len(service.embedder.texts) == embedded

        rows = [json.loads(line) for line in lines]
        internal = [row for row in rows if row["metadata"].get("visibility") == "internal"]
        public = [row for row in rows if row["metadata"].get("visibility") != "internal"]
        assert bool(internal) == (corpus == "bank_support")
        async with embedders(RetrievalSettings(), tmp_path) as at_hand:
            store = KnowledgeStore(connections)
            find = partial(_found, Retriever(store=store, embedders=at_hand), store)
            for row in (*internal[::100], *public[::200]):
                mine, theirs = await find(row["text"], "staff", "public"), await find(row["text"], "public")
                assert row["id"] in mine
                assert (row["id"] in theirs) == (row in public)
                assert not theirs & {hidden["id"] for hidden in internal}


async def ingested(source: Path) -> dict[str, Any]:
    """Run `twinrail ingest`, as a program would be run."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["ingest", str(source), "--json", "--tenant", "acme"], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    assert code == 0, out.stderr.getvalue()
    report: dict[str, Any] = json.loads(out.stdout.getvalue())
    return report


async def _found(retriever: Retriever, store: KnowledgeStore, text: str, *principals: str) -> set[str]:
    """Ids of the documents that a key with these principals finds for a page's own words."""
    result = await retriever.search(
        SearchRequest(
            question=text[:400],
            access=Access(tenant="acme", principals=principals),
            version=(await store.pointer()).stable,
            k=20,
            timeout_s=20.0,
        )
    )
    return {hit.document_id for hit in result.hits}
