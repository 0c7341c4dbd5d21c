"""The help centre behind the gateway's tests: four articles, three model versions, five keys."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg.errors import UndefinedTable
from psycopg_pool import AsyncConnectionPool

from gateway.access import KeyStore
from gateway.database import Database
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.versions import SCHEMAS, ModelVersion, load_task_schema
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers

ARTICLES = {
    "sync-plus-price": "Sync Plus costs $9 a month or $90 a year. The free trial of Sync Plus lasts 14 days.",
    "refunds": "A full refund is possible within 30 days of a first payment or a yearly renewal. "
    "Monthly renewals are not refunded.",
    "guests": "Guests are people outside the team who open a shared folder. Guests are free on Sync Team.",
}
STAFF_ONLY = "Agents may credit up to $25 without approval of a team lead."
DIMS = 256
#: Stable, fallback and canary.
MODELS = ("support", "strong", "next")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Secrets of the test's keys."""

    customer: str
    staff: str
    evaluation: str
    release: str
    stranger: str


async def fill(database_url: str, folder: Path) -> Keys:
    """Bring everything into a migrated database; the corpus is written to the folder first."""
    async with AsyncConnectionPool(
        database_url, min_size=1, max_size=2, open=False, kwargs={"autocommit": True}
    ) as pool:
        embedder, store = WordEmbedder(dims=DIMS), KnowledgeStore(pool)
        await store.register(
            KnowledgeVersion.make(name="words", embedder=embedder.id, dims=embedder.dims, abstain_below=0.1)
        )
        corpus, parsers = write_articles(folder), shared_parsers()
        await ingest(store, embedder, corpus, tenant="acme", source_name="help", parsers=parsers)
        registry = ModelRegistry(pool)
        stable, fallback, canary = (model_version(name) for name in MODELS)
        for version in (stable, fallback, canary):
            await registry.register(version, manifest={"author": "test"})
        await registry.promote(stable.id)
        await registry.set_fallback(fallback.id)
        keys = await _keys(KeyStore(Database(pool, acquire_timeout_s=1.0)))
        async with pool.connection() as conn:
            await conn.execute("CREATE TABLE public.help_centre_keys (name text, secret text)")
            for name, secret in asdict(keys).items():
                await conn.execute("INSERT INTO public.help_centre_keys VALUES (%s, %s)", [name, secret])
        return keys


async def keys_in(database_url: str) -> Keys | None:
    """The keys of a database that was filled, or cloned from one: ours holds only their digests."""
    async with await AsyncConnection.connect(database_url, autocommit=True) as conn:
        try:
            found = await conn.execute("SELECT name, secret FROM public.help_centre_keys")
        except UndefinedTable:
            return None
        return Keys(**dict(await found.fetchall()))


def model_version(name: str) -> ModelVersion:
    """A version for the support task, with a prompt of its own."""
    return ModelVersion(
        name=name,
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=PromptTemplate(name=f"{name}_prompt", system="Answer from the passages, as JSON."),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    )


def write_articles(folder: Path) -> Path:
    """The corpus as a file."""
    rows: list[dict[str, Any]] = [
        {"id": name, "title": name.replace("-", " "), "text": text, "metadata": {"product": "sync"}}
        for name, text in ARTICLES.items()
    ]
    rows.append(
        {"id": "goodwill", "title": "goodwill", "text": STAFF_ONLY, "metadata": {"visibility": "internal"}}
    )
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


async def _keys(store: KeyStore) -> Keys:
    async def make(name: str, tenant: str, principals: list[str], scopes: list[str]) -> str:
        return (await store.create(name=name, tenant=tenant, principals=principals, scopes=scopes)).secret

    return Keys(
        customer=await make("customer", "acme", ["public"], ["ask"]),
        staff=await make("staff", "acme", ["public", "staff"], ["ask", "review"]),
        evaluation=await make("eval", "acme", ["public"], ["ask", "eval"]),
        release=await make("release", "acme", ["public"], ["ask", "release"]),
        stranger=await make("stranger", "globex", ["public"], ["ask", "review"]),
    )
