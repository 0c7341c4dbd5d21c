"""A gateway as a real process (`python -m gateway`) on real PostgreSQL, with a fake vLLM and fake embeddings.

What it is asked decides what happens, so that a test can bring about every outcome with a plain question:
`refund` is answered, `chapter` cites a passage that was not there, `invent` is not in the documents, `person`
is escalated, `slow` streams slowly.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from psycopg_pool import AsyncConnectionPool

from deploy.ports import free_port
from gateway.access import create_key
from gateway.database import Database
from retrieval.building import build
from retrieval.confidence import Calibration
from retrieval.embedding import HttpEmbedder
from retrieval.freshness import expect_syncs
from retrieval.ingest import ingest
from retrieval.jobs import JobKind, JobStore
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from serving.prompting import load_prompt
from serving.registry import ModelRegistry
from serving.versions import ModelVersion, load_task_schema
from serving.wording import load_wording
from tests.fakes.embeddings_server import FakeEmbeddings
from tests.fakes.parsers import shared_parsers
from tests.fakes.vllm_server import Behaviour, FakeVllm

ROOT = Path(__file__).resolve().parents[3]
TENANT = "acme"
#: Short, so that a circuit that was opened on purpose is closed again soon.
CIRCUIT_OPEN_S = 0.2
EMBEDDINGS_MODEL = "words"
ARTICLES = {
    "refunds": "# Refunds\n\nA full refund is possible within 30 days of a yearly renewal.",
    "plans": "# Plans\n\nSync Plus costs $9 a month. Storage on Sync Plus is 200 GB.",
    "people": "# Talking to a person\n\nSupport answers between 9:00 and 17:00 on working days.",
}
REFUND = "Is a refund possible after a yearly renewal?"
MISCITED = "Which chapter says whether a refund is possible after a yearly renewal?"
INVENTED = "Please invent a refund for a yearly renewal."
#: What a hand-over rule passes on, whatever the model writes.
BY_RULE = "I want to speak to a human being. My refund is late."
PERSON = "A person must look at my refund of the yearly renewal."
SLOW = "Is a slow refund possible after a yearly renewal?"
OFF_TOPIC = "zebra quantum bagpipes"
#: Words of questions and answers that must never be in telemetry.
SECRETS = ("renewal", "30 days", "bagpipes", "invent a refund")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """Addresses and keys of what runs."""

    url: str
    log: Path
    #: Scope ask, review, eval.
    customer_key: str
    reviewer_key: str
    eval_key: str
    stable: str
    fallback: str
    knowledge: str
    vllm: FakeVllm
    embeddings: FakeEmbeddings
    session: aiohttp.ClientSession

    async def ask(self, question: str, *, key: str | None = None, **body: Any) -> dict[str, Any]:
        """POST /v1/answers, whole."""
        async with self.session.post(
            f"{self.url}/v1/answers",
            json={"question": question, **body},
            headers={"authorization": f"Bearer {key or self.customer_key}"},
        ) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            return {"http_status": response.status, **answer}

    async def stream(self, question: str, *, leave_after: int | None = None) -> list[str]:
        """POST /v1/answers as a stream; the event names. `leave_after` events the client hangs up."""
        events: list[str] = []
        async with self.session.post(
            f"{self.url}/v1/answers",
            json={"question": question, "stream": True},
            headers={"authorization": f"Bearer {self.customer_key}"},
        ) as response:
            async for line in response.content:
                if line.startswith(b"event:"):
                    events.append(line.decode().removeprefix("event:").strip())
                    if leave_after is not None and len(events) >= leave_after:
                        response.close()
                        break
        return events

    async def get(self, path: str, *, key: str | None = None) -> Any:
        """GET as JSON."""
        headers = {"authorization": f"Bearer {key or self.reviewer_key}"}
        async with self.session.get(f"{self.url}{path}", headers=headers) as response:
            return await response.json(content_type=None)

    async def review(self, turn_id: str, **reading: Any) -> None:
        """Ask for a turn's review, and read it."""
        headers = {"authorization": f"Bearer {self.reviewer_key}"}
        for path, body in (
            ("/v1/reviews", {"turn_id": turn_id, "reason": "canary_disagreement"}),
            (f"/v1/reviews/{turn_id}", reading),
        ):
            async with self.session.post(f"{self.url}{path}", json=body, headers=headers) as response:
                assert response.status == 200, await response.text()

    async def feedback(self, turn_id: str, **said: Any) -> None:
        """POST /v1/feedback."""
        headers = {"authorization": f"Bearer {self.customer_key}"}
        body = {"turn_id": turn_id, **said}
        async with self.session.post(f"{self.url}/v1/feedback", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def put(self, path: str, body: Any) -> None:
        """PUT with the key of evaluation."""
        headers = {"authorization": f"Bearer {self.eval_key}"}
        async with self.session.put(f"{self.url}{path}", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def exposition(self) -> str:
        """GET /metrics."""
        async with self.session.get(f"{self.url}/metrics") as response:
            return await response.text()


@asynccontextmanager
async def running_gateway(
    database_url: str, folder: Path, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[RunningGateway]:
    """Fill the database, start everything, and stop the process at the end."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        embeddings = FakeEmbeddings()
        embeddings_url = await stack.enter_async_context(embeddings.serving())
        pool = await stack.enter_async_context(
            AsyncConnectionPool(database_url, min_size=1, max_size=3, open=False)
        )
        embedder = HttpEmbedder(
            session, base_url=embeddings_url, model=EMBEDDINGS_MODEL, dims=embeddings.embedder.dims
        )
        knowledge = KnowledgeStore(pool)
        source = folder / "articles"
        source.mkdir(parents=True)
        for name, text in ARTICLES.items():
            (source / f"{name}.md").write_text(text, encoding="utf-8")
        # Without a calibration of its own a version never abstains; this one fits the fake's cosines.
        await knowledge.register(
            KnowledgeVersion.make(
                name="words",
                embedder=embedder.id,
                dims=embedder.dims,
                abstain_below=0.1,
                calibration=Calibration(intercept=-2.2, weights={"top_dense": 22.0}),
            )
        )
        await ingest(knowledge, embedder, source, tenant=TENANT, parsers=shared_parsers())
        # Watches: what it would have found is counted, and changes no answer.
        shadow = (await knowledge.version((await knowledge.pointer()).stable)).derived(
            name="shadow", chunker="whole-1"
        )
        await knowledge.register(shadow)
        await build(knowledge, {embedder.id: embedder}, shadow.id)
        await knowledge.set_shadow(shadow.id)
        await expect_syncs(knowledge, TENANT, source.name, 86_400)
        # No worker runs, so it waits.
        await JobStore(knowledge).submit(TENANT, JobKind.SOURCE, source="later", details={"path": "later"})
        stable, fallback = model_version("support"), model_version("base")
        registry = ModelRegistry(pool)
        for version in (fallback, stable):
            await registry.register(version, manifest={"source": "test"})
        await registry.promote(stable.id)
        await registry.set_fallback(fallback.id)
        keys = {
            scope: (
                await create_key(
                    Database(pool), name=scope, tenant=TENANT, principals=["public"], scopes=["ask", scope]
                )
            ).secret
            for scope in ("ask", "review", "eval")
        }
        vllm = FakeVllm(
            models={
                stable.id: Behaviour(answer=answer_to, cached_tokens=4),
                fallback.id: Behaviour(answer=GROUNDED),
            }
        )
        engine_url = await stack.enter_async_context(vllm.serving())
        port = free_port()
        log = folder / "gateway.log"
        variables = {
            "DATABASE_URL": database_url,
            "SERVING_ENGINES": engine_url,
            "RETRIEVAL_EMBEDDINGS_URL": embeddings_url,
            "RETRIEVAL_EMBEDDINGS_MODEL": EMBEDDINGS_MODEL,
            "RETRIEVAL_EMBEDDINGS_DIMS": str(embeddings.embedder.dims),
            "GATEWAY_PORT": str(port),
            "GATEWAY_CIRCUIT_OPEN_S": str(CIRCUIT_OPEN_S),
            "GATEWAY_SPOOL_DIR": str(folder / "spool"),
            **(environ or {}),
        }
        url = f"http://127.0.0.1:{port}"
        process = await stack.enter_async_context(gateway_process(variables, log))
        await until_ready(session, url, process, log)
        yield RunningGateway(
            url=url,
            log=log,
            customer_key=keys["ask"],
            reviewer_key=keys["review"],
            eval_key=keys["eval"],
            stable=stable.id,
            fallback=fallback.id,
            knowledge=(await knowledge.pointer()).stable,
            vllm=vllm,
            embeddings=embeddings,
            session=session,
        )


@asynccontextmanager
async def gateway_process(
    variables: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m gateway`, asked to end with SIGTERM as a supervisor would."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "GATEWAY_", "RETRIEVAL_", "SERVING_"))
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            cwd=ROOT,
            env={**inherited, **variables, "HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 40)
                except TimeoutError:
                    process.kill()
                    await process.wait()


async def until_ready(
    session: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process, log: Path
) -> None:
    """Wait until /readyz says so; the process's log is in the error otherwise."""
    last = "no answer"
    try:
        async with asyncio.timeout(90):
            while process.returncode is None:
                try:
                    async with session.get(f"{url}/readyz") as response:
                        if response.status == 200:
                            return
                        last = await response.text()
                except aiohttp.ClientError as exc:
                    last = repr(exc)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    raise AssertionError(f"the gateway is not ready: {last}\n{log.read_text(encoding='utf-8')}")


def model_version(name: str) -> ModelVersion:
    """A version with our prompt and schema."""
    serving = ROOT / "serving"
    return ModelVersion(
        name=name,
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=load_prompt(serving / "prompts" / "support_short.yaml"),
        task="support_answer",
        schema=load_task_schema(serving / "schemas" / "support_answer.json"),
    )


def written(answer: str, *, cites: tuple[int, ...] = (1,), escalate: bool = False) -> str:
    """The JSON of our task schema."""
    return json.dumps(
        {
            "answer": answer,
            "citations": list(cites),
            "intent": "billing",
            "escalate": escalate,
            "escalation_reason": "asked_for_person" if escalate else "none",
            "follow_up": "",
        }
    )


#: A person takes over: a fixed wording, as our prompts ask for it.
PASSED_ON = load_wording().passing_on
GROUNDED = written("A full refund is possible within 30 days of a yearly renewal.")


def answer_to(body: Mapping[str, Any]) -> str:
    """What the stable model writes to a request."""
    question = str(body["messages"][-1]["content"]).rsplit("\n", 1)[-1]
    whole = " ".join(str(message["content"]) for message in body["messages"])
    if "invent" in whole:
        return written("A refund costs $25 and takes 99 weeks.")
    if "chapter" in question:
        return written("A full refund is possible within 30 days of a yearly renewal.", cites=(1, 7))
    if "person must look" in whole:
        return written(PASSED_ON, cites=(), escalate=True)
    if "slow" in question:
        # Long, and no loop: a model that repeats itself would be stopped.
        return written(
            (
                "A full refund is possible within 30 days of a yearly renewal. "
                "Within 30 days of a yearly renewal, a full refund is possible. "
                "After a yearly renewal a full refund is possible within 30 days. "
            )
            * 2
        )
    return GROUNDED
