"""The reconciler on real PostgreSQL and the fake wire: what it loads, shows, refuses and repairs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from opentelemetry.metrics import CallbackOptions
from safetensors.numpy import save_file

from deploy.database import Pool, pool
from serving import instruments
from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.client import ChatClient, ChatRequest
from serving.digests import digest_folder
from serving.errors import EngineUnavailableError, ModelNotServedError
from serving.pool import EnginePool
from serving.prober import Prober
from serving.prompting import Message, PromptTemplate
from serving.reconciling import Reconciler, ReconcilerLimits
from serving.registry import ModelRegistry
from serving.replicas import Holding, HoldingState, ReplicaStore
from serving.roster import Roster
from serving.shelf import AdapterShelf
from serving.versions import ModelVersion, RegisteredVersion
from tests.fakes.adapter_folders import CONFIG
from tests.fakes.vllm_server import FakeVllm

BASE_DIGEST = "b" * 64
AT_ONCE = ReconcilerLimits(first_pause_s=0.0, longest_pause_s=0.0, evict_after_s=0.0, settle_s=0.0)


def adapter(root: Path, number: int) -> str:
    """An adapter on the shelf; returns its digest."""
    folder = root / "new"
    folder.mkdir(parents=True)
    save_file({"weight": np.full(4, number, dtype=np.float32)}, folder / ADAPTER_FILE)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(CONFIG), encoding="utf-8")
    digest = digest_folder(folder)
    folder.rename(root / f"adapter-{digest[:8]}")
    return digest


@dataclass(slots=True, kw_only=True)
class Rail:
    """Two engines on one base, two tuned versions, and the parts of a gateway that deal with them."""

    store: ReplicaStore
    registry: ModelRegistry
    reconciler: Reconciler
    roster: Roster
    pool: EnginePool
    chat: ChatClient
    engines: list[FakeVllm]
    urls: list[str]
    shelf: Path
    base: RegisteredVersion
    one: RegisteredVersion
    two: RegisteredVersion
    session: aiohttp.ClientSession
    connections: Pool

    async def rounds(self, count: int = 3) -> None:
        """One round sees what the round before has done."""
        for _ in range(count):
            await self.reconciler.settled()
        await self.roster.refresh()

    async def held(self, version: RegisteredVersion, engine: int = 0) -> Holding:
        found = (await self.store.fleet()).holding(self.urls[engine], version.id)
        assert found is not None
        return found

    async def lacks(self, version: RegisteredVersion) -> list[str]:
        return [str(lack) for lack in await self.roster.lacks(version)]

    async def write(self, version: RegisteredVersion) -> str:
        request = ChatRequest(served_name=version.served_name, messages=(Message("user", "Hello"),))
        return "".join([delta.text async for delta in self.chat.stream(request)])


async def register(registry: ModelRegistry, name: str, adapter_digest: str | None) -> RegisteredVersion:
    return await registry.register(
        ModelVersion(
            name=name,
            base_digest=BASE_DIGEST,
            adapter_digest=adapter_digest,
            prompt=PromptTemplate(name=name, system="Answer."),
            task="support_answer",
            schema={"type": "object"},
        ),
        manifest={"rank": CONFIG["r"], "alpha": CONFIG["lora_alpha"]} if adapter_digest else None,
    )


@pytest.fixture
async def rail(database_url: str, tmp_path: Path) -> AsyncIterator[Rail]:
    """The base is stable; both tuned versions are registered, and nothing has looked yet."""
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(pool(database_url, size=4))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        registry, store = ModelRegistry(connections), ReplicaStore(connections)
        base = await register(registry, "base", None)
        one = await register(registry, "one", adapter(tmp_path, 1))
        two = await register(registry, "two", adapter(tmp_path, 2))
        await registry.promote(base.id)
        engines = [FakeVllm(models={}) for _ in range(2)]
        for engine in engines:
            engine.program(base.id, answer="base")
        urls = [await stack.enter_async_context(engine.serving()) for engine in engines]
        engine_pool = EnginePool((), session, ttl_s=0.01)
        rail = Rail(
            store=store,
            registry=registry,
            reconciler=Reconciler(store, registry, session, shelf=AdapterShelf(tmp_path), limits=AT_ONCE),
            roster=Roster(store, registry, engine_pool, Prober(store, session), given=urls),
            pool=engine_pool,
            chat=ChatClient(session=session, engines=engine_pool),
            engines=engines,
            urls=urls,
            shelf=tmp_path,
            base=base,
            one=one,
            two=two,
            session=session,
            connections=connections,
        )
        await rail.roster.refresh()
        yield rail


async def test_a_staged_version_is_loaded_and_shown_on_every_engine_before_it_is_routable(rail: Rail) -> None:
    await rail.rounds()
    assert await rail.lacks(rail.base) == []
    (lack, _) = await rail.lacks(rail.one)
    assert lack == f"{sorted(rail.urls)[0]}: wanted (it does not list it yet)"
    with pytest.raises(ModelNotServedError):
        await rail.write(rail.one)

    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    assert await rail.lacks(rail.one) == []
    assert [list(engine.adapters) for engine in rail.engines] == [[rail.one.id]] * 2
    held = await rail.held(rail.one)
    assert held.evidence is not None
    assert held.evidence["effect"] > 0.5
    assert (await rail.write(rail.one)).startswith(f"Written by {rail.one.id}")


async def test_an_engine_that_ignores_the_adapter_is_caught_and_gets_nothing(rail: Rail) -> None:
    rail.engines[1].ignored.add(rail.one.id)
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds(4)
    (lack,) = await rail.lacks(rail.one)
    assert lack.startswith(f"{rail.urls[1]}: failed (the engine answers as its base")
    for _ in range(6):
        assert (await rail.write(rail.one)).startswith(f"Written by {rail.one.id}")
    assert [len(engine.requests) for engine in rail.engines] == [6, 0]


async def test_noise_is_no_effect_and_hides_none(rail: Rail) -> None:
    for engine in rail.engines:
        engine.noise = 0.05
    rail.engines[1].ignored.add(rail.one.id)
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds(3)
    assert (await rail.held(rail.one, 0)).state is HoldingState.PROBED
    assert (await rail.held(rail.one, 1)).state is HoldingState.FAILED


async def test_an_engine_that_answers_with_another_adapter_is_caught(rail: Rail) -> None:
    await rail.roster.stage(rail.two.id, by="test")
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    rail.engines[1].restart()
    rail.engines[1].confused[rail.one.id] = str(AdapterShelf(rail.shelf).folder(rail.two.version))
    await rail.rounds(3)
    held = await rail.held(rail.one, 1)
    assert held.state is HoldingState.FAILED
    assert "other weights" in held.reason
    assert f"adapter {(rail.two.version.adapter_digest or '')[:8]} are the nearest" in held.reason
    assert await rail.lacks(rail.two) == []


async def test_an_engine_that_lists_the_adapter_and_fails_is_not_shown(rail: Rail) -> None:
    rail.engines[0].failing.add(rail.one.id)
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds(3)
    (lack,) = await rail.lacks(rail.one)
    assert "500" in lack


async def test_a_restarted_engine_is_loaded_and_probed_again_while_the_other_serves(rail: Rail) -> None:
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    before = await rail.held(rail.one, 0)
    probes = rail.engines[0].probes
    rail.engines[0].restart()
    assert (await rail.write(rail.one)).startswith("Written by")
    await rail.rounds()
    after = await rail.held(rail.one, 0)
    assert after.state is HoldingState.PROBED
    assert after.life != before.life
    assert rail.engines[0].probes > probes
    assert await rail.lacks(rail.one) == []


async def test_what_somebody_loaded_after_a_restart_gets_nothing_before_its_probe(
    rail: Rail,
) -> None:
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    rail.engines[0].restart()
    rail.engines[0].adapters[rail.one.id] = str(AdapterShelf(rail.shelf).folder(rail.one.version))
    rail.engines[0].ignored.add(rail.one.id)
    await rail.rounds()
    for _ in range(4):
        assert (await rail.write(rail.one)).startswith("Written by")
    assert (await rail.held(rail.one, 0)).state is HoldingState.FAILED


async def test_a_folder_whose_bytes_changed_is_refused_and_healed_by_restoring_them(rail: Rail) -> None:
    file = AdapterShelf(rail.shelf).folder(rail.one.version) / ADAPTER_FILE
    good = file.read_bytes()
    save_file({"weight": np.zeros(4, dtype=np.float32)}, file)
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    assert not rail.engines[0].adapters
    assert "its bytes have the digest" in (await rail.held(rail.one)).reason
    file.write_bytes(good)
    await rail.rounds()
    assert await rail.lacks(rail.one) == []


async def test_a_version_whose_row_was_damaged_is_let_go_and_holds_up_no_other(rail: Rail) -> None:
    for version in (rail.one, rail.two):
        await rail.roster.stage(version.id, by="test")
    await rail.rounds()
    async with rail.connections.connection() as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = '{}' WHERE id = %s", [rail.one.id]
        )
    await rail.rounds()
    assert (await rail.store.fleet()).holding(rail.urls[0], rail.one.id) is None
    assert (await rail.held(rail.two)).state is HoldingState.PROBED
    # Whoever read it before the damage sends it nothing either.
    with pytest.raises((EngineUnavailableError, ModelNotServedError)):
        await rail.write(rail.one)
    assert await rail.write(rail.two)


async def test_a_configuration_that_the_manifest_did_not_record_is_refused(rail: Rail) -> None:
    file = AdapterShelf(rail.shelf).folder(rail.one.version) / ADAPTER_CONFIG
    file.write_text(json.dumps({**CONFIG, "lora_alpha": 64}), encoding="utf-8")
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    assert not rail.engines[0].adapters
    reason = (await rail.held(rail.one)).reason
    assert f"lora_alpha: is 64.0, and the manifest of {rail.one.id} recorded 4; restore the file" in reason
    file.write_text(json.dumps(CONFIG), encoding="utf-8")
    await rail.rounds()
    assert await rail.lacks(rail.one) == []


async def test_other_bytes_under_the_name_are_reported_and_never_replaced(rail: Rail) -> None:
    wrong = str(AdapterShelf(rail.shelf).folder(rail.two.version))
    rail.engines[0].adapters[rail.one.id] = wrong
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds(3)
    held = await rail.held(rail.one)
    assert held.state is HoldingState.FAILED
    assert "start engines that have loaded others again" in held.reason
    assert rail.engines[0].adapters[rail.one.id] == wrong


async def test_what_nobody_wants_is_taken_out_and_what_nobody_knows_is_reported(rail: Rail) -> None:
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    rail.engines[0].adapters["somebody"] = "/elsewhere"
    await rail.roster.unstage(rail.one.id)
    await rail.rounds()
    assert [list(engine.adapters) for engine in rail.engines] == [["somebody"], []]
    fleet = await rail.store.fleet()
    assert {replica.url: replica.strange for replica in fleet.replicas}[rail.urls[0]] == ("somebody",)
    assert fleet.holding(rail.urls[0], rail.one.id) is None


async def test_adapters_that_somebody_else_registered_by_their_own_name_are_left_loaded(rail: Rail) -> None:
    theirs = replace(rail.one.version, name="theirs", base_digest="d" * 64, adapter_digest=None)
    await rail.registry.register(theirs, served_name="their-adapter")  # as `twinrail up` does
    rail.engines[0].adapters["their-adapter"] = "/elsewhere"
    await rail.rounds()
    assert list(rail.engines[0].adapters) == ["their-adapter"]


async def test_merged_weights_that_are_away_at_a_second_probe_keep_what_they_showed(
    rail: Rail,
) -> None:
    engine = FakeVllm(models={})
    engine.program(rail.one.id, weights="one")
    async with engine.serving() as url:
        await rail.store.announce({**dict.fromkeys(rail.urls, False), url: False}, by="up")
        await rail.roster.stage(rail.one.id, by="test")
        await rail.store.hold(
            Holding(
                url=url,
                version=rail.one.id,
                state=HoldingState.PROBED,
                life=str(engine.started),
                evidence={"compared": False},
            )
        )
        engine.program(rail.one.id, status=503)
        await rail.rounds(3)
        held = (await rail.store.fleet()).holding(url, rail.one.id)
        assert held is not None
        assert engine.probes, "the base was seen, so it was asked again"
        assert held.state is HoldingState.PROBED


async def test_an_outside_model_that_fails_at_log_probabilities_is_asked_without_them(rail: Rail) -> None:
    def answer(body: Mapping[str, Any]) -> str:
        if body.get("logprobs"):
            raise web.HTTPInternalServerError
        return "Theirs."

    theirs = replace(rail.base.version, name="theirs", base_digest="d" * 64)
    registered = await rail.registry.register(theirs, served_name="theirs")
    rail.engines[0].program("theirs", answer=answer)
    await rail.registry.promote(registered.id)
    await rail.rounds()
    assert await rail.lacks(registered) == []
    assert await rail.write(registered) == "Theirs."


async def test_while_the_database_neither_answers_nor_refuses_engines_go_on_answering(rail: Rail) -> None:
    await rail.rounds()
    now = 0.0
    roster = Roster(rail.store, rail.registry, rail.pool, Prober(rail.store, rail.session), clock=lambda: now)
    await roster.refresh()
    for url in rail.urls:
        rail.pool.mark_down(url, "reset")
    async with rail.connections.connection() as connection:
        await connection.execute("LOCK TABLE serving.replica IN ACCESS EXCLUSIVE MODE")
        await roster.news()
        with pytest.raises(EngineUnavailableError):
            await rail.write(rail.base)
        now = 4.0
        await roster.news()
        assert await rail.write(rail.base) == "base"
    await roster.news()


async def test_an_arm_and_what_an_undo_leads_to_stay_loaded(rail: Rail) -> None:
    for version in (rail.one, rail.two):
        await rail.roster.stage(version.id, by="test")
        await rail.rounds()
        await rail.registry.promote(version.id)
        await rail.roster.unstage(version.id)
        await rail.rounds()
    assert set(rail.engines[0].adapters) == {rail.one.id, rail.two.id}
    assert await rail.lacks(rail.one) == []
    assert (await rail.registry.undo()).stable == rail.one.id
    assert (await rail.write(rail.one)).startswith("Written by")


async def test_merged_weights_are_compared_with_the_base_once_it_is_seen(rail: Rail) -> None:
    engine = FakeVllm(models={})
    engine.program(rail.one.id, weights="base")  # it serves the base under the version's name
    async with engine.serving() as url:
        await rail.store.announce({url: False}, by="up")
        await rail.roster.stage(rail.one.id, by="test")
        await rail.rounds(3)
        fleet = await rail.store.fleet()
        held = fleet.holding(url, rail.one.id)
        assert held is not None
        assert (held.state, held.reason[:25]) == (HoldingState.FAILED, "the engine answers as its")
        assert not rail.engines[0].adapters


async def test_without_a_folder_of_adapters_it_says_what_is_missing(rail: Rail) -> None:
    rail.reconciler = Reconciler(rail.store, rail.registry, rail.session, limits=AT_ONCE)
    await rail.roster.stage(rail.one.id, by="test")
    await rail.rounds()
    assert "SERVING_ADAPTERS_DIR" in (await rail.held(rail.one)).reason


async def test_only_one_of_two_reconciles_and_the_other_takes_over(rail: Rail) -> None:
    await rail.rounds()
    other = Reconciler(
        rail.store, rail.registry, rail.session, shelf=AdapterShelf(rail.shelf), limits=AT_ONCE
    )
    looks = [replica.looks for replica in (await rail.store.fleet()).replicas]
    await other.settled()
    assert [replica.looks for replica in (await rail.store.fleet()).replicas] == looks
    async with rail.reconciler.running():
        pass  # it resigns when it ends
    await other.settled()
    assert [replica.looks for replica in (await rail.store.fleet()).replicas] > looks

    # Who leads no more shows nothing: what it knew would stand on the board for ever.
    gauges = (instruments.engines_live, instruments.replica_versions, instruments.unroutable)
    assert all(gauge(CallbackOptions()) for gauge in gauges)
    await rail.reconciler.settled()
    assert [list(gauge(CallbackOptions())) for gauge in gauges] == [[], [], []]


async def test_engines_that_broke_off_are_looked_at_twice_before_they_count_again(rail: Rail) -> None:
    await rail.rounds()
    for url in rail.urls:
        rail.pool.mark_down(url, "reset")
    await rail.reconciler.settled()
    await rail.roster.refresh()
    with pytest.raises(EngineUnavailableError):
        await rail.write(rail.base)
    await rail.rounds(1)
    assert await rail.write(rail.base) == "base"
