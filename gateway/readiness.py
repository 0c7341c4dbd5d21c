"""Whether this gateway can serve the stable versions, part by part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gateway import instruments as names
from gateway.database import Database
from gateway.errors import GatewayError
from gateway.rails import EngineRoster, KnowledgeRail, ModelRail
from gateway.rollouts.assignment import Arm, Rail
from gateway.standins import stands_in
from retrieval.errors import RetrievalError
from serving.errors import ServingError, VersionUnreadableError
from serving.versions import RegisteredVersion

logger = logging.getLogger(__name__)

#: A part that does not answer within this time is not ready: the check itself must never hang.
_TIMEOUT_S = 2.0
#: How often the rails are asked without anybody calling: the metric must not depend on who probes.
_WATCH_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the gateway stands on. Without a required one, the stable versions cannot be served."""

    required: bool
    check: Callable[[], Awaitable[str]]


class NotReadyError(GatewayError):
    """A part is not ready."""


class Readiness:
    """Asks every part, all at the same time."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        #: Set at shutdown: no new requests, please, while the running ones end.
        self.draining = False

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether it is ready, and the state of each part."""
        states = await asyncio.gather(*(self._state(part) for part in self._parts.values()))
        parts = dict(zip(self._parts, states, strict=True))
        for rail in Rail:
            if rail in parts:
                names.rail_ready.set(int(parts[rail]["ok"]), {names.RAIL: rail.value})
        if self.draining:
            parts["process"] = {"ok": False, "required": True, "detail": "shutting down"}
        ready = all(state["ok"] for state in parts.values() if state["required"])
        return ready, {"ready": ready, "parts": parts}

    @asynccontextmanager
    async def watched(self, *, every_s: float = _WATCH_S) -> AsyncIterator[None]:
        """Ask again and again within the block, for the metric."""
        task = asyncio.create_task(self._watch(every_s), name="readiness")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, every_s: float) -> None:
        while True:
            try:
                await self.report()
            except Exception:  # a defect in one round must not end the watch
                logger.exception("readiness not known", extra={"action": "readiness_failed"})
            await asyncio.sleep(every_s)

    @staticmethod
    async def _state(part: Part) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                detail, ok = await part.check(), True
        except TimeoutError:
            detail, ok = f"no answer within {_TIMEOUT_S:g} s", False
        except (GatewayError, RetrievalError, ServingError) as exc:
            detail, ok = str(exc), False
        return {"ok": ok, "required": part.required, "detail": detail}


def readiness_of(
    *,
    database: Database,
    knowledge: KnowledgeRail,
    models: ModelRail,
    engines: EngineRoster,
    embedders: Collection[str],
) -> Readiness:
    """The parts of a gateway. Records are not required: while they are away, turns go to the spool."""

    async def records() -> str:
        await database.ping()
        return "answers"

    async def knowledge_rail() -> str:
        pointer = await knowledge.pointer()
        for version in await knowledge.versions():
            if version.id in (pointer.stable, pointer.canary) and version.embedder not in embedders:
                raise NotReadyError(
                    f"{version.id} needs embedder {version.embedder}; at hand: {', '.join(embedders)}"
                )
        return f"stable {pointer.stable}"

    async def model_rail() -> str:
        pointer = await models.pointer()
        try:
            version = await models.version(pointer.stable)
        except VersionUnreadableError as exc:
            other = await stands_in(pointer, Arm.STABLE, read=known, engines=engines)
            if other is None or not await engines.ready(other.served_name):
                raise
            return f"{exc}; {other.id} stands in"
        if not await engines.ready(version.served_name):
            raise NotReadyError(f"no engine serves {version.served_name}")
        return f"stable {version.id}"

    async def known(version_id: str) -> RegisteredVersion | None:
        try:
            return await models.version(version_id)
        except VersionUnreadableError:
            return None

    async def fallback_model() -> str:
        fallback = (await models.pointer()).fallback
        if fallback is None:
            return "none is set"
        version = await models.version(fallback)
        if not await engines.ready(version.served_name):
            raise NotReadyError(f"no engine serves {version.served_name}")
        return fallback

    return Readiness(
        {
            "records": Part(required=False, check=records),
            "knowledge": Part(required=True, check=knowledge_rail),
            "model": Part(required=True, check=model_rail),
            "fallback": Part(required=False, check=fallback_model),
        }
    )
