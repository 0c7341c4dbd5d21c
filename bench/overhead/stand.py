"""What the gateways stand on: a database with the demo help centre, a model version, a key, and the fast upstream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.overhead.errors import NotComparableError, ProcessFailedError
from bench.overhead.processes import Cores, Service
from deploy.database import pool
from deploy.guard import Guard
from deploy.knowledge import ingest_source
from deploy.migrate import migrate
from deploy.models import ModelFolders
from deploy.ports import free_port
from deploy.postgres import EmbeddedPostgres
from deploy.welcome import DEMO_QUESTION
from gateway.access import create_key
from gateway.database import Database
from retrieval.settings import RetrievalSettings
from serving.grounding import check_sentence
from serving.prompting import PROMPTS, Passage, load_prompt
from serving.registry import ModelRegistry
from serving.versions import SCHEMAS, ModelVersion, load_task_schema

TENANT = "bench"
#: The name under which the upstream serves the model, for everybody who asks it.
MODEL = "bench"
DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "articles"
START_TIMEOUT_S = 60.0
PREPARE_TIMEOUT_S = 600.0
#: What the prompt asks for: one to three sentences. The demo's tuned model writes about 75 tokens.
_ANSWER_SENTENCES = 3
SENTENCE = re.compile(r"[A-Z][^.!?\n|#*]{20,200}[.!?](?=\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Addresses and keys of what runs around the gateways."""

    folder: Path
    cores: Cores
    upstream: Upstream
    key: str
    #: Environment of a gateway process, without its port and spool.
    environment: Mapping[str, str]
    question: str = DEMO_QUESTION

    async def gateway(self, name: str, module: str, *, extra: Mapping[str, str] | None = None) -> Gateway:
        """Start a gateway process on the server's core and wait until it is ready."""
        port = free_port()
        folder = self.folder / name
        folder.mkdir()
        service = Service.start(
            name,
            [sys.executable, "-m", module],
            environment={
                **self.environment,
                "GATEWAY_PORT": str(port),
                "GATEWAY_SPOOL_DIR": str(folder / "spool"),
                **(extra or {}),
            },
            log=folder / "process.log",
            cores=self.cores.server,
        )
        gateway = Gateway(service=service, url=f"http://127.0.0.1:{port}")
        try:
            await service.until_answers(f"{gateway.url}/readyz", timeout_s=START_TIMEOUT_S)
        except BaseException:
            await service.stop()
            raise
        return gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that answers."""

    service: Service
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The fake engine and its controls."""

    url: str
    session: aiohttp.ClientSession

    async def answers(self, text: str, *, chunks: int) -> None:
        """Set what it writes."""
        await self._control("answer", text=text, chunks=chunks)

    async def pace(self, *, first_token_s: float = 0.0, between_s: float = 0.0) -> None:
        """Set how fast it writes."""
        await self._control("pace", first_token_s=first_token_s, between_s=between_s)

    async def watch(self, *, on: bool) -> None:
        """Begin anew to note arrivals and freed requests, or stop."""
        await self._control("watch", on=on)

    async def state(self) -> dict[str, Any]:
        """What it has seen."""
        return await self._control("state")

    async def _control(self, what: str, **body: Any) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/bench/{what}", json=body) as response:
            state: dict[str, Any] = await response.json(content_type=None)
            return state


@asynccontextmanager
async def standing(home: Path, cores: Cores, say: Callable[[str], None]) -> AsyncIterator[Stand]:
    """Start PostgreSQL and the upstream on the cores around the server's, and fill the database; all of it goes afterwards."""
    knowledge = RetrievalSettings()
    folders = ModelFolders(home / "models")
    if not knowledge.embeddings_url:
        await asyncio.to_thread(_prepare_models, folders, say)
    folder = Path(tempfile.mkdtemp(prefix="twinrail-bench-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    os.sched_setaffinity(0, cores.rest)  # ours, and with it that of the processes that we start
    server = EmbeddedPostgres(folder / "postgres")
    with Guard() as guard:  # ends PostgreSQL, which outlives its starter, if we are killed
        try:
            say("starting PostgreSQL")
            guard.watch_postgres(server.data / "postmaster.pid")
            url = await asyncio.to_thread(server.start)
            await migrate(url)
            say(f"ingesting {DEMO.name} of the demo")
            await ingest_source(
                url, DEMO, settings=knowledge, embedder_folder=folders.embedder, tenant=TENANT, say=say
            )
            key = await _fill(url)
            port = free_port()
            service = Service.start(
                "upstream",
                [sys.executable, "-m", "bench.upstream", "--port", str(port), "--model", MODEL],
                environment=os.environ,
                log=folder / "upstream.log",
                cores=cores.rest,
            )
            try:
                await service.until_answers(f"http://127.0.0.1:{port}/health", timeout_s=START_TIMEOUT_S)
                async with aiohttp.ClientSession() as session:
                    upstream = Upstream(url=f"http://127.0.0.1:{port}", session=session)
                    environment = _gateway_environment(url, upstream.url, folders, knowledge)
                    yield Stand(
                        folder=folder, cores=cores, upstream=upstream, key=key, environment=environment
                    )
            finally:
                await service.stop()
        finally:
            await asyncio.to_thread(server.stop)
            shutil.rmtree(folder, ignore_errors=True)


async def supported_answer(gateway: Gateway, key: str, question: str) -> str:
    """An answer in our task schema of three sentences that the prompt shows, so that it passes."""
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(gateway.url, headers=headers) as session:
        # Whatever becomes of this question, its turn says which passages were shown to the model.
        async with session.post("/v1/answers", json={"question": question}) as response:
            asked = await response.json(content_type=None)
        async with session.get(f"/v1/turns/{asked.get('id')}") as response:
            turn = await response.json(content_type=None)
    shown = turn.get("used", {}).get("passages") or []
    if not shown:
        raise NotComparableError(f"answers: {question!r} was answered without passages: {asked}")
    return answer_from([Passage(**row_of(row)) for row in shown])


def row_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recorded passage that the prompt had."""
    return {name: row[name] for name in ("n", "title", "text", "start", "end")}


def answer_from(passages: Sequence[Passage]) -> str:
    """The JSON of the task schema around whole sentences of the passages, each of which passes the gateway's check."""
    sentences: list[str] = []
    for sentence in (found for passage in passages for found in SENTENCE.findall(passage.text)):
        if len(sentences) < _ANSWER_SENTENCES and check_sentence(sentence, passages).supported:
            sentences.append(sentence)
    if not sentences:
        raise NotComparableError("answer: the passages of the demo hold no plain sentence")
    return json.dumps(
        {
            "answer": " ".join(sentences),
            "citations": [passage.n for passage in passages[:4]],
            "intent": "billing",
            "escalate": False,
            "escalation_reason": "none",
            "follow_up": "",
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


async def _fill(url: str) -> str:
    """A model version as stable, and an API key; returns the key's secret."""
    version = ModelVersion(
        name=MODEL,
        base_digest="0" * 64,
        adapter_digest=None,
        prompt=load_prompt(PROMPTS / "support_short.yaml"),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    )
    async with pool(url) as connections:
        registry = ModelRegistry(connections)
        await registry.register(version, manifest={"source": "bench"}, served_name=MODEL)
        await registry.promote(version.id)
        made = await create_key(
            Database(connections),
            name="bench",
            tenant=TENANT,
            principals=["public"],
            scopes=["ask", "review"],
        )
    return made.secret


def _gateway_environment(
    url: str, upstream: str, folders: ModelFolders, knowledge: RetrievalSettings
) -> dict[str, str]:
    """As `twinrail up` gives it, with limits that no benchmark reaches and spans going to the upstream's sink."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "GATEWAY_", "SERVING_"))
    }
    packaged = {} if knowledge.embeddings_url else {"SERVING_TOKENIZER": str(folders.tokenizer)}
    return {
        **inherited,
        **packaged,
        "DATABASE_URL": url,
        "SERVING_ENGINES": f"{upstream}/v1",
        "RETRIEVAL_EMBEDDER_DIR": str(folders.embedder),
        "GATEWAY_REQUESTS_PER_MINUTE": "100000000",
        "GATEWAY_BURST": "100000000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": upstream,
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


def _prepare_models(folders: ModelFolders, say: Callable[[str], None]) -> None:
    """The packaged embedder and tokenizer, as `twinrail up` prepares them; once."""
    if folders.embedder.exists() and folders.tokenizer.exists():
        return
    say(f"preparing the packaged models in {folders.root} (once)")
    command: Sequence[str] = (
        sys.executable,
        "-m",
        "deploy.prepare",
        str(folders.root),
        str(folders.root / "no-adapter"),
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PREPARE_TIMEOUT_S)
    except subprocess.TimeoutExpired as exc:
        raise ProcessFailedError(f"models: not prepared after {PREPARE_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        raise ProcessFailedError(f"models: {(done.stdout + done.stderr).strip()[-500:]}")
